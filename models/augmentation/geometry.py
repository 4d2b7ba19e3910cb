"""Geometric augmentation: flips and turns pixel for pixel, everything else by one resampling.

A change is described by a homogeneous matrix (N, 3, 3) that takes a point (x, y, 1) of the changed picture to
the point of the original that is seen there. The origin is the centre of the frame, x points right, y down,
and a unit is the distance of two pixels, so a turn by 90 degrees and a flip meet pixel centres exactly.
"""

from typing import Any

from keras import ops


def turn_and_flip(pictures: Any, transpose: Any, vertical: Any, horizontal: Any) -> Any:
    """Transposes rows and columns, then flips, each where its coin says so; together all 8 symmetries.

    Args:
        pictures: (N, H, W, ...), any dtype.
        transpose: bool (N,), H = W then; or None: no picture is transposed. Likewise
        vertical: top and bottom change places.
        horizontal: left and right change places.
    """
    if transpose is not None:
        pictures = _choose(transpose, ops.swapaxes(pictures, 1, 2), pictures)
    if vertical is not None:
        pictures = _choose(vertical, ops.flip(pictures, axis=1), pictures)
    if horizontal is not None:
        pictures = _choose(horizontal, ops.flip(pictures, axis=2), pictures)
    return pictures


def turn_and_flip_matrix(transpose: Any, vertical: Any, horizontal: Any) -> Any:
    """Returns the matrix of ``turn_and_flip``; the coins as there, at least one not None."""
    swap, vertical, horizontal = (
        0.0 if coins is None else ops.cast(coins, "float32") for coins in (transpose, vertical, horizontal)
    )
    x, y = 1.0 - 2.0 * horizontal, 1.0 - 2.0 * vertical
    return matrix([[(1.0 - swap) * x, swap * y], [swap * x, (1.0 - swap) * y]])


def rotation_matrix(angle: Any) -> Any:
    """Returns the matrix of a picture turned about its centre, counter-clockwise, radians (N,)."""
    cosine, sine = ops.cos(angle), ops.sin(angle)
    return matrix([[cosine, -sine], [sine, cosine]])


def crop_matrix(scale: Any, place_x: Any, place_y: Any, height: int, width: int) -> Any:
    """Returns the matrix of a scaled picture of which, or on which, a frame of H x W is placed.

    Args:
        scale: factor of both sides (N,). An enlarged picture loses what lies outside the frame, a shrunk one
            leaves ground around it.
        place_x, place_y: from -1, frame and picture share their left or upper edge, over 0, they share their
            centre, to 1, they share their right or lower edge (N,).
        height, width: the frame, pixels.
    """
    spare = (scale - 1.0) / (2.0 * scale)
    return matrix(
        [[1.0 / scale, 0.0], [0.0, 1.0 / scale]], [width * spare * place_x, height * spare * place_y]
    )


def resample(images: Any, masks: Any, output_to_input: Any, ignore_label: int) -> tuple[Any, Any]:
    """Looks up every pixel of the changed pictures, bilinearly in images, the nearest one in masks.

    Args:
        images: (N, H, W, channels) float.
        masks: class ids (N, H, W), any integer dtype, below 2**24.
        output_to_input: (N, 3, 3) as above.
        ignore_label: the class id of what lies outside the original; images are 0 there.
    """
    height, width = images.shape[1:3]
    centre_x, centre_y = (width - 1) / 2.0, (height - 1) / 2.0
    to_centre = ops.convert_to_tensor([[1.0, 0.0, -centre_x], [0.0, 1.0, -centre_y], [0.0, 0.0, 1.0]])
    from_centre = ops.convert_to_tensor([[1.0, 0.0, centre_x], [0.0, 1.0, centre_y], [0.0, 0.0, 1.0]])
    pixels = from_centre @ output_to_input @ to_centre
    transform = ops.reshape(pixels, (-1, 9))[:, :8]
    images = ops.image.affine_transform(
        images,
        # A copy: on PyTorch, Keras exchanges entries of what it is given.
        ops.copy(transform),
        interpolation="bilinear",
        fill_value=0.0,
        data_format="channels_last",
    )
    # As float32, which holds class ids exactly and which every backend looks up.
    ids = ops.image.affine_transform(
        ops.cast(masks, "float32")[..., None],
        transform,
        interpolation="nearest",
        fill_value=float(ignore_label),
        data_format="channels_last",
    )
    return images, ops.cast(ids[..., 0], masks.dtype)


