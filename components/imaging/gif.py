"""The first frame of a GIF, found without decoding anything.

TensorFlow decodes all frames of a GIF to return the first one, at a size that the largest of them fits.
Source of the structure: Graphics Interchange Format, version 89a, CompuServe 1990.
"""

from typing import NamedTuple

import tensorflow as tf

_EXTENSION, _IMAGE, _TRAILER = 0x21, 0x2C, b";"
_MAX_JUMPS = 1000
"""Files need a handful, because blocks of one length are passed in one jump."""
_BLOCKS_A_JUMP = 4096


class Frame(NamedTuple):
    """The first frame of a GIF."""

    height: tf.Tensor
    """int64 [], pixels."""
    width: tf.Tensor
    """int64 [], pixels."""
    found: tf.Tensor
    """bool []; where it is False the size means nothing."""
    image: tf.Tensor
    """string [], a GIF of this frame alone."""


def first_frame(encoded: tf.Tensor) -> Frame:
    """Returns the first frame of a GIF, string []; a frame that breaks off early is the whole file."""
    data = tf.io.decode_raw(encoded, tf.uint8)
    size = tf.size(data)

    def byte(at: tf.Tensor) -> tf.Tensor:
        """int32 []; 0 past the end, where it ends whatever is being read."""
        return tf.cond(at < size, lambda: tf.cast(data[at], tf.int32), lambda: tf.constant(0))

    def color_table_bytes(flags_at: tf.Tensor) -> tf.Tensor:
        flags = byte(flags_at)
        return tf.where(flags >= 128, 3 * 2 ** (flags % 8 + 1), 0)

    def pass_blocks(at: tf.Tensor, jumps: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Passes blocks, each behind its length, and the empty one that ends them."""

        def jump(at: tf.Tensor, jumps: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            step = byte(at) + 1
            lengths = data[at : at + step * _BLOCKS_A_JUMP : step]
            alike = tf.math.cumprod(tf.cast(lengths == lengths[0], tf.int32))
            return at + step * tf.reduce_sum(alike), jumps + 1

        at, jumps = tf.while_loop(
            lambda at, jumps: tf.logical_and(byte(at) > 0, jumps < _MAX_JUMPS), jump, (at, jumps)
        )
        return at + 1, jumps + 1

    start, jumps = tf.while_loop(
        lambda at, jumps: tf.logical_and(tf.equal(byte(at), _EXTENSION), jumps < _MAX_JUMPS),
        lambda at, jumps: pass_blocks(at + 2, jumps),
        (13 + color_table_bytes(tf.constant(10)), tf.constant(0)),
    )
    # Separator, left, top, width, height, flags; then colours, the width of a code, and the pixels.
    is_image = tf.logical_and(tf.equal(byte(start), _IMAGE), start + 10 <= size)
    width, height = (byte(start + at) + 256 * byte(start + at + 1) for at in (5, 7))
    end, jumps = pass_blocks(start + 10 + color_table_bytes(start + 9) + 1, jumps)
    return Frame(
        height=tf.cast(height, tf.int64),
        width=tf.cast(width, tf.int64),
        found=tf.logical_and(is_image, jumps < _MAX_JUMPS),
        image=tf.where(end <= size, tf.strings.substr(encoded, 0, end) + _TRAILER, encoded),
    )
