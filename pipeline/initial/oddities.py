"""What deserves a look before a model is trained on it, a line each."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePosixPath
from typing import Final

from components.image_mask_example_gen.config import DatasetConfig
from components.image_mask_example_gen.report import printable
from pipeline.initial.headers import Header
from pipeline.initial.labels import word
from pipeline.initial.proposals import class_shares
from pipeline.initial.survey import Survey

_SHOWN: Final = 3
_RARE: Final = 0.001
_FEW_MASKS: Final = 10
_FORMATS: Final = {
    "JPEG": (".jpg", ".jpeg"),
    "MPO": (".jpg", ".jpeg"),
    "PNG": (".png",),
    "GIF": (".gif",),
    "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
}
_COPY: Final = re.compile(r"([ _-]*\(\d+\)|[ _-]+copy(?:[ _-]*\d+)?|[ _-]*~\d*)$", re.IGNORECASE)


def find_oddities(survey: Survey, dataset: DatasetConfig) -> list[str]:
    """Returns what was found odd, most weighty first."""
    return [
        *_set_aside(survey),
        *_mask_headers(survey),
        *_image_headers(survey),
        *_classes(survey, dataset),
        *_names(survey),
        *_frames(survey),
    ]


def some(names: Iterable[str]) -> str:
    """The first few of the names, printable."""
    names = list(names)
    return ", ".join(map(printable, names[:_SHOWN])) + (", …" if len(names) > _SHOWN else "")


def _set_aside(survey: Survey) -> Iterator[str]:
    by_reason = defaultdict(list)
    for item in survey.set_aside:
        by_reason[str(item.reason)].append(item)
    for reason, items in sorted(by_reason.items(), key=lambda pair: -len(pair[1])):
        files = some(item.file for item in items)
        yield f"{len(items)} files set aside, {reason}: {files} ({items[0].found})"


def _mask_headers(survey: Survey) -> Iterator[str]:
    masks = {entry.mask: survey.masks[entry.mask] for entry in survey.entries}
    lossy = [path for path, header in masks.items() if header.format in ("JPEG", "MPO")]
    if lossy:
        yield f"{len(lossy)} masks are JPEG, which blurs values; those read are clean; save them as PNG"
    if alpha := [path for path, header in masks.items() if header.has_alpha]:
        yield f"{len(alpha)} masks have alpha, which is left out: {some(alpha)}"
    if len({_encoding(header) for header in masks.values()}) > 1:
        counts = Counter(_encoding(header) for header in masks.values()).most_common()
        yield f"masks are written in several ways: {', '.join(f'{count} {kind}' for kind, count in counts)}"


def _encoding(header: Header) -> str:
    if header.format == "MAT":
        return "MATLAB matrix"
    kinds = {"1": "1-bit", "L": "gray", "LA": "gray", "P": "palette", "PA": "palette"}
    return "16-bit" if header.is_deep else kinds.get(header.mode, "RGB")


def _image_headers(survey: Survey) -> Iterator[str]:
    images = {entry.image: survey.images[entry.image] for entry in survey.entries}
    if turned := [path for path, header in images.items() if header.orientation not in (0, 1)]:
        yield (
            f"{len(turned)} images have an EXIF orientation, which nothing here applies: pixels are taken as "
            f"stored, as their masks fit: {some(turned)}"
        )
    gray = [path for path, header in images.items() if header.is_gray]
    if gray and len(gray) < len(images):
        yield f"{len(gray)} of {len(images)} images are gray, the rest in colour: {some(gray)}"
    if alpha := [path for path, header in images.items() if header.has_alpha]:
        yield f"{len(alpha)} of {len(images)} images have alpha: {some(alpha)}"
    if deep := [path for path, header in images.items() if header.is_deep]:
        yield f"{len(deep)} images have 16 bits a pixel, of which the network sees 8: {some(deep)}"
    named = {path: _FORMATS.get(header.format, ()) for path, header in images.items()}
    wrong = [path for path, ends in named.items() if ends and not path.lower().endswith(ends)]
    if wrong:
        kind = images[wrong[0]].format
        yield f"{len(wrong)} images are not what their names say: {some(wrong)} (the first is {kind})"


def _classes(survey: Survey, dataset: DatasetConfig) -> Iterator[str]:
    names, ignored = dataset.raw_labels()
    if outside := [value for value in survey.labels.values if value not in names and value not in ignored]:
        strays = some(map(word, outside))
        yield f"values that are no class and not ignored: {strays}; the masks that hold them will be rejected"
    shares = class_shares(survey, dataset)
    masks = {name: survey.labels.masks.get(value, 0) for value, name in names.items()}
    absent = [name for name in shares if not masks[name]]
    if absent:
        yield f"in no mask read: {some(absent)} ({len(absent)} classes)"
    rare = [name for name in shares if masks[name] and (shares[name] < _RARE or masks[name] < _FEW_MASKS)]
    if rare and len(survey.entries) > _FEW_MASKS:
        listed = [f"{name} ({shares[name]:.2%} of the pixels, in {masks[name]} masks)" for name in rare]
        yield f"{len(rare)} classes are rare, and may be absent from a split: {some(listed)}"


def _names(survey: Survey) -> Iterator[str]:
    alike: dict[str, list[str]] = defaultdict(list)
    for entry in survey.entries:
        path = PurePosixPath(entry.image)
        alike[f"{path.parent}/{_COPY.sub('', path.stem)}".lower()].append(entry.image)
    pairs = [names for names in alike.values() if len(names) > 1]
    if pairs:
        shown = "; ".join(some(names) for names in pairs[:_SHOWN])
        yield f"{len(pairs)} names occur nearly twice, are these copies? {shown}"


def _frames(survey: Survey) -> Iterator[str]:
    if survey.sequences.found and survey.sequences.group is None:
        yield (
            "neighbours by name look alike, as frames of a video, but their names form no groups: train and "
            "test will share scenes unless you set dataset.splits.group"
        )


def shown_sizes(sizes: Sequence[tuple[tuple[int, int], int]]) -> str:
    """Sizes and how many images have each, for people."""
    return ", ".join(f"{width} x {height} ({count})" for (width, height), count in sizes)
