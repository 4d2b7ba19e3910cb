"""Fixed changes, the same for every pair: each makes one more copy of a training set."""

from typing import Any, get_args

from keras import ops

from models.augmentation.color import join_alpha, power, split_alpha
from models.options import VariantName


def apply_variant(images: Any, masks: Any, name: str, value: float | bool) -> tuple[Any, Any]:
    """Changes all pairs of a batch in the one named way.

    Args:
        images: uint8 (N, H, W, channels); alpha, the fourth of four, only moves.
        masks: class ids (N, H, W), any integer dtype.
        name: what is changed, one of `VariantName`.
        value: by how much: ``brightness`` what is added, share of the full range; ``gamma`` the power that
            intensities (0 to 1) are raised to; ``hue`` the shift of HSV's hue, turns; ``central_crop`` the
            share of each side that is kept and enlarged to the old size; ``rot90`` quarter turns
            counter-clockwise; ``horizontal_flip`` and ``vertical_flip`` take True.

    Returns:
        Images and masks of the same shapes and dtypes.

    Raises:
        ValueError: for an unknown name, or a value or a shape that the change cannot work with.
    """
    images, masks = ops.convert_to_tensor(images), ops.convert_to_tensor(masks)
    height, width, channels = images.shape[1:]
    match name:
        case "brightness":
            colors, alpha = split_alpha(_floats(images))
            return _pixels(join_alpha(colors + 255.0 * value, alpha)), masks
        case "gamma":
            if value <= 0:
                raise ValueError(f"gamma is {value}; an exponent must be above 0")
            colors, alpha = split_alpha(_floats(images))
            return _pixels(join_alpha(power(colors, value), alpha)), masks
        case "hue":
            if channels != 3:
                raise ValueError(f"hue needs images of 3 channels; these have {channels}")
            return _pixels(_shift_hue(_floats(images), value)), masks
        case "central_crop":
            if not 0 < value <= 1:
                raise ValueError(f"central_crop is {value}; the share kept must be above 0 and at most 1")
            return _central_crop(images, masks, value)
        case "horizontal_flip" | "vertical_flip":
            if value is not True:
                raise ValueError(f"{name} is {value}; as a variant it can only be true")
            axis = 2 if name == "horizontal_flip" else 1
            return ops.flip(images, axis=axis), ops.flip(masks, axis=axis)
        case "rot90":
            if value != int(value):
                raise ValueError(f"rot90 is {value}; it must be a whole number of quarter turns")
            if value % 2 and height != width:
                raise ValueError(f"rot90 needs square images; these are {height} x {width} pixels")
            return _turn(images, int(value) % 4), _turn(masks, int(value) % 4)
    raise ValueError(f"there is no variant {name!r}; choose from {', '.join(get_args(VariantName))}")


def _turn(pictures: Any, quarters: int) -> Any:
    """Turns counter-clockwise; `ops.rot90` of Keras 3.15 garbles half turns of oblong pictures."""
    if quarters % 2:
        pictures = ops.swapaxes(pictures, 1, 2)
    return ops.flip(pictures, axis=((), (1,), (1, 2), (2,))[quarters])


def _shift_hue(images: Any, turns: float) -> Any:
    """Shifts HSV's hue, which, unlike a rotation about the grey axis, never leaves the range of colours."""
    hsv = ops.image.rgb_to_hsv(images / 255.0, data_format="channels_last")
    hsv = ops.concatenate([(hsv[..., :1] + turns) % 1.0, hsv[..., 1:]], axis=-1)
    return 255.0 * ops.image.hsv_to_rgb(hsv, data_format="channels_last")


def _central_crop(images: Any, masks: Any, share: float) -> tuple[Any, Any]:
    height, width = images.shape[1:3]
    top, left = int((height - height * share) / 2), int((width - width * share) / 2)
    rows, columns = slice(top, height - top), slice(left, width - left)
    size = {"size": (height, width), "data_format": "channels_last"}
    images = ops.image.resize(_floats(images[:, rows, columns]), interpolation="bilinear", **size)
    masks = ops.image.resize(masks[:, rows, columns, None], interpolation="nearest", **size)[..., 0]
    return _pixels(images), masks


def _floats(images: Any) -> Any:
    return ops.cast(images, "float32")


def _pixels(values: Any) -> Any:
    return ops.cast(ops.round(ops.clip(values, 0.0, 255.0)), "uint8")
