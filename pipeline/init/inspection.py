"""What a dataset holds, found out before a recipe is proposed: all headers, and a sample of the pixels."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any, Final

from components.errors import StageError
from components.image_mask_example_gen.config import DatasetConfig
from components.image_mask_example_gen.files import ANY_SIZE, InputRejectedError
from components.image_mask_example_gen.layouts.folder import Folder
from components.image_mask_example_gen.layouts.layout import Entry, Layout
from components.image_mask_example_gen.mask import Mask
from components.image_mask_example_gen.plan import assign_splits, stable_rank
from components.image_mask_example_gen.report import Reason, Rejection
from components.imaging.deep import range_to_set
from components.imaging.reading import FEWEST_LEVELS, FULL_RANGE, levels
from pipeline.init import InitError
from pipeline.init.classes import Labels
from pipeline.init.files import Header, in_threads, read_headers, read_size
from pipeline.init.groups import Frames, find_frames
from pipeline.init.images import MAX_PIXELS, Brightness, read_brightness, read_used_range
from pipeline.init.label_values import RawLabels, looks_like_masks, read_raw_labels
from pipeline.init.orientation import Orientation, TurnedPair, find_orientation

_FEWEST_PAIRS: Final = 3
"""One for each split."""
_MOST_MASKS: Final = 1000
"""Of a label in 1 % of the masks, what dataset.max_rejected_fraction forgives by itself, a sample this
large misses fewer than one in ten thousand."""
_FEWEST_MASKS: Final = 200
_MASK_PIXELS: Final = 300_000_000
"""More than this is read only of the first ``_FEWEST_MASKS``."""
_NO_IMAGE_MODES: Final = ("I", "F")


@dataclass(frozen=True)
class Inspection:
    """What was found; paths are relative to ``root``."""

    root: Path
    entries: tuple[Entry, ...]
    """Pairs that fit together as far as their headers tell."""
    set_aside: tuple[Rejection, ...]
    """What the ingestion will reject, or leave out as the dataset's own lists do."""
    images: dict[str, Header]
    """Of every image in ``entries``, upright where ``orientation`` says that EXIF is applied."""
    masks: dict[str, Header]
    labels: RawLabels
    brightness: Brightness
    frames: Frames
    orientation: Orientation
    """Of the images that EXIF turns."""
    all_masks_read: bool
    """Whether no mask is outside of the sample."""
    value_range: tuple[float, float] | None = None
    """What values the images of more than 8 bits a channel use, where those are few of the levels that a
    network would see, or no unsigned integers of 16 bits."""

    @property
    def bands(self) -> tuple[int, ...]:
        """Those that every image has, alpha left out; empty where gray or RGB says it."""
        headers = {self.images[entry.image] for entry in self.entries}
        shared = min((header.all_bands for header in headers), key=len)
        return shared if len(shared) not in (1, 3) else ()

    @property
    def damaged(self) -> int:
        """Files that count against ``dataset.max_rejected_fraction``."""
        return sum(item.reason.is_damage for item in self.set_aside)

    @property
    def damaged_fraction(self) -> float:
        """As the ingestion reckons it, as far as headers tell."""
        return self.damaged / (len(self.entries) + self.damaged)

    def shown_sizes(self, rest: str = "sizes") -> str:
        """The images' most frequent sizes and how many images have each, for people."""
        sizes = Counter(self.images[entry.image].size for entry in self.entries)
        most = ", ".join(f"{width} x {height} ({count})" for (width, height), count in sizes.most_common(3))
        return f"{most}, … {len(sizes)} {rest}" if len(sizes) > 3 else most


