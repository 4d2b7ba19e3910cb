"""What to try with a dataset, each proposal with its reason."""

import math
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

import numpy as np

from components.errors import StageError
from components.image_mask_example_gen.config import DatasetConfig
from components.image_mask_example_gen.plan import assign_splits
from models.options import stride
from pipeline.initial.errors import InitError
from pipeline.initial.survey import Survey

T = TypeVar("T")

_PIXELS: Final = 256 * 256
"""Of the network's input: what the recipes for street scenes and pets take."""
_ONE_SHAPE: Final = 1.1
"""Aspect ratios within this factor are one shape."""
_FILTERS: Final = (8, 32, 64, 128, 256)
_SHORTEST_BOTTOM: Final = 4
"""Fewer pixels along a side at the deepest level show it no picture any more."""
_IMAGES_SEEN: Final = 12_000
"""Between the 3,750 of camvid_best and the 28,500 of pets_best, see docs/training.md."""
_EPOCHS: Final = (10, 100)
_STEPS_AN_EPOCH: Final = 15
_BATCH_SIZES: Final = (2, 16)
_FLAT: Final = 0.12
_DARK: Final = 0.15
"""Deviation of luma below this, or mean that far from black or white, is an unusual picture."""
_LEARNABLE: Final = 0.005
"""The share of pixels from which on a class is taken to be found by a first model."""
_WAY_TO_PERFECT: Final = 0.25


@dataclass(frozen=True)
class Because(Generic[T]):
    """A value and why it was chosen, for a comment."""

    value: T
    reason: str


@dataclass(frozen=True)
class Proposals:
    """The recipe's settings beyond what the masks mean."""

    max_rejected_fraction: Because[float] | None
    """None where the default will do."""
    group: Because[str] | None
    height: int
    width: int
    size_reason: str
    channels: Because[int]
    resize: Because[str]
    normalization: Because[str]
    filters: tuple[int, ...]
    epochs: Because[int]
    batch_size: Because[int]
    min_mean_iou: Because[float]
    slices: tuple[str, ...]


def propose(survey: Survey, dataset: DatasetConfig) -> Proposals:
    """Proposes settings.

    Args:
        survey: what was found.
        dataset: what the masks mean.

    Raises:
        InitError: the pairs are too few to be divided into splits.
    """
    shapes = np.array([survey.images[entry.image].size for entry in survey.entries])
    resize = _resize(shapes)
    levels = _levels(int(np.median(shapes.min(axis=1))))
    height, width = _input_size(shapes, resize.value, stride(levels))
    group = _group(survey)
    train = _training_images(survey, dataset, group)
    batch_size = _batch_size(train)
    return Proposals(
        max_rejected_fraction=_max_rejected_fraction(survey, dataset),
        group=group,
        height=height,
        width=width,
        size_reason=_size_reason(shapes, height, width, stride(levels)),
        channels=_channels(survey),
        resize=resize,
        normalization=_normalization(survey),
        filters=_FILTERS[:levels],
        epochs=_epochs(train),
        batch_size=batch_size,
        min_mean_iou=_min_mean_iou(class_shares(survey, dataset)),
        slices=dataset.source.slices,
    )


def class_shares(survey: Survey, dataset: DatasetConfig) -> dict[str, float]:
    """Returns the part of the counted pixels that each class has."""
    names, _ = dataset.raw_labels()
    pixels = dict.fromkeys(dataset.label_set().names, 0)
    for value, name in names.items():
        pixels[name] += survey.labels.pixels.get(value, 0)
    total = sum(pixels.values())
    return {name: count / total if total else 0.0 for name, count in pixels.items()}


def _resize(shapes: np.ndarray) -> Because[str]:
    low, high = _usual_aspects(shapes)
    if high <= low * _ONE_SHAPE:
        return Because("stretch", "all images have (nearly) one shape")
    shapes_differ = f"shapes differ, width / height {low:.2f} … {high:.2f}"
    return Because("letterbox", f"{shapes_differ}: pads, stretches nothing")


def _usual_aspects(shapes: np.ndarray) -> tuple[float, float]:
    """Width / height of all but the tenth at each end."""
    aspects = shapes[:, 0] / shapes[:, 1]
    return float(np.quantile(aspects, 0.1)), float(np.quantile(aspects, 0.9))


