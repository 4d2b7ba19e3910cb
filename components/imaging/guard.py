"""Guards decoding in TensorFlow's graph: which images are refused, and how many are decoded at once.

A few hundred bytes can claim billions of pixels, and a decoder takes their word for it: an image's size is
read from its header before there is a pixel of it. This is graph code, so that a model carries its
protection to wherever it is served.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from components.imaging.reading import JPEG_SIGNATURE, MAX_SIDE, MOST_SCANS, PNG_SIGNATURE, START_OF_SCAN

_GIF = b"GIF8"
_BMP = b"BM"
_HEADER = 26
"""Bytes, enough for the sizes that PNG and BMP have in fixed places."""
_BMP_HEADER = 34
"""Bytes, up to the way a BMP is compressed."""
_SIDE_BY_SIDE = 10
"""``tf.map_fn``'s own default; it is what small images are worked on at once, given the threads."""


class Admitted(NamedTuple):
    """Images that may be decoded."""

    images: tf.Tensor
    """string [N] as encoded, or uint8 [N, H, W, channels]"""
    pixels: tf.Tensor
    """int64 [], those of all images together"""


def admit_images(image_bytes: tf.Tensor, max_pixels: int, bands: int | None = None) -> Admitted:
    """Admits images, each of a size that can be decoded in bounded memory.

    Args:
        image_bytes: string [N], each a JPEG, PNG or BMP.
        max_pixels: the most that one image may have.
        bands: so many are one below the other in each, which is a gray PNG; None where they are pictures.

    Raises:
        tf.errors.InvalidArgumentError: when it runs, naming the first image with more than
            ``max_pixels`` pixels or a side of more than ``MAX_SIDE``, or in no such format. A GIF is
            none: TensorFlow would decode all of its frames, at a size that no header bounds. Likewise
            a JPEG of more than ``MOST_SCANS`` scans, a BMP that TensorFlow misreads, and what is no
            stack of so many bands.
    """
    is_jpeg, is_png, is_gif, is_bmp = (
        tf.equal(tf.strings.substr(image_bytes, 0, len(magic)), magic)
        for magic in (JPEG_SIGNATURE, PNG_SIGNATURE, _GIF, _BMP)
    )
    known = [
        _require_all(~is_gif, " is a GIF, which is not read here; save it as PNG"),
        _require_all(
            is_jpeg | is_png | is_gif | is_bmp,
            *(" is no JPEG, PNG or BMP: ", tf.strings.length(image_bytes), " bytes"),
        ),
    ]
    scans = tf.strings.split(tf.where(is_jpeg, image_bytes, ""), START_OF_SCAN).row_lengths() - 1
    few = scans <= MOST_SCANS
    known.append(_require_all(few, " is a JPEG of ", scans, f" scans; at most {MOST_SCANS} are decoded"))
    read_right = tf.cond(
        tf.reduce_any(is_bmp), lambda: ~is_bmp | _is_read_right(image_bytes), lambda: tf.ones_like(is_bmp)
    )
    known.append(
        _require_all(
            read_right, " is a BMP with a palette or compressed, which is not read here; save it as PNG"
        )
    )
    with tf.control_dependencies(known):
        jpeg_size = _jpeg_sizes(image_bytes, is_jpeg)
    header = tf.io.decode_raw(tf.strings.substr(image_bytes, 0, _HEADER), tf.uint8, fixed_length=_HEADER)
    png_size, png_found = _png_sizes(header)
    size = tf.where(is_png[:, tf.newaxis], png_size, _bmp_sizes(header))
    size = tf.where(is_jpeg[:, tf.newaxis], jpeg_size, size)
    width, height = size[:, 0], size[:, 1]
    if bands is not None:
        # The picture, not the stack of its bands, is what a limit is meant for.
        known = [_require_stacks(is_png, header, height, bands)]
        with tf.control_dependencies(known):
            height //= bands
    claim = (" claims ", width, " x ", height, " pixels", _limits(max_pixels))
    checks = [
        _require_all(png_found | ~is_png, " is damaged: its size cannot be read"),
        _require_all(_fits(width, height, max_pixels), *claim),
    ]
    with tf.control_dependencies(checks):
        return Admitted(tf.identity(image_bytes), tf.reduce_sum(width * height))


def admit_pixels(images: tf.Tensor, max_pixels: int) -> Admitted:
    """Admits decoded images, uint8 [N, H, W, channels], if their size is one that `admit_images` admits.

    Raises:
        tf.errors.InvalidArgumentError: when it runs, naming the size.
    """
    height, width = tf.shape(images, tf.int64)[1], tf.shape(images, tf.int64)[2]
    size = ("images of ", width, " x ", height, " pixels")
    checks = [
        require(tf.minimum(width, height) > 0, *size, "; there must be some"),
        require(_fits(width, height, max_pixels), *size, _limits(max_pixels)),
    ]
    with tf.control_dependencies(checks):
        return Admitted(tf.identity(images), tf.reduce_prod(tf.shape(images, tf.int64)[:3]))


def map_images(
    function: Callable[[Any], Any], elements: Any, *, side_by_side: tf.Tensor, fn_output_signature: Any
) -> Any:
    """Maps a function over images as ``tf.map_fn`` does.

    Args:
        function: of one image.
        elements: a tensor or a structure of tensors, [N, …].
        side_by_side: bool []; where it is False one image is begun when the last is done, so that what
            the function needs for one of them is needed once, not ten times.
        fn_output_signature: of the function's answer.
    """

    def mapped(at_once: int) -> Any:
        return tf.map_fn(
            function, elements, parallel_iterations=at_once, fn_output_signature=fn_output_signature
        )

    return tf.cond(side_by_side, lambda: mapped(_SIDE_BY_SIDE), lambda: mapped(1))


