"""Encoded images and masks to pixels, and class ids back to PNG."""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import tensorflow as tf

from components.imaging.exif import LONG, MOST_SEGMENTS, ORIENTATION, SHORT
from components.imaging.reading import JPEG_SIGNATURE, PNG_SIGNATURE, RGB, Reading, ValueRange

_REDUCTIONS: Final = (1, 2, 4, 8)
"""By which libjpeg divides a JPEG's sides while it decodes."""
_RESERVE: Final = 2
"""How many times the sides asked for a reduced JPEG still has: the fewer, the farther is what is made of it
from what is made of the whole one (docs/how-it-works.md says how far with these)."""
_SEARCHED: Final = 2**18
"""Bytes. To search more of a file for a mark takes longer than to walk through its segments."""


class Stored(NamedTuple):
    """A picture as it is stored, perhaps decoded at a fraction of its size."""

    pixels: tf.Tensor
    """uint8 [ceil(height / reduction), ceil(width / reduction), channels]"""
    sides: tf.Tensor
    """int32 [2], height and width."""
    reduction: tf.Tensor
    """int32 [], 1 where the pixels are all there are."""


def decode_image(encoded: tf.Tensor, reading: Reading = RGB) -> tf.Tensor:
    """Decodes one JPEG, PNG or BMP, whatever its file was called; where bands are read, a PNG of them.

    Args:
        encoded: string [].
        reading: how. Of its channels, 1 is luma (ITU-R BT.601, as ``tf.image.rgb_to_grayscale`` weighs it),
            the same for every format; 3 is RGB without alpha; 4 is RGBA, opaque (255) where the file has no
            alpha. Of these formats only PNG has one: a BMP's fourth byte is unused.

    Returns:
        uint8 [height, width, channels]; of the stored size, or of the upright one.
    """
    image = _decode_stored(encoded, reading)
    return turned(image, exif_orientation(encoded)) if reading.upright else image