def _levels(side: int) -> int:
    """As many as leave something to see at the deepest one; ``side`` is the shorter one, pixels."""
    levels = len(_FILTERS)
    while levels > 2 and side // stride(levels) < _SHORTEST_BOTTOM:
        levels -= 1
    return levels


def _input_size(shapes: np.ndarray, resize: str, step: int) -> tuple[int, int]:
    """Height and width: the images' shape, at most ``_PIXELS``, never enlarged, multiples of the stride."""
    low, high = _usual_aspects(shapes)
    upright_and_flat = resize == "letterbox" and low < 1 < high
    aspect = 1.0 if upright_and_flat else float(np.median(shapes[:, 0] / shapes[:, 1]))
    pixels = min(_PIXELS, float(np.median(shapes[:, 0] * shapes[:, 1])))
    height, width = math.sqrt(pixels / aspect), math.sqrt(pixels * aspect)
    return tuple(max(step, round(side / step) * step) for side in (height, width))  # type: ignore[return-value]


def _size_reason(shapes: np.ndarray, height: int, width: int, step: int) -> str:
    usual_width, usual_height = np.median(shapes, axis=0)
    factor = math.sqrt(usual_width * usual_height / (width * height))
    how = f"1/{factor:.1f} of it; more if small things matter" if factor > 1.05 else "its own size"
    usual = f"{usual_width:.0f} x {usual_height:.0f}"
    return f"the usual image is {usual}: {how}; multiples of {step}, the stride"


def _channels(survey: Survey) -> Because[int]:
    headers = [survey.images[entry.image] for entry in survey.entries]
    if all(header.is_gray for header in headers):
        return Because(1, "all images are gray")
    if any(header.has_alpha for header in headers):
        return Because(3, "RGB; alpha is left out, 4 would read it, too")
    return Because(3, "RGB")


def _normalization(survey: Survey) -> Because[str]:
    seen = survey.brightness
    figures = f"luma {seen.mean:.2f} ± {seen.deviation:.2f} of 0 … 1"
    if seen.deviation < _FLAT or not _DARK < seen.mean < 1 - _DARK:
        return Because("dataset", f"pixels are unusual, {figures}: this makes mean 0, deviation 1 of them")
    return Because("signed", f"pixels -1 … 1; they are ordinary, {figures}")


def _max_rejected_fraction(survey: Survey, dataset: DatasetConfig) -> Because[float] | None:
    if survey.damaged_fraction <= dataset.max_rejected_fraction:
        return None
    # Rounded up, with room for as much again of what only reading every pixel would tell.
    fraction = survey.damaged_fraction + dataset.max_rejected_fraction
    enough = min(1.0, math.ceil(round(100 * fraction, 6)) / 100)
    return Because(enough, f"{survey.damaged} files cannot be used, see above; mend them and lower this")


def _group(survey: Survey) -> Because[str] | None:
    sequences = survey.sequences
    if sequences.group is None:
        return None
    return Because(
        sequences.group,
        f"neighbours by name look alike, as frames of a video: {sequences.groups} groups stay together",
    )


def _training_images(survey: Survey, dataset: DatasetConfig, group: Because[str] | None) -> int:
    splits = dataset.splits.model_copy(update={"group": group and group.value})
    try:
        return len(assign_splits(survey.entries, splits)["train"])
    except StageError as error:
        raise InitError(str(error)) from None


def _batch_size(train: int) -> Because[int]:
    smallest, largest = _BATCH_SIZES
    size = largest
    while size > smallest and train / size < _STEPS_AN_EPOCH:
        size //= 2
    steps = math.ceil(train / size)
    return Because(size, f"{steps} steps an epoch; with few images small batches take more steps")


def _epochs(train: int) -> Because[int]:
    fewest, most = _EPOCHS
    epochs = min(most, max(fewest, round(_IMAGES_SEEN / train)))
    return Because(epochs, f"{train} training images, seen {epochs * train:,} times in all")


def _min_mean_iou(shares: dict[str, float]) -> Because[float]:
    """A first bar: some way from the trivial model to a perfect one, on the classes that are not rare."""
    trivial = max(shares.values()) / len(shares)
    learnable = sum(share >= _LEARNABLE for share in shares.values()) / len(shares)
    bar = trivial + _WAY_TO_PERFECT * (1 - trivial) * learnable
    reason = f"a model that says {max(shares, key=lambda name: shares[name])} everywhere has {trivial:.2f}"
    return Because(round(bar, 2), f"{reason}; raise it to what you need")
