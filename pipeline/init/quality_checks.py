"""What deserves a look before a model is trained on the data, a line each."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Final

from PIL import Image

from components.image_mask_example_gen.label_mapping import raw_word
from pipeline.init.files import Header, some
from pipeline.init.inspection import Dataset, Inspection, by_reason

_SHOWN: Final = 3
_RARE: Final = 0.001
_NEARLY_ALL: Final = 0.995
_FEW_MASKS: Final = 10
_COPY: Final = re.compile(r"([ _-]*\(\d+\)|[ _-]+copy(?:[ _-]*\d+)?|[ _-]*~\d*)$", re.IGNORECASE)


def check_quality(dataset: Dataset) -> list[str]:
    """Returns what was found odd, most weighty first."""
    found = dataset.inspection
    return [
        *_set_aside(found),
        *_masks(dataset),
        *_images(found),
        *_classes(dataset),
        *_splits(dataset),
        *_names(found),
        *dataset.notes,
    ]


def _set_aside(found: Inspection) -> Iterator[str]:
    for reason, items in by_reason(found.set_aside):
        files = some(item.file for item in items)
        yield f"{len(items)} files set aside, {reason}: {files} ({items[0].found})"


def _masks(dataset: Dataset) -> Iterator[str]:
    found, settings = dataset.inspection, dataset.settings
    masks = {entry.mask: found.masks[entry.mask] for entry in found.entries}
    lossy = [path for path, header in masks.items() if header.format in ("JPEG", "MPO")]
    if lossy and not settings.label_tolerance:
        yield f"{len(lossy)} masks are JPEG, which blurs values; those read are clean; save them as PNG"
    alpha = [path for path, header in masks.items() if header.has_alpha]
    if alpha and settings.mask_values != "alpha":
        yield f"{len(alpha)} masks have alpha, which is left out: {some(alpha)}"
    encodings = Counter(map(_encoding, masks.values())).most_common()
    if len(encodings) > 1:
        counts = ", ".join(f"{count} {kind}" for kind, count in encodings)
        yield f"masks are written in several ways: {counts}"


def _encoding(header: Header) -> str:
    if header.format == "MAT":
        return "MATLAB matrix"
    kinds = {"1": "1-bit", "L": "gray", "LA": "gray", "P": "palette", "PA": "palette"}
    return "16-bit" if header.is_deep else kinds.get(header.mode, "RGB")


def _images(found: Inspection) -> Iterator[str]:
    images = {entry.image: found.images[entry.image] for entry in found.entries}
    if found.orientation.found and not found.orientation.in_doubt:
        yield found.orientation.found
    gray = [path for path, header in images.items() if header.is_gray]
    if gray and len(gray) < len(images):
        yield f"{len(gray)} of {len(images)} images are gray, the rest in colour: {some(gray)}"
    if alpha := [path for path, header in images.items() if header.has_alpha]:
        yield f"{len(alpha)} of {len(images)} images have alpha: {some(alpha)}"
    read = len(found.bands) or (1 if len(gray) == len(images) else 3)
    if many := [path for path, header in images.items() if len(header.all_bands) not in (1, 3)]:
        counts = {len(images[path].all_bands) for path in many}
        part = f"the first {read}" if max(counts) > read else "all"
        bands = f"{'up to ' if len(counts) > 1 else ''}{max(counts)} bands"
        yield f"{len(many)} images have {bands}, of which {part} are read: {some(many)}"
    if numbers := [path for path, header in images.items() if header.of_numbers]:
        made = "nothing finite was found in those read, so set which become 0 and 255, dataset.value_range"
        if found.value_range is not None:
            low, high = found.value_range
            made = (
                f"one range for all bands makes 8 bits of them, {low} … {high} where most values are, "
                "and 0 of what is not a number"
            )
        yield f"{len(numbers)} images hold floats or other numbers; {made}: {some(numbers)}"
    if deep := [path for path, header in images.items() if header.is_deep and not header.of_numbers]:
        seen = "their upper 8"
        if found.value_range is not None:
            low, high = found.value_range
            seen = f"8, spread between {low} and {high}, where their values are"
        yield (
            f"{len(deep)} images have more than 8 bits a channel, of which the network sees {seen}: "
            f"{some(deep)}"
        )
    usual = Image.registered_extensions()
    named = {path: usual.get(PurePosixPath(path).suffix.lower()) for path in images}
    if wrong := [
        path
        for path, header in images.items()
        # A picture within a record has no name of its own.
        if "#" not in path and header.format.replace("MPO", "JPEG") != named[path]
    ]:
        kind = images[wrong[0]].format
        yield f"{len(wrong)} images are not what their names say: {some(wrong)} (the first is {kind})"


def _classes(dataset: Dataset) -> Iterator[str]:
    labels = dataset.inspection.labels
    names, ignored = dataset.settings.raw_labels()
    if outside := [value for value in labels.values if value not in names and value not in ignored]:
        strays = some(map(raw_word, outside))
        yield f"values that are no class and not ignored: {strays}; the masks that hold them will be rejected"
    shares = dataset.class_shares()
    spelt: dict[str, list[str]] = defaultdict(list)
    for name in shares:
        spelt["".join(re.findall(r"\w", name.casefold())).replace("_", "")].append(name)
    for alike in spelt.values():
        if len(alike) > 1:
            names_alike = " and ".join(map(repr, alike))
            yield (
                f"{names_alike} differ in capitals or blanks alone: if they are one class, unite them in "
                "dataset.merge_classes"
            )
    masks: Counter[str] = Counter()
    for value, name in names.items():
        masks[name] += labels.masks.get(value, 0)
    most = max(shares, key=lambda name: shares[name])
    if shares[most] > _NEARLY_ALL:
        yield (
            f"{most} covers {shares[most]:.2%} of the pixels: is another channel meant, or another file? "
            "Look at the preview"
        )
    if absent := [name for name in shares if not masks[name]]:
        yield f"in no mask read: {some(absent)} ({len(absent)} classes)"
    rare = [name for name in shares if masks[name] and (shares[name] < _RARE or masks[name] < _FEW_MASKS)]
    if rare and len(dataset.inspection.entries) > _FEW_MASKS:
        listed = [f"{name} ({shares[name]:.2%} of the pixels, in {masks[name]} masks)" for name in rare]
        yield f"{len(rare)} classes are rare, and may be absent from a split: {some(listed)}"


def _splits(dataset: Dataset) -> Iterator[str]:
    """Classes that a split lacks, where every mask was read."""
    found = dataset.inspection
    contents = dict(found.labels.contents)
    if any(found.root / entry.mask not in contents for entry in found.entries):
        return
    names, _ = dataset.settings.raw_labels()
    seen = {
        split: {names[raw] for entry in entries for raw in contents[found.root / entry.mask] if raw in names}
        for split, entries in dataset.division.items()
    }
    seed = "" if dataset.origins else " or another dataset.splits.seed"
    somewhere = [name for name in dataset.class_shares() if any(name in of for of in seen.values())]
    if untrained := [name for name in somewhere if name not in seen["train"]]:
        yield (
            f"{some(untrained)} is in no training image, and no number of epochs can teach it: give it more "
            f"images{seed}"
        )
    if untested := [name for name in somewhere if name not in seen["test"]]:
        yield (
            f"{some(untested)} is in no test image, and every model will be refused: give it more "
            f"images{seed}, or list it in evaluation.allow_unmeasured_classes"
        )


def _names(found: Inspection) -> Iterator[str]:
    alike: dict[str, list[str]] = defaultdict(list)
    originals = set()
    for entry in found.entries:
        path = PurePosixPath(entry.image)
        name = _COPY.sub("", path.stem)
        alike[f"{path.parent}/{name}".lower()].append(entry.image)
        originals |= {f"{path.parent}/{name}".lower()} if name == path.stem else set()
    # Without one that it could be a copy of, "benign (1)" is a name like any other.
    if copies := [names for name, names in alike.items() if len(names) > 1 and name in originals]:
        shown = "; ".join(some(names) for names in copies[:_SHOWN])
        yield f"{len(copies)} names occur nearly twice, are these copies? {shown}"
    if found.frames.found and found.frames.group is None:
        yield (
            f"{found.frames.why}, but their names form no groups to be divided: train and test will share "
            "scenes unless you set dataset.splits.group"
        )
    if parted := found.frames.parted:
        videos = "video lies" if len(parted) == 1 else "videos lie"
        yield (
            f"{len(parted)} {videos} in several splits ({some(parted)}), as whole ones are too few or too "
            "unequal to be divided: the test flatters the model"
        )
