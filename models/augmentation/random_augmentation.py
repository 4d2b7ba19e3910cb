"""Random changes of training pairs, drawn anew for every image of a batch."""

import dataclasses
import math
from typing import Any

from keras import backend, ops

from models.augmentation.geometry import (
    crop_matrix,
    look_up,
    resample,
    rotation_matrix,
    turn_and_flip,
    turn_and_flip_matrix,
)
from models.augmentation.pixels import (
    color_matrix,
    gaussian_blur,
    join_alpha,
    multiply_colors,
    power,
    split_alpha,
)
from models.augmentation.random import normal, uniform

# Each has a stream of random numbers of its own, so switching one kind of change on leaves the others alone.
# A number once given stays, and none is given twice: a seed goes on meaning the same training.
_STREAMS = {
    "horizontal_flip": 0, "vertical_flip": 1, "rot90": 2, "rotate": 3, "scale": 8, "place_x": 9,
    "place_y": 10, "brightness": 11, "contrast": 12, "saturation": 13, "hue": 14, "gamma": 15, "blur": 16,
    "noise": 17,
}  # fmt: skip
_NOISE_STREAM = 18

# The largest value of each strength, and whether it may be reached.
_LIMITS = {
    "rotate": (180.0, True), "brightness": (1.0, True), "contrast": (1.0, True), "saturation": (1.0, True),
    "hue": (0.5, True), "gamma": (math.inf, False), "blur": (math.inf, False), "noise": (1.0, True),
}  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class RandomAugmentation:
    """Changes images and masks together, each pair differently, in a way that ``seed`` determines.

    All moves of a pair but pure flips and quarter turns, which are exact, are one resampling: bilinear in the
    image, the nearest pixel in the mask. Where nothing of the original is seen, the image shows the grey of
    its own mean and the mask ``ignore_label``. Alpha, where the last channel is it, moves along but is no
    colour; outside it is 0. Colours change after that, linear changes in one matrix, then gamma, blur and
    noise. Strengths of 0 cost nothing.

    Where images are windows of larger pictures, give more of these, ``frame`` says how much, and the
    ``window``: moves then show what is around it, and nothing is made up.

    Attributes:
        horizontal_flip, vertical_flip: with probability one half.
        rot90: one of the four quarter turns; square images only.
        rotate: largest angle either way, degrees.
        scale_crop: range of factors of both sides, drawn log-uniformly; an enlarged image is cropped to its
            old size at a random place, a shrunk one put at a random place. Of a window, about its centre.
        brightness: largest amount added, share of the full range.
        contrast: distance from the image's mean is multiplied by 1 ± contrast.
        saturation: distance from grey is multiplied by 1 ± saturation; colour images only.
        hue: largest rotation about the grey axis either way, turns; colour images only.
        gamma: intensities (0 to 1) are raised to a power drawn log-uniformly in [1 / (1 + gamma), 1 + gamma].
        blur: largest standard deviation of the Gaussian, pixels.
        noise: largest standard deviation of normal noise, share of the full range.
        has_alpha: the last channel is alpha; otherwise all of them are colours, or bands.
        ignore_label: the class id that counts nowhere; the masks' dtype must hold it.

    Example:
        >>> augment = RandomAugmentation(horizontal_flip=True, rotate=15.0, scale_crop=(0.5, 2.0), hue=0.05)
        >>> images, masks = augment(images, masks, seed=7)
    """

    horizontal_flip: bool = False
    vertical_flip: bool = False
    rot90: bool = False
    rotate: float = 0.0
    scale_crop: tuple[float, float] | None = None
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    gamma: float = 0.0
    blur: float = 0.0
    noise: float = 0.0
    has_alpha: bool = False
    ignore_label: int = 255

    def __post_init__(self) -> None:
        for name, (limit, reached) in _LIMITS.items():
            strength = getattr(self, name)
            if not (0.0 <= strength < limit or (reached and strength == limit)):
                bounds = (
                    "0 or more"
                    if limit == math.inf
                    else f"from 0 {'to' if reached else 'to below'} {limit:g}"
                )
                raise ValueError(f"{name} is {strength}; it must be {bounds}")
        if self.scale_crop is not None and not 0.0 < self.scale_crop[0] <= self.scale_crop[1] < math.inf:
            raise ValueError(f"scale_crop is {self.scale_crop}; it must be [low, high] with 0 < low <= high")

    @property
    def is_identity(self) -> bool:
        """Whether nothing is asked for; the call then returns what it was given."""
        return not (self._moves or self._resamples or self._changes_pixels)

    @property
    def _moves(self) -> bool:
        return self.horizontal_flip or self.vertical_flip or self.rot90

    @property
    def _resamples(self) -> bool:
        return self.rotate > 0.0 or self.scale_crop is not None

    @property
    def _changes_pixels(self) -> bool:
        linear = (self.brightness, self.contrast, self.saturation, self.hue)
        return any((*linear, self.gamma, self.blur, self.noise))

    def frame(self, height: int, width: int) -> tuple[int, int]:
        """Returns height and width of the part of a picture, about its centre, that a window may show.

        Larger than the window by an even number of pixels, which is 0 where nothing is resampled.
        """
        if not self._resamples:
            return height, width
        smallest = 1.0 if self.scale_crop is None else self.scale_crop[0]

        def reach(side: int, other: int) -> int:
            # As far as a corner of the window comes; that far along the side is its diagonal, if turned so.
            turned = min(math.radians(self.rotate), math.atan2(other - 1, side - 1))
            extent = ((side - 1) * math.cos(turned) + (other - 1) * math.sin(turned)) / smallest
            return side + 2 * max(1, math.ceil((extent - (side - 1)) / 2 - 1e-6))

        return reach(height, width), reach(width, height)

    def __call__(
        self, images: Any, masks: Any, seed: Any, window: tuple[int, int] | None = None
    ) -> tuple[Any, Any]:
        """Changes a batch; what happens depends on ``seed`` and the position in the batch alone.

        There is no hidden state, so an input pipeline may work on batches in parallel and still repeat
        itself. Pass another seed for each batch, the number of the batch will do.

        Args:
            images: uint8 (N, H, W, channels); H, W and channels must be known when a graph is traced.
            masks: class ids (N, H, W), any integer dtype.
            seed: an integer, or an integer tensor of shape (); its low 32 bits count.
            window: height and width of what is returned, about the centre of images and masks, which must
                then be of the size that ``frame`` says; None for all of them.

        Returns:
            Images and masks of the same shapes, but for the window, and dtypes.

        Raises:
            ValueError: for shapes or dtypes that the changes cannot work on.
        """
        if self.is_identity:
            return images, masks
        images, masks = ops.convert_to_tensor(images), ops.convert_to_tensor(masks)
        self._check(images, masks, window)
        draws = self.draw(seed, ops.shape(images)[0])
        if not self._resamples:
            coins = self._coins(draws)
            images, masks = (turn_and_flip(pictures, *coins) for pictures in (images, masks))
            if not self._changes_pixels:
                return images, masks
        elif window is not None:
            images, masks = look_up(images, masks, self._matrix(draws, window, about_centre=True), *window)

        colors, alpha = split_alpha(ops.cast(images, "float32"), self.has_alpha)
        means = ops.mean(colors, axis=(1, 2, 3))
        # From here on 0 stands for the image's mean: the centre of contrast, and the ground of moved images.
        values = join_alpha(_add(colors, -means), alpha)
        if self._resamples and window is None:
            values, masks = resample(values, masks, self._matrix(draws, values.shape[1:3]), self.ignore_label)
        colors, alpha = split_alpha(values, self.has_alpha)
        colors = self._degrade(self._change_colors(colors, means, draws), draws, seed)
        values = join_alpha(colors, alpha)
        return ops.cast(ops.round(ops.clip(values, 0.0, 255.0)), "uint8"), masks

    def draw(self, seed: Any, count: Any) -> dict[str, Any]:
        """Returns how the ``count`` images of a batch are changed: name to float32 or bool (count,).

        Factors for scale, contrast and saturation, the exponent for gamma; the rest in units of the
        attributes: quarter turns, degrees, share of the range, turns, pixels. ``place_x`` and ``place_y`` run
        from -1 to 1, left to right and top to bottom.
        """
        table = uniform(seed, list(_STREAMS.values()), count)
        share = {name: table[row] for row, name in enumerate(_STREAMS)}
        either_way = {name: 2.0 * values - 1.0 for name, values in share.items()}
        low, high = self.scale_crop or (1.0, 1.0)
        return {
            "horizontal_flip": share["horizontal_flip"] >= (0.5 if self.horizontal_flip else 1.0),
            "vertical_flip": share["vertical_flip"] >= (0.5 if self.vertical_flip else 1.0),
            "rot90": ops.floor((4.0 if self.rot90 else 0.0) * share["rot90"]),
            "rotate": self.rotate * either_way["rotate"],
            "scale": low * ops.exp(math.log(high / low) * share["scale"]),
            "place_x": either_way["place_x"],
            "place_y": either_way["place_y"],
            "brightness": self.brightness * either_way["brightness"],
            "contrast": 1.0 + self.contrast * either_way["contrast"],
            "saturation": 1.0 + self.saturation * either_way["saturation"],
            "hue": self.hue * either_way["hue"],
            "gamma": ops.exp(math.log1p(self.gamma) * either_way["gamma"]),
            "blur": self.blur * share["blur"],
            "noise": self.noise * share["noise"],
        }

    def _check(self, images: Any, masks: Any, window: tuple[int, int] | None) -> None:
        if len(images.shape) != 4 or len(masks.shape) != 3 or None in (*images.shape[1:], *masks.shape[1:]):
            raise ValueError(
                f"images of shape {tuple(images.shape)} and masks of shape {tuple(masks.shape)} cannot be "
                "augmented; they must be (N, H, W, channels) and (N, H, W) with known sizes"
            )
        height, width, channels = images.shape[1:]
        if (height, width) != tuple(masks.shape[1:]):
            raise ValueError(
                f"images are {height} x {width}, masks {masks.shape[1]} x {masks.shape[2]} pixels"
            )
        if window is not None and (height, width) != self.frame(*window):
            needed = self.frame(*window)
            raise ValueError(
                f"images are {height} x {width} pixels; a window of {window[0]} x {window[1]} needs "
                f"{needed[0]} x {needed[1]}"
            )
        if backend.standardize_dtype(images.dtype) != "uint8":
            raise ValueError(f"images are {backend.standardize_dtype(images.dtype)}; they must be uint8")
        if "int" not in backend.standardize_dtype(masks.dtype):
            raise ValueError(f"masks are {backend.standardize_dtype(masks.dtype)}; they must be integers")
        if self.rot90 and height != width:
            raise ValueError(f"rot90 needs square images; these are {height} x {width} pixels")
        if (self.saturation or self.hue) and channels != 3:
            raise ValueError(f"saturation and hue need images of 3 channels; these have {channels}")

    def _coins(self, draws: dict[str, Any]) -> tuple[Any, Any, Any]:
        """Returns transposition, vertical and horizontal flip for `turn_and_flip`; None for what never is."""
        if not self.rot90:
            return (
                None,
                draws["vertical_flip"] if self.vertical_flip else None,
                draws["horizontal_flip"] if self.horizontal_flip else None,
            )
        turns = draws["rot90"]  # one counter-clockwise: transposed, then turned upside down
        return (
            ops.logical_or(turns == 1.0, turns == 3.0),
            ops.logical_xor(ops.logical_or(turns == 1.0, turns == 2.0), draws["vertical_flip"]),
            ops.logical_xor(turns >= 2.0, draws["horizontal_flip"]),
        )

    def _matrix(self, draws: dict[str, Any], size: tuple[int, int], *, about_centre: bool = False) -> Any:
        """Returns all moves of each pair in one matrix: flips and quarter turns, the rotation, the crop."""
        place_x, place_y = (0.0, 0.0) if about_centre else (draws["place_x"], draws["place_y"])
        moves = rotation_matrix(math.pi / 180.0 * draws["rotate"])
        moves = moves @ crop_matrix(draws["scale"], place_x, place_y, *size)
        return turn_and_flip_matrix(*self._coins(draws)) @ moves if self._moves else moves

    def _change_colors(self, values: Any, means: Any, draws: dict[str, Any]) -> Any:
        """Takes values around each image's mean, returns intensities, which may exceed 0 to 255."""
        if self.saturation or self.hue:
            matrices = color_matrix(draws["contrast"], draws["saturation"], draws["hue"])
            values = multiply_colors(values, matrices)
        elif self.contrast:
            values = values * draws["contrast"][:, None, None, None]
        return _add(values, means + 255.0 * draws["brightness"])

    def _degrade(self, values: Any, draws: dict[str, Any], seed: Any) -> Any:
        """Applies gamma, blur and noise to intensities."""
        if self.gamma:
            values = power(ops.clip(values, 0.0, 255.0), draws["gamma"][:, None, None, None])
        if self.blur:
            values = gaussian_blur(values, draws["blur"])
        if self.noise:
            frame = values.shape[1:]
            noise = normal(seed, _NOISE_STREAM, ops.shape(values)[0], math.prod(frame))
            values = values + ops.reshape(255.0 * draws["noise"][:, None] * noise, (-1, *frame))
        return values


def _add(images: Any, amounts: Any) -> Any:
    """Adds to each image (N, H, W, channels) its amount (N,)."""
    return images + amounts[:, None, None, None]
