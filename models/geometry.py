"""Sizes that follow from a network's depth; needs no Keras, so settings can be checked without it."""

from typing import get_args

from models.options import EncoderName


def stride(depth: int) -> int:
    """Returns by how many pixels the deepest level of a network of ``depth`` levels steps.

    Between two levels height and width are halved, so both must be divisible by this number.
    """
    if depth < 1:
        raise ValueError(f"depth is {depth}; a network has at least 1 level")
    return 2 ** (depth - 1)


def encoder_stride(encoder: EncoderName) -> int:
    """Returns by how many pixels the deepest features of an encoder step.

    All of them were made for ImageNet's classes and halve height and width five times.
    """
    if encoder not in get_args(EncoderName):
        raise ValueError(f"encoder {encoder!r} is unknown; choose one of {', '.join(get_args(EncoderName))}")
    return 32


def check_size(height: int | None, width: int | None, step: int) -> None:
    """Raises a `ValueError` that names sizes that would do unless both sides are multiples of a stride.

    Args:
        height: of the network's input, pixels; None for any.
        width: likewise.
        step: the network's stride, as `stride` or `encoder_stride` returns it.
    """
    for side, pixels in (("height", height), ("width", width)):
        if pixels is not None and (pixels < step or pixels % step):
            below = pixels // step * step
            nearest = f"{below} or {below + step}" if below else f"{step}"
            raise ValueError(
                f"{side} {pixels} is not divisible by {step}, the stride of the network; take {nearest}"
            )


def look_size(height: int, width: int, scale: float, stride: int) -> tuple[int, int]:
    """Returns the height and width of a look at an image: the multiples of a stride next to a scale's."""

    def nearest(side: int) -> int:
        return max(stride, round(side * scale / stride) * stride)

    return nearest(height), nearest(width)
