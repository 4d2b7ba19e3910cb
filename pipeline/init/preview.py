"""A sheet of images with their masks laid over them, to check names and values by eye."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from PIL import Image

from components.dataset.features import IGNORE_LABEL
from components.errors import printable
from components.image_mask_example_gen.files import InputRejectedError, naming_in_memory_error
from components.image_mask_example_gen.label_mapping import LabelMapping
from components.image_mask_example_gen.layouts.layout import Entry
from components.imaging.drawing import grid, labelled, text
from components.imaging.palette import Color
from pipeline.init import InitError
from pipeline.init.images import load_rgb
from pipeline.init.inspection import Dataset, Inspection

_EXAMPLES: Final = 6
_COLUMNS: Final = 2
_LONGEST_SIDE: Final = 420
_GAP: Final = 12
_CAPTION_SIZE: Final = 12
_IGNORED_NAME: Final = "(ignored)"
_IGNORED_COLOR: Final[Color] = (255, 255, 255)
_CANDIDATES: Final = 300


def draw_preview(dataset: Dataset) -> Image.Image:
    """Draws a few examples, each as image and overlay, chosen so that they show as many classes as can be.

    A legend under each overlay tells its classes' colours, names and shares.

    Raises:
        InitError: the masks hold nothing that the dataset has classes for.
    """
    names, ignored = dataset.settings.raw_labels()
    settings = dataset.settings
    mapping = LabelMapping(names, ignored, settings.label_set().names, settings.label_tolerance)
    tiles, reason = [], ""
    for entry in _choose(dataset.inspection):
        try:
            tiles.append(_tile(entry, dataset, mapping))
        except InputRejectedError as rejected:
            reason = f"{entry.mask}: {rejected.found}"
    if not tiles:
        raise InitError(f"the masks are none of {dataset.settings.layout}: {reason}")
    return grid([tiles[start : start + _COLUMNS] for start in range(0, len(tiles), _COLUMNS)], _GAP)


def _choose(found: Inspection) -> Sequence[Entry]:
    """Takes, one after the other, the mask with most labels that none before it has shown."""
    entries = {found.root / entry.mask: entry for entry in found.entries}
    rest = [(path, values) for path, values in found.labels.contents[:_CANDIDATES] if path in entries]
    chosen: list[Entry] = []
    shown: frozenset[object] = frozenset()
    while rest and len(chosen) < _EXAMPLES:
        if all(values <= shown for _, values in rest):
            shown = frozenset()
        best = max(rest, key=lambda item: len(item[1] - shown))
        rest.remove(best)
        chosen.append(entries[best[0]])
        shown |= best[1]
    return chosen


def _tile(entry: Entry, dataset: Dataset, mapping: LabelMapping) -> Image.Image:
    root, label_set = dataset.inspection.root, dataset.settings.label_set()
    # Ignored pixels are drawn as one more class.
    names, colors = (*label_set.names, _IGNORED_NAME), (*label_set.palette, _IGNORED_COLOR)
    layout = dataset.settings.source
    with naming_in_memory_error(str(root / entry.mask)):
        mask = layout.open_mask(root, entry, dataset.settings.max_pixels).read(mapping.of_colors)
        found = mapping.class_ids(mask)
    class_ids = np.where(found == IGNORE_LABEL, len(names) - 1, found).astype(np.uint8)
    share = np.bincount(class_ids.ravel(), minlength=len(names)) / class_ids.size
    scale = _LONGEST_SIDE / max(mask.shape[:2])
    size = (max(1, round(mask.shape[1] * scale)), max(1, round(mask.shape[0] * scale)))
    upright = dataset.inspection.orientation.exif == "upright"
    small = load_rgb(
        layout.image_file(root, entry),
        size,
        upright=upright,
        value_range=dataset.inspection.value_range,
    )
    small = small.resize(size, Image.Resampling.BILINEAR)
    small_ids = np.asarray(Image.fromarray(class_ids).resize(size, Image.Resampling.NEAREST))
    pair = grid([[small, labelled(small, small_ids, names, colors, share.tolist())]])
    caption = text(printable(f"{entry.image}  +  {entry.mask}"), _CAPTION_SIZE)
    return grid([[caption.crop((0, 0, min(caption.width, pair.width), caption.height))], [pair]])
