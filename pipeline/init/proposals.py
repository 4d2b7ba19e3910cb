"""What to try with a dataset: values for a recipe's keys, each with its reason."""

import math
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Final, NamedTuple

from components.image_mask_example_gen.splits import OFFICIAL
from components.imaging.reading import InputSize
from models.options import stride
from pipeline.init import InitError
from pipeline.init.input_size import PIXELS, ProposedInput
from pipeline.init.inspection import Dataset, Inspection, by_reason
from pipeline.recipe_yaml import write_yaml

_FILTERS: Final = (32, 64, 128, 256)
"""Of the levels below the full size, whose own are few or more."""
_FEW: Final = 8
_MORE: Final = 16
"""Poles and vessels need the full size, see docs/training.md."""
_IMAGES_SEEN: Final = {_FEW: 12_000, _MORE: 9_000}
"""Of 256 x 256 pixels, by the filters at full size: between the 3,750 of camvid_best and the 28,500 of
pets_best. A step of a window takes 0.19 and 0.21 s of processor time, so either trains in about 20 minutes on
two cores."""
_EPOCHS: Final = (10, 100)
_WINDOW_EPOCHS: Final = 30
_MOST_SMALLER: Final = 4
"""Times as many windows are seen where they are small."""
_STEPS_AN_EPOCH: Final = 15
_BATCH_SIZES: Final = (2, 16)
_STEP_PIXELS: Final = 4 * PIXELS
"""Of a step of windows."""
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


def propose(dataset: Dataset, chosen: ProposedInput) -> Proposals:
    """Proposes settings, where the network's input is chosen.

    Raises:
        InitError: the pairs are too few to be divided into splits.
    """
    found = dataset.inspection
    full_size = _FEW if chosen.usual.keeps_all else _MORE
    blocks = (
        _dataset(dataset),
        _transform(found, chosen),
        _model(full_size, chosen.levels),
        _augmentation(_channels(found).yaml, chosen),
        _training(len(dataset.division["train"]), full_size, chosen.size),
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
        note = f"{found.frames.why}; {found.frames.kept} stay together: {found.frames.groups} groups."
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


def _transform(found: Inspection, chosen: ProposedInput) -> Iterator[tuple[str, Setting]]:
    size, shape = chosen.size, chosen.shape
    yield "transform.height", Setting(str(size.height), note=_why(chosen))
    yield "transform.width", Setting(str(size.width))
    yield "transform.channels", _channels(found)
    if size.method == "native":
        yield "transform.resize", Setting("native", "windows: what is thin stays as it is")
        if size.scale != 1:
            enough = "of the pictures' sides: every class keeps what it needs"
            yield "transform.scale", Setting(f"{size.scale:g}", enough)
        yield "transform.overlap", Setting("0.5", "of neighbouring windows when a picture is segmented")
    elif shape.is_one:
        yield "transform.resize", Setting("stretch", "all images have (nearly) one shape")
    else:
        differ = f"shapes differ, width / height {shape.low:.2f} … {shape.high:.2f}: pads, stretches nothing"
        yield "transform.resize", Setting("letterbox", differ)
    yield "transform.normalization", _normalization(found)


def _why(chosen: ProposedInput) -> str:
    """Says why the input has its size."""
    size, shape = chosen.size, chosen.shape
    why = f"The usual image is {shape.width:.0f} x {shape.height:.0f}"
    if said := chosen.said:
        return f"{why}. {said}. Multiples of {stride(chosen.levels)}, the stride of the network."
    factor = math.sqrt(shape.width * shape.height / (size.width * size.height))
    how = f"1/{factor:.1f} of it" if factor > 1.05 else "its own size"
    return f"{why}: {how}; multiples of {stride(chosen.levels)}, the stride of the network."


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


def _model(full_size: int, levels: int) -> Iterator[tuple[str, Setting]]:
    reason = "a U-Net from scratch; the full size costs most"
    reason += " and needs little" if full_size == _FEW else ", and what is thin needs it"
    yield "model.filters", Setting(write_yaml((full_size, *_FILTERS)[:levels]), reason)
    yield "model.normalization", Setting("batch")
    yield "model.upsampling", Setting("bilinear")
    yield "model.head_convolution", Setting("false")


def _augmentation(channels: str, chosen: ProposedInput) -> Iterator[tuple[str, Setting]]:
    yield (
        "augmentation.horizontal_flip",
        Setting("true", "false where left and right differ, as with letters"),
    )
    if chosen.has_no_up:
        alike = "classes lie alike above and below; false where pictures have an up all the same"
        yield "augmentation.vertical_flip", Setting("true", alike)
        if chosen.size.height == chosen.size.width:
            yield "augmentation.rot90", Setting("true", "likewise")
        yield "augmentation.rotate", Setting("15")
    if chosen.is_native:
        yield "augmentation.scale_crop", Setting("[0.8, 1.25]", "little: what is thin shall not get lost")
    else:
        nearer = "things nearer and farther than they were taken"
        yield "augmentation.scale_crop", Setting("[0.8, 1.6]", nearer)
    yield "augmentation.brightness", Setting("0.12")
    yield "augmentation.contrast", Setting("0.2")
    if channels == "3":
        yield "augmentation.saturation", Setting("0.2")


def _training(images: int, full_size: int, size: InputSize) -> Iterator[tuple[str, Setting]]:
    pixels = size.height * size.width
    seen = _IMAGES_SEEN[full_size]
    smallest, largest = _BATCH_SIZES
    if size.method == "native":
        batch = largest
        while batch > smallest and batch * pixels > _STEP_PIXELS:
            batch //= 2
        windows = seen * min(_MOST_SMALLER, PIXELS / pixels)
        an_epoch = math.ceil(windows / _WINDOW_EPOCHS / batch) * batch
        shown = f"{images} training images, {_WINDOW_EPOCHS * an_epoch:,} windows of them in all"
        yield "training.epochs", Setting(str(_WINDOW_EPOCHS), shown)
        yield "training.windows_per_epoch", Setting(str(an_epoch))
        yield "training.foreground_windows", Setting("0.33", "of them around a pixel of a class, rare or not")
        yield "training.batch_size", Setting(str(batch))
    else:
        fewest, most = _EPOCHS
        epochs = min(most, max(fewest, round(seen * min(1, PIXELS / pixels) / images)))
        batch = largest
        while batch > smallest and (images / batch < _STEPS_AN_EPOCH or batch * pixels > largest * PIXELS):
            batch //= 2
        shown = f"{images} training images, seen {epochs * images:,} times in all"
        steps = f"{math.ceil(images / batch)} steps an epoch; with few images small batches take more steps"
        yield "training.epochs", Setting(str(epochs), shown)
        yield "training.batch_size", Setting(str(batch), steps)
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
