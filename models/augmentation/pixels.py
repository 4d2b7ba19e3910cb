"""Photometric augmentation: blur, and colour, of which what is linear is one matrix an image."""

import math
from typing import Any

import numpy as np
from keras import ops

# Projection on the grey axis (1, 1, 1), and the cross product with its unit vector.
_GREY = np.full((3, 3), 1 / 3, np.float32)
_ACROSS = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]], np.float32) / math.sqrt(3)


def color_matrix(contrast: Any, saturation: Any, hue: Any) -> Any:
    """Returns the matrices (N, 3, 3) that a column (red, green, blue) is multiplied with.

    Hue is a rotation about the grey axis, saturation a stretch away from it, contrast a stretch of
    everything (P. Haeberli, "Matrix Operations for Image Processing", 1993, with equal weights of the
    channels; the rotation by Rodrigues' formula). Greys stay grey, and a pixel's mean stays what it was but
    for contrast.

    Args:
        contrast, saturation: factors (N,).
        hue: turns (N,); a third of a turn makes red green and green blue.
    """
    contrast, saturation, angle = (
        part[:, None, None] for part in (contrast, saturation, 2.0 * math.pi * hue)
    )
    # As tensors: not every backend's multiply with NumPy's arrays.
    grey, across = ops.convert_to_tensor(_GREY), ops.convert_to_tensor(_ACROSS)
    colour = ops.cos(angle) * (ops.eye(3, dtype="float32") - grey) + ops.sin(angle) * across
    return contrast * (grey + saturation * colour)


def split_alpha(images: Any, has_alpha: bool) -> tuple[Any, Any | None]:
    """Returns the colours of images (N, H, W, channels), and alpha (N, H, W, 1), the last, if any."""
    return (images[..., :-1], images[..., -1:]) if has_alpha else (images, None)


def join_alpha(colors: Any, alpha: Any | None) -> Any:
    """Undoes `split_alpha`."""
    return colors if alpha is None else ops.concatenate([colors, alpha], axis=-1)


def multiply_colors(images: Any, matrices: Any) -> Any:
    """Multiplies every pixel of images (N, H, W, 3) float with its image's matrix (N, 3, 3)."""
    frame = images.shape[1:]
    pixels = ops.reshape(images, (-1, frame[0] * frame[1], 3))
    return ops.reshape(ops.matmul(pixels, ops.swapaxes(matrices, 1, 2)), (-1, *frame))


def power(images: Any, exponents: Any) -> Any:
    """Returns 255 (images / 255) ** exponents.

    Args:
        images: (N, ...) float, of 0 to 255.
        exponents: above 0, broadcast against the images.
    """
    # In logarithms: several times as fast as the power function, the same to float precision, 0 included.
    return ops.exp(exponents * ops.log(images) + (1.0 - exponents) * math.log(255.0))


def gaussian_blur(images: Any, sigma: Any) -> Any:
    """Blurs each image with a Gaussian of its own width; next to the edge only the pixels inside count.

    Args:
        images: (N, H, W, channels) float32.
        sigma: standard deviations in pixels (N,); 0 leaves the image as it is.

    Rows and columns are each multiplied with one matrix for an image. At the sizes networks train on that is
    faster than a convolution, which would need a kernel of its own for every image of the batch.
    """
    _, height, width, channels = images.shape
    rows = ops.matmul(_weights(height, sigma), ops.reshape(images, (-1, height, width * channels)))
    columns = ops.swapaxes(ops.reshape(rows, (-1, height, width, channels)), 1, 2)
    columns = ops.matmul(_weights(width, sigma), ops.reshape(columns, (-1, width, height * channels)))
    return ops.swapaxes(ops.reshape(columns, (-1, width, height, channels)), 1, 2)


def _weights(size: int, sigma: Any) -> Any:
    """Returns (N, size, size): in each row what the pixels of a line give to one of them, summing to 1."""
    positions = ops.arange(size, dtype="float32")
    squares = (positions[:, None] - positions) ** 2
    sigma = ops.maximum(sigma, 1e-3)[:, None, None]  # below that, neighbours weigh nothing in float32
    weights = ops.exp(-squares / (2.0 * sigma**2))
    return weights / ops.sum(weights, axis=-1, keepdims=True)
