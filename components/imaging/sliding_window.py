"""Segments a picture of any size window by window, in memory that does not grow with pixels times classes.

Where windows overlap, the mean of their logits is taken, weighted by a Gaussian around each one's middle as
nnU-Net does (Isensee et al. 2021): near its border a window shows too little. Such weights are a product of
one a row and one a column, and so is their sum: windows are laid over each other along a row of them first,
and then row over row. What no later window reaches is settled: its best class is kept, its logits are
forgotten.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, Self

import tensorflow as tf

from components.imaging.reading import InputSize
from components.imaging.resize import (
    Answer,
    Positions,
    answer_kinds,
    array_of_blocks,
    best_classes,
    in_turn,
    interpolate,
    source_positions,
)

_BATCH_PIXELS = 2**18
"""Of the windows that go through the network at once; larger ones go alone."""
_WHOLE_PIXELS = 2**20
"""A picture that has at most so many, mirrored up to a multiple of the stride and to a window's sides, is one
window, where the network takes any."""
_WAITING_FLOATS = 2**26
"""Logits that wait for the next row of windows, 256 MiB. Wider pictures are worked off in strips."""
_SIGMA = 1 / 8
"""Of the Gaussian, as a share of a window's side; nnU-Net's."""


def segment_windows(
    picture: tf.Tensor,
    size: InputSize,
    height: tf.Tensor,
    width: tf.Tensor,
    network: Callable[[tf.Tensor], tf.Tensor],
    num_classes: int,
    *,
    stride: int | None,
    confidence: bool,
) -> Answer:
    """Segments one picture.

    Windows are as few as overlap by ``size.overlap`` of a side or more, spread evenly from border to border
    as nnU-Net's. A picture that is smaller than a window is mirrored at its borders.

    Args:
        picture: uint8 [H, W, channels], scaled by ``size.scale``.
        size: height and width of a window, scale and overlap.
        height, width: int32 [], the picture's own size in pixels, which is the answer's.
        network: windows uint8 [N, h, w, channels] to logits float32 [N, h, w, C].
        num_classes: C.
        stride: of a fully convolutional network, for which a small picture is one window, mirrored up to a
            multiple of the stride and to a window's sides; None where all windows are of ``size``. One window
            sees more around a pixel and nothing made up within the picture: of a network that has learnt,
            99 % of the pixels or more have the class that windows of ``size`` give them (docs/serving.md).
        confidence: whether it is asked for.

    Returns:
        Class ids uint8 [height, width] and, if asked for, their softmax probabilities float32 [height,
        width].
    """
    shape = tf.shape(picture)[:2]
    window = _window(shape, size, stride)
    # Rounded down, but for what binary fractions lack: no window may overlap by less.
    row_step, column_step = (
        max(1, int((1 - size.overlap) * side + 1e-9)) for side in (size.height, size.width)
    )
    rows = _Axis.lay(shape[0], height, window[0], row_step, size.keeps_pixels)
    all_columns = _Axis.lay(shape[1], width, window[1], column_step, size.keeps_pixels)
    at_once = tf.maximum(1, _BATCH_PIXELS // tf.reduce_prod(window))
    waiting_rows = 1 + rows.side - tf.reduce_min(rows.advances)
    in_strip = tf.maximum(1, _WAITING_FLOATS // (waiting_rows * num_classes) // column_step)
    kinds = answer_kinds(confidence)

    def strip(index: tf.Tensor, state: tuple[()]) -> tuple[Any, Answer]:
        """What windows ``first`` to ``last`` of each row settle."""
        first = index * in_strip
        last = tf.minimum(first + in_strip, all_columns.count)
        # Windows before them reach into the strip. They are seen once more, and settle nothing once more.
        begin = all_columns.reaching(first)
        columns = all_columns._replace(
            first_own=tf.maximum(all_columns.first_own, all_columns.first_own[first])
        )

        def row(i: tf.Tensor, waiting: tf.TensorArray) -> tuple[Any, Answer]:
            lines = tf.gather(picture, rows.pixels(i))

            def see(j: tf.Tensor) -> tf.Tensor:
                pixels = tf.map_fn(columns.pixels, tf.range(j, tf.minimum(j + at_once, last)))
                seen = tf.transpose(tf.gather(lines, pixels, axis=1), [1, 0, 2, 3])
                if stride is None:
                    seen = tf.ensure_shape(seen, [None, size.height, size.width, None])
                return network(seen)

            def place(k: tf.Tensor, state: Any) -> tuple[Any, Answer]:
                batch, left, waiting = state
                j = begin + k
                batch = tf.cond(tf.equal(k % at_once, 0), lambda: see(j), lambda: batch)
                settled, left = columns.overlay(j, left, batch[k % at_once], axis=1)
                above = tf.cond(tf.equal(i, 0), lambda: settled[:0], lambda: waiting.read(k))
                settled, above = rows.overlay(i, above, settled, axis=0)
                across = columns.sources(j)
                answer = best_classes(
                    settled,
                    rows.sources(i),
                    lambda block: interpolate(block, across, axis=1),
                    tf.size(across.near),
                    confidence=confidence,
                )
                return (batch, left, waiting.write(k, above)), answer

            unseen = tf.zeros([0, rows.side, columns.side, num_classes])
            state = (unseen, tf.zeros([rows.side, 0, num_classes]), waiting)
            (*_, waiting), answer = in_turn(place, last - begin, state, kinds, axis=1)
            return waiting, answer

        _, answer = in_turn(
            row, rows.count, array_of_blocks(tf.float32, last - begin, num_classes), kinds, axis=0
        )
        return state, answer

    strips = (all_columns.count + in_strip - 1) // in_strip
    return in_turn(strip, strips, (), kinds, axis=1)[1]


def _window(shape: tf.Tensor, size: InputSize, stride: int | None) -> tf.Tensor:
    """Height and width of the windows in which a picture of a height and width is seen, int32 [2] both."""
    window = tf.constant([size.height, size.width])
    if stride is None:
        return window
    whole = tf.maximum(window, -(-shape // stride) * stride)
    return tf.where(whole[0] <= _WHOLE_PIXELS // whole[1], whole, window)


class _Axis(NamedTuple):
    """How windows lie along one side of a picture, and what each of them settles.

    They lie on L places: the scaled picture's pixels or, where these are too few, those of its reflection.
    """

    side: tf.Tensor
    """int32 [], of a window."""
    edges: tf.Tensor
    """int32 [n + 1], where windows begin, and where the last one ends: each settles all up to the next."""
    weight: tf.Tensor
    """float32 [side], the Gaussian …"""
    total: tf.Tensor
    """… and its sum over all windows, float32 [L]."""
    pixel: tf.Tensor
    """int32 [L], which of the scaled picture's pixels is where."""
    source: Positions
    """From where each of the picture's own pixels has its logits."""
    first_own: tf.Tensor
    """int32 [n + 1], the first of its own pixels that each window settles, and their number."""

    @classmethod
    def lay(cls, scaled: tf.Tensor, own: tf.Tensor, side: tf.Tensor, step: int, keeps_pixels: bool) -> Self:
        length = tf.maximum(scaled, side)
        steps = -(-(length - side) // step)
        # Rounded in integers of enough bits: the last window ends with the picture.
        room, parts = tf.cast(length - side, tf.int64), tf.cast(tf.maximum(steps, 1), tf.int64)
        starts = tf.cast((2 * tf.range(steps + 1, dtype=tf.int64) * room + parts) // (2 * parts), tf.int32)
        edges = tf.concat([starts, [length]], 0)

        pixels = tf.cast(side, tf.float32)
        weight = tf.exp(-tf.square((tf.range(pixels) - (pixels - 1) / 2) / (_SIGMA * pixels)) / 2)
        covered = starts[:, tf.newaxis] + tf.range(side)
        total = tf.math.unsorted_segment_sum(tf.broadcast_to(weight, tf.shape(covered)), covered, length)

        before = (length - scaled) // 2
        period = tf.maximum(2 * (scaled - 1), 1)
        place = (tf.range(length) - before) % period
        near, far, share = source_positions(scaled, own)
        if keeps_pixels:
            far, share = near, None
        source = Positions(near + before, far + before, share)
        first_own = tf.searchsorted(source.far, edges)
        return cls(side, edges, weight, total, tf.minimum(place, period - place), source, first_own)

    @property
    def count(self) -> tf.Tensor:
        """int32 [], windows."""
        return tf.size(self.edges) - 1

    @property
    def advances(self) -> tf.Tensor:
        """int32 [n], how much each window settles."""
        return self.edges[1:] - self.edges[:-1]

    def pixels(self, index: tf.Tensor) -> tf.Tensor:
        """The scaled picture's pixels that a window shows, int32 [side]."""
        return self.pixel[self.edges[index] : self.edges[index] + self.side]

    def sources(self, index: tf.Tensor) -> Positions:
        """From where within what ``overlay`` settles the picture's own pixels have their logits."""
        own = slice(self.first_own[index], self.first_own[index + 1])
        begin = self.edges[index] - 1
        near, far, share = self.source
        return Positions(near[own] - begin, far[own] - begin, None if share is None else share[own])

    def reaching(self, index: tf.Tensor) -> tf.Tensor:
        """The first window that shows something of what ``overlay`` settles with this one, int32 []."""
        ends = self.edges[:-1] + self.side
        return tf.minimum(index, tf.searchsorted(ends, self.edges[index : index + 1] - 1, "right")[0])

    def overlay(
        self, index: tf.Tensor, before: tf.Tensor, window: tf.Tensor, axis: Literal[0, 1]
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Lays a window over the sum of those before it.

        Args:
            index: the window's.
            before: float32 [n, m, C], the sum from the pixel before this window on, along the axis; nothing
                where there are none before it.
            window: float32 [h, w, C], logits.
            axis: on which the windows lie.

        Returns:
            What is settled: all up to the next window, and the pixel before this one, as what lies between
            two pixels is interpolated. And the sum from the pixel before the next window on.
        """
        weight = self.weight / self.total[self.edges[index] : self.edges[index] + self.side]
        window *= tf.reshape(weight, [-1, 1, 1] if axis == 0 else [-1, 1])
        missing = self.side + 1 - tf.shape(before)[axis]
        total = _pad(before, axis, 0, missing) + _pad(window, axis, 1, 0)
        advance = self.edges[index + 1] - self.edges[index]
        if axis == 0:
            return total[: advance + 1], total[advance:]
        return total[:, : advance + 1], total[:, advance:]


def _pad(values: tf.Tensor, axis: int, before: tf.Tensor | int, after: tf.Tensor | int) -> tf.Tensor:
    amounts: list[list[tf.Tensor | int]] = [[0, 0], [0, 0], [0, 0]]
    amounts[axis] = [before, after]
    return tf.pad(values, amounts)