def require(condition: tf.Tensor, *message: str | tf.Tensor) -> tf.Tensor:
    """Fails with INVALID_ARGUMENT and a message of texts and numbers, where the condition, bool [], is false.

    Returns:
        bool [], something to depend on.
    """

    def fail() -> tf.Tensor:
        parts = [part if isinstance(part, str) else tf.strings.as_string(part) for part in message]
        with tf.control_dependencies([tf.debugging.Assert(False, [tf.strings.join(parts)])]):
            return tf.constant(False)

    return tf.cond(condition, lambda: tf.constant(True), fail)


def _fits(width: tf.Tensor, height: tf.Tensor, max_pixels: int) -> tf.Tensor:
    # A product could be too large for its type.
    return (tf.maximum(width, height) <= MAX_SIDE) & (width <= max_pixels // tf.maximum(height, 1))


def _require_stacks(is_png: tf.Tensor, header: tf.Tensor, height: tf.Tensor, bands: int) -> tf.Tensor:
    wanted = f"; this model reads {bands} bands, one below the other in a gray PNG"
    gray = _require_all(is_png & tf.equal(header[:, 25], 0), " is no gray PNG", wanted)
    with tf.control_dependencies([gray]):
        return _require_all(
            tf.equal(height % bands, 0), " has a height of ", height, f", no multiple of {bands}", wanted
        )


def _limits(max_pixels: int) -> str:
    return f"; at most {max_pixels:,} are accepted, {MAX_SIDE:,} a side"


def _require_all(conditions: tf.Tensor, *message: str | tf.Tensor) -> tf.Tensor:
    """Requires a condition, bool [N], of every image; the message's tensors are [N], and it says which."""

    def check() -> tf.Tensor:
        first = tf.argmin(tf.cast(conditions, tf.int32))
        parts = [part if isinstance(part, str) else part[first] for part in message]
        return require(tf.constant(False), "image ", first, *parts)

    return tf.cond(tf.reduce_all(conditions), lambda: tf.constant(True), check)


def _jpeg_sizes(image_bytes: tf.Tensor, is_jpeg: tf.Tensor) -> tf.Tensor:
    """Width and height, int64 [N, 2]; zeros for what is no JPEG."""
    nothing = tf.constant([0, 0], tf.int64)

    def size(item: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        encoded, reads = item
        return tf.cond(
            reads, lambda: tf.cast(tf.image.extract_jpeg_shape(encoded)[1::-1], tf.int64), lambda: nothing
        )

    return tf.map_fn(size, (image_bytes, is_jpeg), fn_output_signature=tf.TensorSpec([2], tf.int64))


def _png_sizes(header: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Width and height, int64 [N, 2], and whether they are there, bool [N]."""
    # The chunk IHDR comes first and begins with them, the highest byte first.
    sizes = tf.stack([_integers(header[:, 19:15:-1]), _integers(header[:, 23:19:-1])], axis=1)
    return sizes, tf.reduce_all(header[:, 12:16] == list(b"IHDR"), axis=1)


def _bmp_sizes(header: tf.Tensor) -> tf.Tensor:
    """Width and height, int64 [N, 2]."""
    # Both are signed: a negative height stands for rows from top to bottom.
    sizes = tf.stack([_integers(header[:, 18:22]), _integers(header[:, 22:26])], axis=1)
    return tf.minimum(sizes, 2**32 - sizes)


def _is_read_right(bmp: tf.Tensor) -> tf.Tensor:
    """Whether BMPs, string [N], are what TensorFlow takes them for, bool [N].

    Of 8 bits a pixel it takes these for gray, palette or not, and for a byte each, compressed or not.
    """
    header = tf.io.decode_raw(tf.strings.substr(bmp, 0, _BMP_HEADER), tf.uint8, fixed_length=_BMP_HEADER)
    begin = 14 + _integers(header[:, 14:18])
    colors = (_integers(header[:, 10:14]) - begin) // 4
    place = tf.minimum(begin, tf.cast(tf.strings.length(bmp), tf.int64))
    palette = tf.io.decode_raw(
        tf.strings.substr(bmp, place, tf.fill(tf.shape(place), tf.constant(1024, tf.int64))),
        tf.uint8,
        fixed_length=1024,
    )
    number = tf.range(256, dtype=tf.int64)
    blue_green_red = tf.cast(tf.reshape(palette, [-1, 256, 4])[:, :, :3], tf.int64)
    is_gray = tf.reduce_all(blue_green_red == number[:, tf.newaxis], axis=2)
    all_gray = tf.reduce_all(is_gray | (number >= colors[:, tf.newaxis]), axis=1)
    has_8_bits = tf.equal(header[:, 28], 8)
    return ~has_8_bits | (all_gray & tf.equal(_integers(header[:, 30:34]), 0))


def _integers(digits: tf.Tensor) -> tf.Tensor:
    """Unsigned integers, int64 [N], of four bytes, uint8 [N, 4], the lowest first."""
    return tf.linalg.matvec(tf.cast(digits, tf.int64), tf.constant([1, 2**8, 2**16, 2**24], tf.int64))