@dataclass(frozen=True)
class Dataset:
    """What is known of a dataset once it has been looked at, and its masks have a meaning."""

    keys: Mapping[str, Any]
    """Of the recipe's ``dataset`` block, but for what is proposed."""
    settings: DatasetConfig
    """The same as settings."""
    inspection: Inspection
    labels: Labels | None = None
    """None where the layout knows what its masks mean."""
    notes: tuple[str, ...] = ()
    """What deserves a look besides, a line each."""
    origins: Mapping[str, str] = field(default_factory=dict)
    """What decides about each split; empty where the data declares none."""

    @property
    def division(self) -> dict[str, list[Entry]]:
        """The pairs of each split, as the proposals divide them.

        Raises:
            InitError: they are too few.
        """
        group = self.settings.source.group or self.inspection.frames.group
        splits = self.settings.splits.model_copy(update={"group": group})
        try:
            return assign_splits(self.inspection.entries, splits)
        except StageError as error:
            raise InitError(str(error)) from None

    def class_shares(self) -> dict[str, float]:
        """Returns the part of the counted pixels that each class has."""
        names, _ = self.settings.raw_labels()
        pixels = dict.fromkeys(self.settings.label_set().names, 0)
        for value, name in names.items():
            pixels[name] += self.inspection.labels.pixels.get(value, 0)
        total = sum(pixels.values())
        return {name: count / total if total else 0.0 for name, count in pixels.items()}


def inspect_pairs(
    layout: Layout,
    root: Path,
    entries: Sequence[Entry],
    set_aside: Sequence[Rejection],
    *,
    as_colors: bool = False,
) -> Inspection:
    """Reads the headers of all pairs and the pixels of a sample.

    Masks of numbers are read ``as_colors``, too, where that is told.

    Raises:
        InitError: too few pairs fit together, or the masks are none.
    """
    image_files = (layout.image_file(root, entry) for entry in entries)
    image_headers = read_headers(image_files, MAX_PIXELS, of_images=True)
    if layout.masks_are_files:
        mask_headers = _read_mask_headers(root, entries)
    else:
        openers = (partial(layout.open_mask, root, entry, MAX_PIXELS) for entry in entries)
        mask_headers = in_threads(read_size, openers)
    pairs = list(zip(entries, image_headers, mask_headers, strict=True))
    orientation = find_orientation(layout, root, list(_turned(pairs)))
    good: list[Entry] = []
    rejected: list[Rejection] = []
    images: dict[str, Header] = {}
    masks: dict[str, Header] = {}
    for entry, image, mask in pairs:
        if orientation.exif == "upright" and isinstance(image, Header):
            image = image.upright()
        if isinstance(image, InputRejectedError):
            rejected.append(Rejection(entry.image, image.reason, image.found))
        elif isinstance(mask, InputRejectedError):
            rejected.append(Rejection(entry.mask, mask.reason, mask.found))
        elif problem := _problem(entry, image, mask):
            rejected.append(problem)
        else:
            good.append(entry)
            images[entry.image], masks[entry.mask] = image, mask
    _check_enough(good, rejected)
    sample = sorted(good, key=lambda entry: stable_rank(entry.key, "survey"))
    sample = sample[: _affordable(masks[entry.mask] for entry in sample)]
    all_masks_read = len(sample) == len(good)
    entry_of = {root / entry.mask: entry for entry in sample}
    mask_paths = [*entry_of]
    image_paths = [layout.image_file(root, entry) for entry in sample]
    formats = {path: masks[entry.mask].format for path, entry in entry_of.items()}

    def opener(path: Path) -> Mask:
        return layout.open_mask(root, entry_of[path], ANY_SIZE)

    try:
        known = not isinstance(layout, Folder)
        labels = read_raw_labels(mask_paths, formats, opener, fixed=known, as_colors=as_colors)
    except InitError as error:
        swapped = "; the images do look like masks: were the two folders swapped?"
        raise InitError(f"{error}{swapped if looks_like_masks(image_paths) else ''}") from None
    deep = [path for entry, path in zip(sample, image_paths, strict=True) if images[entry.image].is_deep]
    used = read_used_range(deep)
    value_range = None
    if used is not None and (
        any(images[entry.image].of_numbers for entry in sample) or levels(used, FULL_RANGE) < FEWEST_LEVELS
    ):
        value_range = range_to_set(used)
    brightness = read_brightness(image_paths, value_range)
    bad_masks, bad_images = dict(labels.unreadable), set(brightness.unreadable)
    damaged = set()
    for entry in sample:
        if reason := bad_masks.get(root / entry.mask):
            rejected.append(Rejection(entry.mask, reason.reason, reason.found))
        elif layout.image_file(root, entry) in bad_images:
            rejected.append(Rejection(entry.image, Reason.NOT_DECODABLE, "its pixels cannot be read"))
        else:
            continue
        damaged.add(entry)
    good = [entry for entry in good if entry not in damaged]
    _check_enough(good, rejected)
    return Inspection(
        root=root,
        entries=tuple(good),
        set_aside=(*set_aside, *rejected),
        images=images,
        masks=masks,
        labels=labels,
        brightness=brightness,
        frames=find_frames(layout, root, _to_be_divided(good)),
        orientation=orientation,
        all_masks_read=all_masks_read,
        value_range=value_range,
    )