def look_up(images: Any, masks: Any, output_to_input: Any, height: int, width: int) -> tuple[Any, Any]:
    """Looks up a window of the changed pictures as `resample` does, in pictures that go on around it.

    Costs what the window costs, not what the pictures do: at 2.5 times the window's sides, a quarter of the
    processor time of resampling the whole.

    Args:
        images: (N, H, W, channels), any dtype; H and W at least 2, N * H * W below 2**31.
        masks: class ids (N, H, W), any integer dtype.
        output_to_input: (N, 3, 3) as above, from the window's centre to the pictures'.
        height, width: the window, pixels. What lies outside of the pictures shows their outermost pixels.

    Returns:
        float32 (N, height, width, channels) and class ids (N, height, width).
    """
    frame_height, frame_width, channels = images.shape[1:]
    points = ops.stack(
        ops.meshgrid(
            ops.arange(width, dtype="float32") - (width - 1) / 2.0,
            ops.arange(height, dtype="float32") - (height - 1) / 2.0,
        )
    )
    places = output_to_input[:, :2, :2] @ ops.reshape(points, (2, -1)) + output_to_input[:, :2, 2:]
    x, y = places[:, 0] + (frame_width - 1) / 2.0, places[:, 1] + (frame_height - 1) / 2.0
    left = ops.clip(ops.floor(x), 0.0, frame_width - 2.0)
    above = ops.clip(ops.floor(y), 0.0, frame_height - 2.0)
    to_right, down = ops.clip(x - left, 0.0, 1.0), ops.clip(y - above, 0.0, 1.0)
    first = ops.arange(ops.shape(images)[0], dtype="int32")[:, None] * (frame_height * frame_width)
    corner = first + ops.cast(above, "int32") * frame_width + ops.cast(left, "int32")
    pixels, ids = ops.reshape(images, (-1, channels)), ops.reshape(masks, (-1,))

    def row(start: Any) -> Any:
        one, other = (ops.cast(ops.take(pixels, index, axis=0), "float32") for index in (start, start + 1))
        return one + to_right[..., None] * (other - one)

    upper = row(corner)
    window = upper + down[..., None] * (row(corner + frame_width) - upper)
    nearest = corner + ops.cast(to_right >= 0.5, "int32") + ops.cast(down >= 0.5, "int32") * frame_width
    ids = ops.take(ids, nearest, axis=0)
    return ops.reshape(window, (-1, height, width, channels)), ops.reshape(ids, (-1, height, width))


def matrix(linear: list[list[Any]], offset: list[Any] | None = None) -> Any:
    """Returns homogeneous matrices (N, 3, 3) of numbers and tensors (N,); at least one must be a tensor."""
    offset = offset or [0.0, 0.0]
    entries = [*linear[0], offset[0], *linear[1], offset[1], 0.0, 0.0, 1.0]
    count = ops.shape(next(entry for entry in entries if not isinstance(entry, float)))[0]
    entries = [ops.broadcast_to(ops.cast(entry, "float32"), (count,)) for entry in entries]
    return ops.reshape(ops.stack(entries, axis=1), (-1, 3, 3))


def _choose(coins: Any, heads: Any, tails: Any) -> Any:
    """Returns for each coin the picture out of heads or out of tails."""
    frame = tails.shape[1:]
    size = 1
    for side in frame:
        size *= side
    # Flat pictures: `where` broadcasts a vector over a matrix four times as fast as over higher ranks.
    chosen = ops.where(coins[:, None], ops.reshape(heads, (-1, size)), ops.reshape(tails, (-1, size)))
    return ops.reshape(chosen, (-1, *frame))
