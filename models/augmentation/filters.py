"""Blur by a different amount for each image."""

from typing import Any

from keras import ops


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