def _turned(
    pairs: Sequence[tuple[Entry, Header | InputRejectedError, Header | InputRejectedError]],
) -> Iterator[TurnedPair]:
    for entry, image, mask in pairs:
        if not isinstance(image, Header) or not isinstance(mask, Header) or image.orientation == 1:
            continue
        if mask.size in (image.size, image.upright_size):
            yield TurnedPair(entry, image, mask)


def _read_mask_headers(root: Path, entries: Sequence[Entry]) -> list[Header | InputRejectedError]:
    """Of masks that are merged, the first file's: the others must have its size."""
    files = read_headers((root / path for entry in entries for path in entry.mask_files), MAX_PIXELS)
    headers: list[Header | InputRejectedError] = []
    start = 0
    for entry in entries:
        first, *others = files[start : start + len(entry.mask_files)]
        start += len(entry.mask_files)
        for path, other in zip(entry.mask_files[1:], others, strict=True):
            if isinstance(first, Header) and isinstance(other, InputRejectedError):
                first = InputRejectedError(other.reason, f"{path}: {other.found}")
            elif isinstance(first, Header) and isinstance(other, Header) and other.size != first.size:
                found = (
                    f"{path} is {other.width} x {other.height} pixels, {first.width} x {first.height} this"
                )
                first = InputRejectedError(Reason.SIZES_DIFFER, found)
        headers.append(first)
    return headers


def _to_be_divided(entries: Sequence[Entry]) -> Sequence[Entry]:
    """The pairs of which val or test, or both, will be shares."""
    declared = {entry.official_split for entry in entries} & {"val", "test"}
    drawn = [entry for entry in entries if entry.official_split not in declared]
    return drawn if len(declared) < 2 else ()


def _affordable(headers: Iterable[Header]) -> int:
    """How many of the masks are read in seconds."""
    pixels = accumulate(header.width * header.height for header in headers)
    enough = sum(total <= _MASK_PIXELS for total in pixels)
    return min(_MOST_MASKS, max(_FEWEST_MASKS, enough))


def _problem(entry: Entry, image: Header, mask: Header) -> Rejection | None:
    if image.mode in _NO_IMAGE_MODES and (image.mode, image.format) != ("I", "PPM"):
        return Rejection(entry.image, Reason.NOT_DECODABLE, "32 bits a pixel; an image has 8 or 16 a channel")
    if mask.format == "TIFF" and mask.orientation != 1:
        return Rejection(entry.mask, Reason.NOT_DECODABLE, "TIFF with an orientation tag: turn its pixels")
    if image.size == mask.size:
        return None
    found = f"the mask is {mask.width} x {mask.height} pixels, the image {image.width} x {image.height}"
    if image.orientation != 1:
        found += f"; its EXIF says orientation {image.orientation}"
    return Rejection(entry.mask, Reason.SIZES_DIFFER, found)


def by_reason(rejected: Iterable[Rejection]) -> list[tuple[str, list[Rejection]]]:
    """What was set aside for each reason, the most frequent first."""
    groups: dict[str, list[Rejection]] = defaultdict(list)
    for item in rejected:
        groups[str(item.reason)].append(item)
    return sorted(groups.items(), key=lambda group: -len(group[1]))


def _check_enough(good: Sequence[Entry], rejected: Sequence[Rejection]) -> None:
    if len(good) >= _FEWEST_PAIRS:
        return
    reasons = ", ".join(f"{len(items)} {reason}" for reason, items in by_reason(rejected))
    why = f"; set aside: {reasons}" if reasons else ""
    example = f" ({rejected[0].file}: {rejected[0].found})" if rejected else ""
    raise InitError(
        f"{len(good)} usable pairs of image and mask, and {_FEWEST_PAIRS} are needed at least, "
        f"one each for train, val and test{why}{example}"
    )