def decode_reduced(encoded: tf.Tensor, reading: Reading, wanted: Callable[[tf.Tensor], tf.Tensor]) -> Stored:
    """Decodes an image that is going to be shrunk: of a JPEG far larger than it will be, fewer pixels.

    Args:
        encoded: string [].
        reading: as for `decode_image`, but that the picture is not turned.
        wanted: of the stored height and width, int32 [2], those that the picture is resized to.
    """

    def jpeg() -> Stored:
        sides = tf.io.extract_jpeg_shape(encoded)[:2]
        spare = tf.reduce_min(sides // (_RESERVE * wanted(sides)))

        # Not tf.switch_case: tensorflow_transform cannot analyse it.
        def least_of(reductions: Sequence[int]) -> Stored:
            least, *larger = reductions

            def reduced() -> Stored:
                return Stored(_decode_jpeg(encoded, reading.channels, least), sides, tf.constant(least))

            return tf.cond(spare >= larger[0], lambda: least_of(larger), reduced) if larger else reduced()

        return least_of(_REDUCTIONS)

    def whole() -> Stored:
        pixels = _decode_stored(encoded, reading)
        return Stored(pixels, tf.shape(pixels)[:2], tf.constant(1))

    if reading.bands is not None:
        return whole()
    return tf.cond(_begins_with(encoded, JPEG_SIGNATURE), jpeg, whole)


def exif_orientation(encoded: tf.Tensor) -> tf.Tensor:
    """Returns an image's EXIF orientation, int64 [], found as ``components.imaging.exif`` finds it."""
    # Most files have none, and the mark is found to be missing sooner than all segments are passed.
    mark = tf.where(_begins_with(encoded, PNG_SIGNATURE[:4]), b"eXIf", b"Exif\0\0")
    parts = tf.strings.split(tf.strings.substr(encoded, 0, _SEARCHED), mark, maxsplit=1)
    possible = (tf.size(parts) > 1) | (tf.strings.length(encoded) > _SEARCHED)
    return tf.cond(possible, lambda: _orientation(_exif_block(encoded)), lambda: tf.constant(1, tf.int64))


def _orientation(exif: tf.Tensor) -> tf.Tensor:
    """The orientation, int64 [], that EXIF, string [], says; 1 where it says none."""
    block = tf.io.decode_raw(exif, tf.uint8)
    length = tf.size(block, tf.int64)
    # Zeros behind its end, so that what is read of it there is.
    block = tf.pad(block, [[0, 16]])
    little = tf.reduce_all(tf.equal(block[:2], list(b"II")))

    def numbers(digits: tf.Tensor) -> tf.Tensor:
        """Unsigned integers, int64 [N], of their bytes, uint8 [N, B] with B of 2 or 4."""
        weights = [2 ** (8 * place) for place in range(digits.shape[1])]
        little_endian, big_endian = (tf.constant(each, tf.int64) for each in (weights, weights[::-1]))
        return tf.linalg.matvec(tf.cast(digits, tf.int64), tf.where(little, little_endian, big_endian))

    def number(start: tf.Tensor | int, size: int) -> tf.Tensor:
        return numbers(tf.reshape(block[start : start + size], [1, size]))[0]

    first = tf.minimum(number(4, 4), length) + 2
    count = tf.clip_by_value((length - first) // 12, 0, number(first - 2, 2))
    entries = tf.reshape(block[first : first + 12 * count], [-1, 12])
    kind = numbers(entries[:, 2:4])
    wanted = tf.equal(numbers(entries[:, :2]), ORIENTATION) & (tf.equal(kind, SHORT) | tf.equal(kind, LONG))
    values = tf.where(tf.equal(kind, SHORT), numbers(entries[:, 8:10]), numbers(entries[:, 8:12]))
    # The first one's, or 0.
    value = tf.reduce_sum(tf.boolean_mask(values, wanted)[:1])
    known = (length > 0) & (little | tf.reduce_all(tf.equal(block[:2], list(b"MM"))))
    return tf.where(known & (value >= 1) & (value <= 8), value, tf.constant(1, tf.int64))


def _exif_block(encoded: tf.Tensor) -> tf.Tensor:
    """What follows the mark "Exif", string []; empty where there is none before the pixels."""
    is_jpeg = _begins_with(encoded, JPEG_SIGNATURE)
    is_png = _begins_with(encoded, PNG_SIGNATURE[:4])
    length = tf.strings.length(encoded)

    def bytes_at(position: tf.Tensor) -> tf.Tensor:
        raw = tf.io.decode_raw(tf.strings.substr(encoded, position, 10), tf.uint8, fixed_length=10)
        return tf.cast(raw, tf.int64)

    def in_jpeg(position: tf.Tensor) -> tf.Tensor:
        """Start of the next segment, start and length of the block; start 0 ends the walk."""
        head = bytes_at(position)
        more = (head[0] == 0xFF) & (head[1] != 0xDA) & (head[1] != 0xD9)
        size = tf.where(head[1] == 0xFF, tf.constant(-1, tf.int64), 256 * head[2] + head[3])
        is_exif = more & (head[1] == 0xE1) & tf.reduce_all(tf.equal(head[4:], list(b"Exif\0\0")))
        after = tf.cast(position, tf.int64) + 2 + size
        return _step(more, after, is_exif, position + 10, size - 8)

    def in_png(position: tf.Tensor) -> tf.Tensor:
        head = bytes_at(position)
        kind = head[4:8]
        more = ~(tf.reduce_all(tf.equal(kind, list(b"IDAT"))) | tf.reduce_all(tf.equal(kind, list(b"IEND"))))
        size = tf.linalg.tensordot(head[:4], tf.constant([2**24, 2**16, 2**8, 1], tf.int64), 1)
        is_exif = more & tf.reduce_all(tf.equal(kind, list(b"eXIf")))
        return _step(more, tf.cast(position, tf.int64) + 12 + size, is_exif, position + 8, size)

    def walk(state: tf.Tensor, steps: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return tf.cond(is_jpeg, lambda: in_jpeg(state[0]), lambda: in_png(state[0])), steps + 1

    least = tf.where(is_jpeg, 4, 8)
    begin = tf.where(is_jpeg, 2, tf.where(is_png, 8, length))
    state, _ = tf.while_loop(
        lambda state, steps: (steps < MOST_SEGMENTS) & (state[0] + least <= length) & (state[2] <= 0),
        walk,
        (tf.stack([begin, 0, 0]), tf.constant(0)),
    )
    return tf.strings.substr(encoded, tf.minimum(state[1], length), tf.maximum(state[2], 0))


def _step(
    more: tf.Tensor, after: tf.Tensor, is_exif: tf.Tensor, start: tf.Tensor, size: tf.Tensor
) -> tf.Tensor:
    """Where to look next, and where a block begins and how long it is: int32 [3]."""
    most = tf.constant(2**31 - 16, tf.int64)
    following = tf.where(more, tf.cast(tf.minimum(after, most), tf.int32), 2**31 - 16)
    found = tf.where(is_exif, tf.stack([start, tf.cast(tf.minimum(size, most), tf.int32)]), [0, 0])
    return tf.concat([[following], found], 0)


def turned(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """A stored picture, uint8 [height, width, channels], as it stands upright."""

    def any_of(*orientations: int) -> tf.Tensor:
        return tf.reduce_any(tf.equal(orientation, orientations))

    def turn() -> tf.Tensor:
        swapped = tf.cond(any_of(5, 6, 7, 8), lambda: tf.transpose(image, [1, 0, 2]), lambda: image)
        axes = tf.boolean_mask([0, 1], [any_of(3, 4, 7, 8), any_of(2, 3, 6, 7)])
        return tf.reverse(swapped, axes)

    upright = tf.cond(tf.equal(orientation, 1), lambda: image, turn)
    return tf.ensure_shape(upright, [None, None, image.shape[2]])


def _decode_stored(encoded: tf.Tensor, reading: Reading) -> tf.Tensor:
    if reading.bands is not None:
        return _decode_stack(encoded, len(reading.bands), reading.value_range)
    # Asked for 1 or 4 channels itself, TensorFlow refuses some formats.
    decode, channels = (_decode_rgba, 4) if reading.has_alpha else (_decode_rgb, 3)
    value_range = reading.value_range
    if value_range is None:
        image = decode(encoded)
    else:
        image = tf.cond(
            _is_deep(encoded), lambda: _decode_deep(encoded, channels, *value_range), lambda: decode(encoded)
        )
    return tf.image.rgb_to_grayscale(image) if reading.channels == 1 else image


def _is_deep(encoded: tf.Tensor) -> tf.Tensor:
    """Whether it is a PNG of 16 bits a channel, bool []."""
    return _begins_with(encoded, PNG_SIGNATURE) & (tf.strings.substr(encoded, 24, 1) == b"\x10")


def _decode_stack(encoded: tf.Tensor, bands: int, value_range: ValueRange | None) -> tf.Tensor:
    """A gray PNG of 8 or 16 bits with the bands one below the other, uint8 [height, width, bands]."""

    def shallow() -> tf.Tensor:
        return tf.io.decode_png(encoded, channels=1)

    def deep() -> tf.Tensor:
        assert value_range is not None
        return _spread(tf.io.decode_png(encoded, channels=1, dtype=tf.uint16), *value_range)

    stack = shallow() if value_range is None else tf.cond(_is_deep(encoded), deep, shallow)
    image = tf.reshape(stack, [bands, -1, tf.shape(stack)[1]])
    return tf.ensure_shape(tf.transpose(image, [1, 2, 0]), [None, None, bands])


def _decode_deep(encoded: tf.Tensor, channels: int, low: float, high: float) -> tf.Tensor:
    """A PNG of 16 bits a channel, uint8 [height, width, channels]; alpha keeps its own range."""
    deep = tf.io.decode_png(encoded, channels=channels, dtype=tf.uint16)
    alpha = tf.cast(deep[:, :, 3:] // 256, tf.uint8)
    return tf.concat([_spread(deep[:, :, :3], low, high), alpha], axis=2)


def _spread(deep: tf.Tensor, low: float, high: float) -> tf.Tensor:
    """Values of a range, uint16, as uint8."""
    scaled = (tf.cast(deep, tf.float32) - low) * (255 / (high - low))
    return tf.cast(tf.clip_by_value(tf.round(scaled), 0.0, 255.0), tf.uint8)


def _decode_jpeg(encoded: tf.Tensor, channels: int, reduction: int) -> tf.Tensor:
    image = tf.io.decode_jpeg(encoded, channels=3, ratio=reduction)
    if channels == 1:
        return tf.image.rgb_to_grayscale(image)
    return _opaque(image) if channels == 4 else image


def _decode_rgb(encoded: tf.Tensor) -> tf.Tensor:
    image = tf.io.decode_image(encoded, channels=3, dtype=tf.uint8, expand_animations=False)
    return tf.ensure_shape(image, [None, None, 3])


def _decode_rgba(encoded: tf.Tensor) -> tf.Tensor:
    is_png = _begins_with(encoded, PNG_SIGNATURE)
    return tf.cond(is_png, lambda: _decode_rgba_png(encoded), lambda: _opaque(_decode_rgb(encoded)))


def _decode_rgba_png(encoded: tf.Tensor) -> tf.Tensor:
    image = tf.io.decode_png(encoded, channels=4)

    def of_few_bits() -> tf.Tensor:
        # Where such a PNG has no alpha, TensorFlow fills in the most that its bits can say.
        has_alpha = tf.shape(tf.io.decode_png(encoded))[2] % 2 == 0
        return tf.cond(has_alpha, lambda: image, lambda: _opaque(image[:, :, :3]))

    bits = tf.io.decode_raw(tf.strings.substr(encoded, 24, 1), tf.uint8)[0]
    return tf.cond(bits < 8, of_few_bits, lambda: image)


def _opaque(rgb: tf.Tensor) -> tf.Tensor:
    return tf.pad(rgb, [[0, 0], [0, 0], [0, 1]], constant_values=tf.constant(255, tf.uint8))


def _begins_with(encoded: tf.Tensor, signature: bytes) -> tf.Tensor:
    return tf.strings.substr(encoded, 0, len(signature)) == signature


def decode_mask(encoded: tf.Tensor) -> tf.Tensor:
    """Decodes one mask of an Example.

    Args:
        encoded: string [], a single-channel 8-bit PNG.

    Returns:
        uint8 [height, width] class ids.
    """
    return tf.io.decode_png(encoded, channels=1, dtype=tf.uint8)[:, :, 0]


def encode_mask(class_ids: tf.Tensor) -> tf.Tensor:
    """Encodes class ids, uint8 [height, width], as a single-channel PNG, string []."""
    # Large areas of one value compress well at any level; the fastest one keeps the server answering.
    return tf.io.encode_png(class_ids[:, :, tf.newaxis], compression=1)
