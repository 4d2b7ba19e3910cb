"""Resizes images and masks to the network's input size and back, by stretching, letterboxing or scaling.

With ``native`` a picture is only scaled: windows of the network's input size are cut from it later.
Every resize takes pixels as areas (half-pixel centres), so going there and back does not shift an image.
"""

from collections.abc import Callable
from typing import Any, Final, Literal, NamedTuple

import tensorflow as tf

from components.dataset.features import IGNORE_LABEL
from components.imaging.reading import InputSize

_RESTORE_BLOCK_FLOATS = 2**25
"""Logits held at once while a mask is brought to its image's size: 128 MiB."""
_TURNS: Final = (0, 2, 3, 1)
"""When it is the turn of the pixel below right, below left, above right and above left of a centre."""


Answer = tuple[tf.Tensor, ...]
"""Class ids uint8 [h, w] and, if asked for, their softmax probabilities float32 [h, w]."""


class Content(NamedTuple):
    """Where the image lies within the network's input, in pixels; all scalars int32 [].

    With ``native``, where windows are cut from: the whole of the scaled picture.
    """

    top: tf.Tensor
    left: tf.Tensor
    height: tf.Tensor
    width: tf.Tensor

    @property
    def sides(self) -> tf.Tensor:
        """int32 [2], height and width."""
        return tf.stack([self.height, self.width])


def content_area(size: InputSize, height: tf.Tensor, width: tf.Tensor) -> Content:
    """Returns the area that an image of ``height`` × ``width`` pixels (int32 []) fills of the input."""
    if size.method == "stretch":
        return Content(tf.constant(0), tf.constant(0), tf.constant(size.height), tf.constant(size.width))
    full_height, full_width = tf.cast(height, tf.float64), tf.cast(width, tf.float64)
    if size.method == "native":
        sides = (tf.cast(tf.round(side * size.scale), tf.int32) for side in (full_height, full_width))
        return Content(tf.constant(0), tf.constant(0), *(tf.maximum(side, 1) for side in sides))
    scale = tf.minimum(size.height / full_height, size.width / full_width)
    inner_height = tf.clip_by_value(tf.cast(tf.round(full_height * scale), tf.int32), 1, size.height)
    inner_width = tf.clip_by_value(tf.cast(tf.round(full_width * scale), tf.int32), 1, size.width)
    return Content(
        (size.height - inner_height) // 2, (size.width - inner_width) // 2, inner_height, inner_width
    )


def resize_image(image: tf.Tensor, size: InputSize) -> tf.Tensor:
    """Brings an image to the network's input size: bilinear, low-pass filtered when it shrinks.

    Args:
        image: uint8 [height, width, channels].

    Returns:
        uint8 [size.height, size.width, channels]; letterbox padding is 0, in alpha too. With ``native``,
        [height * scale, width * scale, channels], at least 1 pixel a side; untouched where scale is 1.
    """
    if size.keeps_pixels:
        return image
    sides = tf.shape(image)[:2]
    area = content_area(size, sides[0], sides[1])
    return pad_image(resize_content(image, area.sides, tf.cast(sides, tf.float32)), area, size)


def resize_content(image: tf.Tensor, sides: tf.Tensor, covered: tf.Tensor) -> tf.Tensor:
    """Brings a picture to the size of its area in the input, unpadded.

    Args:
        image: uint8 [height, width, channels].
        sides: int32 [2], the area's height and width.
        covered: float32 [2], how much of the image's height and width the picture covers, from the top left:
            all, but where pixels at its end stand for some that the picture does not have.

    Returns:
        uint8 [*sides, channels].
    """
    # tf.image.resize(antialias=True) is this operation, of an image that is all covered.
    resized = tf.raw_ops.ScaleAndTranslate(
        images=image[tf.newaxis],
        size=sides,
        scale=tf.cast(sides, tf.float32) / covered,
        translation=tf.zeros([2]),
        kernel_type="triangle",
        antialias=True,
    )
    # Means of 0 … 255 are nothing else but for the last digits, which rounding takes off.
    return tf.cast(tf.round(resized[0]), tf.uint8)


def pad_image(content: tf.Tensor, area: Content, size: InputSize) -> tf.Tensor:
    """Lays a picture, uint8 [area.height, area.width, channels], into the input, on 0."""
    return _pad(content, area, size, value=0)


