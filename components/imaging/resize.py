"""Resizes images and masks to the network's input size and back, by stretching or by letterboxing.

With ``native`` a picture is only scaled: windows of the network's input size are cut from it later.
Every resize takes pixels as areas (half-pixel centres), so going there and back does not shift an image.
"""

from typing import NamedTuple

import tensorflow as tf

from components.dataset.features import IGNORE_LABEL
from components.imaging.reading import InputSize

_RESTORE_BLOCK_FLOATS = 2**25
"""Logits held at once while a mask is brought to its image's size: 128 MiB."""


class Content(NamedTuple):
    """Where the image lies within the network's input, in pixels; all scalars int32 [].

    With ``native``, where windows are cut from: the whole of the scaled picture.
    """

    top: tf.Tensor
    left: tf.Tensor
    height: tf.Tensor
    width: tf.Tensor


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
    area = content_area(size, tf.shape(image)[0], tf.shape(image)[1])
    return _pad(resize_content(image, area), area, size, value=0)


def resize_content(image: tf.Tensor, area: Content) -> tf.Tensor:
    """Brings an image, uint8 [height, width, channels], to the size of its area in the input, unpadded."""
    resized = tf.image.resize(image, (area.height, area.width), method="bilinear", antialias=True)
    return tf.cast(tf.clip_by_value(tf.round(resized), 0.0, 255.0), tf.uint8)


def resize_mask(class_ids: tf.Tensor, size: InputSize) -> tf.Tensor:
    """Brings class ids, uint8 [height, width], to the network's input size: nearest neighbour.

    Returns:
        uint8 [size.height, size.width]; letterbox padding is the ignore label. With ``native``, as large as
        what ``resize_image`` makes of the image.
    """
    if size.keeps_pixels:
        return class_ids
    area = content_area(size, tf.shape(class_ids)[0], tf.shape(class_ids)[1])
    resized = tf.image.resize(class_ids[:, :, tf.newaxis], (area.height, area.width), method="nearest")
    return _pad(resized, area, size, value=IGNORE_LABEL)[:, :, 0]


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
    logits: tf.Tensor, size: InputSize, height: tf.Tensor, width: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Brings the network's answer to its image's own size: bilinear on the logits, then the best class.

    Works through blocks of rows, so that a photograph of many megapixels with many classes needs
    bounded memory. The class ids do not depend on the size of the blocks.

    Args:
        logits: float32 [size.height, size.width, classes].
        size: how the image was brought to the network's input.
        height, width: int32 [], the image's own size in pixels.

    Returns:
        class ids uint8 [height, width] and their softmax probabilities, float32 [height, width].
    """
    area = content_area(size, height, width)
    logits = logits[area.top : area.top + area.height, area.left : area.left + area.width]
    num_classes = logits.shape[-1]
    # Source row of each row, as in bilinear resizing with half-pixel centres and clamped edges.
    position = (tf.range(height, dtype=tf.float32) + 0.5) * (
        tf.cast(area.height, tf.float32) / tf.cast(height, tf.float32)
    ) - 0.5
    position = tf.clip_by_value(position, 0.0, tf.cast(area.height - 1, tf.float32))
    above = tf.cast(tf.floor(position), tf.int32)
    below = tf.minimum(above + 1, area.height - 1)
    weight = (position - tf.floor(position))[:, tf.newaxis, tf.newaxis]
    rows = tf.maximum(1, _RESTORE_BLOCK_FLOATS // (width * num_classes))

    def restore_block(
        start: tf.Tensor, ids: tf.TensorArray, confidence: tf.TensorArray
    ) -> tuple[tf.Tensor, tf.TensorArray, tf.TensorArray]:
        stop = tf.minimum(start + rows, height)
        block = tf.gather(logits, above[start:stop])
        block += weight[start:stop] * (tf.gather(logits, below[start:stop]) - block)
        block = tf.image.resize(block, (stop - start, width), method="bilinear")
        best = tf.argmax(block, axis=-1, output_type=tf.int32)
        probability = tf.exp(tf.reduce_max(block, axis=-1) - tf.reduce_logsumexp(block, axis=-1))
        index = start // rows
        return stop, ids.write(index, tf.cast(best, tf.uint8)), confidence.write(index, probability)

    blocks = (height + rows - 1) // rows
    _, ids, confidence = tf.while_loop(
        lambda start, *_: start < height,
        restore_block,
        (
            tf.constant(0),
            tf.TensorArray(tf.uint8, blocks, infer_shape=False, element_shape=[None, None]),
            tf.TensorArray(tf.float32, blocks, infer_shape=False, element_shape=[None, None]),
        ),
        # One block at a time is what bounds the memory.
        parallel_iterations=1,
    )
    return ids.concat(), confidence.concat()
