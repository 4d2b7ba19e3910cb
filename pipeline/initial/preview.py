"""A sheet of images with their masks laid over them, to check names and values by eye."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from components.dataset.features import IGNORE_LABEL
from components.image_mask_example_gen.config import DatasetConfig
from components.image_mask_example_gen.layouts.scan import Entry
from components.image_mask_example_gen.masks import LabelMapping, open_mask
from components.image_mask_example_gen.pictures import read_file
from components.image_mask_example_gen.rejections import InputRejectedError, printable
from components.serving.model_labels import Labels
from components.serving.pictures import overlay
from pipeline.initial.errors import InitError
from pipeline.initial.images import load_rgb
from pipeline.initial.survey import Survey

_EXAMPLES: Final = 6
_COLUMNS: Final = 2
_LONGEST_SIDE: Final = 420
_GAP: Final = 12
_CAPTION: Final = 18
_IGNORED: Final = ("(ignored)", (255, 255, 255))
_CANDIDATES: Final = 300


def draw_preview(survey: Survey, dataset: DatasetConfig) -> Image.Image:
    """Draws a few examples, each as image and overlay, chosen so that they show as many classes as can be.

    A legend under each overlay tells its classes' colours, names and shares.

    Raises:
        InitError: the masks hold nothing that the dataset has classes for.
    """
    names, ignored = dataset.raw_labels()
    label_set = dataset.label_set()
    mapping = LabelMapping(names, ignored, label_set.names)
    labels = Labels((*label_set.names, _IGNORED[0]), (*label_set.palette, _IGNORED[1]), version=0)
    tiles, reason = [], ""
    for entry in _choose(survey):
        try:
            tiles.append(_tile(survey.root, entry, mapping, labels, dataset.max_pixels))
        except InputRejectedError as rejected:
            reason = f"{entry.mask}: {rejected.found}"
    if not tiles:
        raise InitError(f"the masks are none of {dataset.layout}: {reason}")
    return _sheet(tiles)


def _choose(survey: Survey) -> Sequence[Entry]:
    """Takes, one after the other, the mask with most labels that none before it has shown."""
    entries = {survey.root / entry.mask: entry for entry in survey.entries}
    rest = [(path, values) for path, values in survey.labels.contents[:_CANDIDATES] if path in entries]
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


def _tile(root: Path, entry: Entry, mapping: LabelMapping, labels: Labels, max_pixels: int) -> Image.Image:
    mask = open_mask(read_file(root / entry.mask), entry.mask, max_pixels).read(mapping.of_colors)
    found = mapping.class_ids(mask)
    class_ids = np.where(found == IGNORE_LABEL, len(labels.names) - 1, found).astype(np.uint8)
    share = np.bincount(class_ids.ravel(), minlength=len(labels.names)) / class_ids.size
    scale = _LONGEST_SIDE / max(mask.shape[:2])
    size = (max(1, round(mask.shape[1] * scale)), max(1, round(mask.shape[0] * scale)))
    small = load_rgb(root / entry.image, size).resize(size, Image.Resampling.BILINEAR)
    small_ids = Image.fromarray(class_ids).resize(size, Image.Resampling.NEAREST)
    laid_over = Image.open(io.BytesIO(overlay(_png(small), _png(small_ids), labels, share.tolist())))
    tile = Image.new("RGB", (2 * size[0], laid_over.height + _CAPTION), "white")
    text = printable(f"{entry.image}  +  {entry.mask}")
    ImageDraw.Draw(tile).text((0, 2), text, fill="black", font=ImageFont.load_default(12))
    tile.paste(small, (0, _CAPTION))
    tile.paste(laid_over, (size[0], _CAPTION))
    return tile


def _sheet(tiles: Sequence[Image.Image]) -> Image.Image:
    rows = [tiles[start : start + _COLUMNS] for start in range(0, len(tiles), _COLUMNS)]
    widths = [max(row[c].width for row in rows if c < len(row)) for c in range(len(rows[0]))]
    heights = [max(tile.height for tile in row) for row in rows]
    sheet = Image.new(
        "RGB",
        (sum(widths) + _GAP * (len(widths) + 1), sum(heights) + _GAP * (len(heights) + 1)),
        "white",
    )
    y = _GAP
    for row, height in zip(rows, heights, strict=True):
        x = _GAP
        for tile, width in zip(row, widths, strict=False):
            sheet.paste(tile, (x, y))
            x += width + _GAP
        y += height + _GAP
    return sheet


def _png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG", compress_level=1)
    return file.getvalue()
