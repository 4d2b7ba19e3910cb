"""What to try with a dataset: values for a recipe's keys, each with its reason."""

import math
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Final, NamedTuple

import numpy as np

from components.image_mask_example_gen.splits import OFFICIAL
from models.options import stride
from pipeline.init import InitError
from pipeline.init.inspection import Dataset, Inspection, by_reason
from pipeline.recipe_yaml import write_yaml

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
_MOST_DAMAGED: Final = 0.05
_WAY_TO_PERFECT: Final = 0.25


class Setting(NamedTuple):
    """A key's value, and what stands in the recipe to explain it."""

    yaml: str
    """The value as YAML writes it."""
    reason: str = ""
    """Behind it."""
    note: str = ""
    """In lines of its own above it, a sentence."""


Proposals = Mapping[str, Setting]
"""By the recipe's dotted keys, in the order in which a recipe has them."""


def propose(dataset: Dataset) -> Proposals:
    """Proposes settings.

    Raises:
        InitError: the pairs are too few to be divided into splits.
    """
    found = dataset.inspection
    sizes = np.array([found.images[entry.image].size for entry in found.entries])
    levels = _levels(int(np.median(sizes.min(axis=1))))
    blocks = (
        _dataset(dataset),
        _transform(found, sizes, stride(levels)),
        _model(levels),
        _augmentation(_channels(found).yaml),
        _training(len(dataset.division["train"])),
        _evaluation(dataset),
    )
    return dict(chain.from_iterable(blocks))


def _dataset(dataset: Dataset) -> Iterator[tuple[str, Setting]]:
    found = dataset.inspection
    declared = dataset.keys.get("splits", {})
    shares = {"val": "chooses the epoch that is exported", "test": "only the evaluation sees it"}
    for split, entries in dataset.division.items():
        if split in declared:
            reason = f"{len(entries)} pairs, as the data says"
            yield f"dataset.splits.{split}", Setting(write_yaml(declared[split]), reason)
        elif split in shares and not dataset.origins.get(split, "").startswith(OFFICIAL):
            yield f"dataset.splits.{split}", Setting("0.15", shares[split])
    if (group := dataset.settings.source.group) is not None:
        yield "dataset.splits.group", Setting(write_yaml(group), "what the dataset keeps together")
    elif found.frames.group is not None:
        note = f"{found.frames.why}: {found.frames.groups} groups stay together."
        yield "dataset.splits.group", Setting(write_yaml(found.frames.group), note=note)
    if found.orientation.exif is not None:
        turned = {"upright": "EXIF orientations are applied", "stored": "EXIF orientations are not applied"}
        reason = f"{turned[found.orientation.exif]}, as the masks fit"
        yield "dataset.exif", Setting(found.orientation.exif, reason)
    if found.value_range is not None:
        low, high = found.value_range
        reason = "become 0 and 255: what the sample's values lie between, but for 0.1 % at each end"
        yield "dataset.value_range", Setting(f"[{low}, {high}]", reason)
    allowed = dataset.settings.max_rejected_fraction
    if found.damaged_fraction > allowed:
        # Rounded up, with room for as much again of what only reading every pixel would tell.
        enough = math.ceil(round(100 * (found.damaged_fraction + allowed), 6)) / 100
        if found.damaged_fraction > _MOST_DAMAGED:
            raise InitError(_too_much_damaged(found))
        reason = f"{found.damaged} files cannot be used, see above; mend them and lower this"
        yield "dataset.max_rejected_fraction", Setting(f"{min(_MOST_DAMAGED, enough):g}", reason)


def _too_much_damaged(found: Inspection) -> str:
    """What to do about it; so much points to a misunderstanding of the data rather than to bad files."""
    reasons = "; ".join(
        f"{len(items)} {reason} (such as {items[0].file}: {items[0].found})"
        for reason, items in by_reason(found.set_aside)
        if items[0].reason.is_damage
    )
    return (
        f"{found.damaged} of {found.damaged + len(found.entries)} pairs cannot be used, more than the "
        f"{_MOST_DAMAGED:.0%} that a recipe may pass over: {reasons}. Mend these files, move them elsewhere, "
        "or write a recipe whose patterns fit (docs/own-data.md)"
    )


def _transform(found: Inspection, sizes: np.ndarray, step: int) -> Iterator[tuple[str, Setting]]:
    """``sizes`` are widths and heights, integers [images, 2]; ``step`` is the network's stride."""
    aspects = sizes[:, 0] / sizes[:, 1]
    # Of all but the tenth at each end.
    low, high = np.quantile(aspects, 0.1), np.quantile(aspects, 0.9)
    one_shape = high <= low * _ONE_SHAPE
    # The images' shape, at most ``_PIXELS``, never enlarged, multiples of the stride.
    aspect = float(np.median(aspects)) if one_shape or not low < 1 < high else 1.0
    pixels = min(_PIXELS, float(np.median(sizes[:, 0] * sizes[:, 1])))
    height, width = (
        max(step, round(side / step) * step)
        for side in (math.sqrt(pixels / aspect), math.sqrt(pixels * aspect))
    )
    usual_width, usual_height = np.median(sizes, axis=0)
    factor = math.sqrt(usual_width * usual_height / (width * height))
    how = f"1/{factor:.1f} of it; more if small things matter" if factor > 1.05 else "its own size"
    usual = f"The usual image is {usual_width:.0f} x {usual_height:.0f}"
    note = f"{usual}: {how}; multiples of {step}, the stride of the network."
    yield "transform.height", Setting(str(height), note=note)
    yield "transform.width", Setting(str(width))
    yield "transform.channels", _channels(found)
    if one_shape:
        yield "transform.resize", Setting("stretch", "all images have (nearly) one shape")
    else:
        differ = f"shapes differ, width / height {low:.2f} … {high:.2f}: pads, stretches nothing"
        yield "transform.resize", Setting("letterbox", differ)
    yield "transform.normalization", _normalization(found)