def resize_mask(class_ids: tf.Tensor, size: InputSize) -> tf.Tensor:
    """Brings class ids, uint8 [height, width], to the network's input size: nearest neighbour.

    Where several are as near, as everywhere at half the size, most of the four around decide, and of as many
    one by turns: always the one below, to the right would be half a pixel off from what an image shows there.

    Returns:
        uint8 [size.height, size.width]; letterbox padding is the ignore label. With ``native``, as large as
        what ``resize_image`` makes of the image.
    """
    if size.keeps_pixels:
        return class_ids
    area = content_area(size, tf.shape(class_ids)[0], tf.shape(class_ids)[1])
    full = tf.shape(class_ids)
    rows, columns = _around(area.height, full[0]), _around(area.width, full[1])
    nearest = tf.gather(tf.gather(class_ids, rows[0]), columns[0], axis=1)
    resized = tf.cond(
        tf.reduce_all(rows[0] == rows[1]) & tf.reduce_all(columns[0] == columns[1]),
        lambda: nearest,
        lambda: _most_common(class_ids, rows, columns),
    )
    return _pad(resized[:, :, tf.newaxis], area, size, value=IGNORE_LABEL)[:, :, 0]


def _around(inner: tf.Tensor, full: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns between which of ``full`` pixels the centres of ``inner`` ones lie, int64 [inner] each.

    A centre that lies in a pixel, as most do, has it on either side.
    """
    inner, full = tf.cast(inner, tf.int64), tf.cast(full, tf.int64)
    # In parts of a pixel, 2 * inner of them, that are whole numbers: nothing is rounded.
    centres = (2 * tf.range(inner) + 1) * full
    return centres // (2 * inner), (centres - 1) // (2 * inner)


def _most_common(
    class_ids: tf.Tensor, rows: tuple[tf.Tensor, tf.Tensor], columns: tuple[tf.Tensor, tf.Tensor]
) -> tf.Tensor:
    sides = [tf.gather(class_ids, row) for row in rows]
    corners = [tf.gather(side, column, axis=1) for side in sides for column in columns]
    # Corners that lie across from each other take turns, along rows and along columns.
    down, across = (tf.cast(tf.range(tf.size(side[0])) % 4, tf.uint8) for side in (rows, columns))
    turn = (down[:, tf.newaxis] + across) % 4
    best, most = corners[0], tf.zeros_like(corners[0])
    for corner, its_turn in zip(corners, _TURNS, strict=True):
        alike = tf.add_n([tf.cast(corner == other, tf.uint8) for other in corners])
        votes = 2 * alike + tf.cast(turn == its_turn, tf.uint8)
        best, most = tf.where(votes > most, corner, best), tf.maximum(votes, most)
    return best


def _pad(resized: tf.Tensor, area: Content, size: InputSize, value: int) -> tf.Tensor:
    if size.method == "native":
        return resized
    if size.method == "letterbox":
        below = size.height - area.height - area.top
        right = size.width - area.width - area.left
        resized = tf.pad(
            resized,
            [[area.top, below], [area.left, right], [0, 0]],
            constant_values=tf.constant(value, tf.uint8),
        )
    return tf.ensure_shape(resized, [size.height, size.width, resized.shape[-1]])


def restore_class_ids(
    logits: tf.Tensor, size: InputSize, height: tf.Tensor, width: tf.Tensor, *, confidence: bool = True
) -> Answer:
    """Brings the network's answer to its image's own size: bilinear on the logits, then the best class.

    Args:
        logits: float32 [size.height, size.width, classes].
        size: how the image was brought to the network's input.
        height, width: int32 [], the image's own size in pixels.
        confidence: whether it is asked for.

    Returns:
        class ids uint8 [height, width] and, if asked for, their softmax probabilities, float32 [height,
        width].
    """
    area = content_area(size, height, width)
    logits = logits[area.top : area.top + area.height, area.left : area.left + area.width]
    rows = source_positions(area.height, height)

    def spread(block: tf.Tensor) -> tf.Tensor:
        return tf.image.resize(block, (tf.shape(block)[0], width), method="bilinear")

    return best_classes(logits, rows, spread, width, confidence=confidence)


class Positions(NamedTuple):
    """From which two of a row of pixels each pixel of a resized row is interpolated."""

    near: tf.Tensor
    """int32 [N]"""
    far: tf.Tensor
    """int32 [N], the next one, or at the border the same."""
    share: tf.Tensor | None
    """float32 [N], how much of ``far`` it has; None is nothing of any."""


def source_positions(inner: tf.Tensor, full: tf.Tensor) -> Positions:
    """Returns where ``full`` pixels lie among ``inner`` ones, int32 [] both: by their centres, clamped."""
    position = (tf.range(full, dtype=tf.float32) + 0.5) * (
        tf.cast(inner, tf.float32) / tf.cast(full, tf.float32)
    ) - 0.5
    position = tf.clip_by_value(position, 0.0, tf.cast(inner - 1, tf.float32))
    near = tf.cast(tf.floor(position), tf.int32)
    return Positions(near, tf.minimum(near + 1, inner - 1), position - tf.floor(position))


def interpolate(values: tf.Tensor, positions: Positions, axis: Literal[0, 1]) -> tf.Tensor:
    """Interpolates values, float32 [h, w, C], along an axis."""
    near = tf.gather(values, positions.near, axis=axis)
    if positions.share is None:
        return near
    share = tf.reshape(positions.share, [-1, 1, 1] if axis == 0 else [-1, 1])
    return near + share * (tf.gather(values, positions.far, axis=axis) - near)


def best_classes(
    logits: tf.Tensor,
    rows: Positions,
    spread: Callable[[tf.Tensor], tf.Tensor],
    width: tf.Tensor,
    *,
    confidence: bool,
) -> tuple[tf.Tensor, ...]:
    """Interpolates logits, and keeps each pixel's best class.

    Works through blocks of rows, so that a photograph of many megapixels with many classes needs
    bounded memory. The class ids do not depend on the size of the blocks.

    Args:
        logits: float32 [h, w, classes].
        rows: of the result, among those of the logits.
        spread: interpolates along rows: [n, w, classes] to [n, width, classes].
        width: int32 [], the result's.
        confidence: whether it is asked for.

    Returns:
        class ids uint8 [rows, width] and, if asked for, their softmax probabilities, float32 [rows, width].
    """
    height = tf.size(rows.near)
    at_once = tf.maximum(1, _RESTORE_BLOCK_FLOATS // (tf.maximum(width, 1) * logits.shape[-1]))
    # One at least: none could not be joined.
    blocks = tf.maximum(1, (height + at_once - 1) // at_once)

    def restore_block(index: tf.Tensor, state: tuple[()]) -> tuple[tuple[()], Answer]:
        part = slice(index * at_once, (index + 1) * at_once)
        positions = Positions(*(None if each is None else each[part] for each in rows))
        block = spread(interpolate(logits, positions, axis=0))
        class_ids = tf.cast(tf.argmax(block, axis=-1, output_type=tf.int32), tf.uint8)
        if not confidence:
            return state, (class_ids,)
        probability = tf.exp(tf.reduce_max(block, axis=-1) - tf.reduce_logsumexp(block, axis=-1))
        return state, (class_ids, probability)

    return in_turn(restore_block, blocks, (), answer_kinds(confidence), axis=0)[1]


def answer_kinds(confidence: bool) -> tuple[tf.DType, ...]:
    return (tf.uint8, tf.float32) if confidence else (tf.uint8,)


def in_turn(
    body: Callable[[tf.Tensor, Any], tuple[Any, Answer]],
    count: tf.Tensor,
    state: Any,
    kinds: tuple[tf.DType, ...],
    axis: int,
) -> tuple[Any, Answer]:
    """Calls ``body`` with 0, …, ``count - 1`` (1 at least) and the state that the call before returned.

    Returns:
        The last state, and the answers, joined along an axis; they are of so many ``kinds``.
    """

    def turned(block: tf.Tensor) -> tf.Tensor:
        return tf.transpose(block) if axis == 1 else block

    def step(index: tf.Tensor, state: Any, arrays: tuple[tf.TensorArray, ...]) -> tuple[Any, ...]:
        state, answer = body(index, state)
        arrays = tuple(array.write(index, turned(block)) for array, block in zip(arrays, answer, strict=True))
        return index + 1, state, arrays

    loop = (tf.constant(0), state, tuple(array_of_blocks(kind, count) for kind in kinds))
    _, state, arrays = tf.while_loop(
        lambda index, *_: index < count,
        step,
        loop,
        shape_invariants=tf.nest.map_structure(_any_size, loop),
        # One at a time is what bounds the memory.
        parallel_iterations=1,
    )
    return state, tuple(turned(array.concat()) for array in arrays)


def array_of_blocks(kind: tf.DType, length: tf.Tensor, *channels: int) -> tf.TensorArray:
    return tf.TensorArray(kind, length, infer_shape=False, element_shape=[None, None, *channels])


def _any_size(variable: Any) -> Any:
    """The shape that a loop's variable keeps: its number of dimensions, and of the last of many."""
    if isinstance(variable, tf.TensorArray):
        return None
    rank = variable.shape.rank
    return tf.TensorShape([None] * (rank - 1) + [variable.shape[-1]] if rank else [])