def _channels(found: Inspection) -> Setting:
    headers = [found.images[entry.image] for entry in found.entries]
    if found.bands:
        return Setting(write_yaml(list(found.bands)), "the bands that the network gets, in this order")
    if all(header.is_gray for header in headers):
        return Setting("1", "all images are gray")
    if any(header.has_alpha for header in headers):
        if any(header.format == "TIFF" for header in headers):
            return Setting("3", "RGB; alpha is left out, [1, 2, 3, 4] reads it as a band such as infrared")
        return Setting("3", "RGB; alpha is left out, 4 would read it, too")
    return Setting("3", "RGB")


def _normalization(found: Inspection) -> Setting:
    if found.bands:
        return Setting("dataset", "bands differ in brightness: this makes mean 0, deviation 1 of each")
    mean, deviation = found.brightness.mean, found.brightness.deviation
    luma = f"luma {mean:.2f} ± {deviation:.2f} of 0 … 1"
    if deviation < _FLAT or not _DARK < mean < 1 - _DARK:
        return Setting("dataset", f"pixels are unusual, {luma}: this makes mean 0, deviation 1 of them")
    return Setting("signed", f"pixels -1 … 1; they are ordinary, {luma}")


def _levels(side: int) -> int:
    """As many as leave something to see at the deepest one; ``side`` is the shorter one, pixels."""
    levels = len(_FILTERS)
    while levels > 2 and side // stride(levels) < _SHORTEST_BOTTOM:
        levels -= 1
    return levels


def _model(levels: int) -> Iterator[tuple[str, Setting]]:
    reason = "a U-Net from scratch; the full size costs most and needs little"
    yield "model.filters", Setting(write_yaml(_FILTERS[:levels]), reason)
    yield "model.normalization", Setting("batch")
    yield "model.upsampling", Setting("bilinear")
    yield "model.head_convolution", Setting("false")


def _augmentation(channels: str) -> Iterator[tuple[str, Setting]]:
    yield (
        "augmentation.horizontal_flip",
        Setting("true", "false where left and right differ, as with letters"),
    )
    yield "augmentation.scale_crop", Setting("[0.8, 1.6]", "things nearer and farther than they were taken")
    yield "augmentation.brightness", Setting("0.12")
    yield "augmentation.contrast", Setting("0.2")
    if channels == "3":
        yield "augmentation.saturation", Setting("0.2")


def _training(images: int) -> Iterator[tuple[str, Setting]]:
    fewest, most = _EPOCHS
    epochs = min(most, max(fewest, round(_IMAGES_SEEN / images)))
    seen = f"{images} training images, seen {epochs * images:,} times in all"
    smallest, size = _BATCH_SIZES
    while size > smallest and images / size < _STEPS_AN_EPOCH:
        size //= 2
    steps = f"{math.ceil(images / size)} steps an epoch; with few images small batches take more steps"
    yield "training.epochs", Setting(str(epochs), seen)
    yield "training.batch_size", Setting(str(size), steps)
    yield "training.optimizer", Setting("adamw")
    yield "training.learning_rate", Setting("1e-3")
    yield "training.weight_decay", Setting("1e-2")
    yield "training.schedule", Setting("cosine", "falls to 0 by the last epoch")
    yield "training.gradient_clip_norm", Setting("5.0")
    yield "training.loss", Setting("{cross_entropy: 1, dice: 1}", "dice keeps small classes in sight")
    reason = "all epochs are trained, the best one on val is exported"
    yield "training.early_stopping_patience", Setting("null", reason)


def _evaluation(dataset: Dataset) -> Iterator[tuple[str, Setting]]:
    """A first bar: some way from the trivial model to a perfect one, on the classes that are not rare."""
    shares = dataset.class_shares()
    trivial = max(shares.values()) / len(shares)
    learnable = sum(share >= _LEARNABLE for share in shares.values()) / len(shares)
    bar = round(trivial + _WAY_TO_PERFECT * (1 - trivial) * learnable, 2)
    most = max(shares, key=lambda name: shares[name])
    reason = f"a model that says {most} everywhere has {trivial:.2f}; raise it to what you need"
    yield "evaluation.min_mean_iou", Setting(str(bar), reason)
    if slices := dataset.settings.source.slices:
        yield "evaluation.slices", Setting(write_yaml(slices), "the metrics again for each of its values")
