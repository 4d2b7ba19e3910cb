"""A picture of what the network makes of a few images: image, truth and prediction side by side."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from components.dataset.features import IGNORE_LABEL
from components.dataset.labels import LabelSet

_TILE = 192
"""Longer side of each tile, pixels."""
_NARROWEST = 72
"""What the longest title takes, pixels."""
_GAP = 8
_LINE = 22
_TITLES = ("image", "truth", "prediction")
_IGNORED_COLOR = (224, 224, 224)
_INK = (32, 32, 32)
_LEGEND_CLASSES = 24
"""A longer legend would be no help."""


def draw_panel(
    pairs: Sequence[tuple[np.ndarray, np.ndarray]], predictions: Sequence[np.ndarray], labels: LabelSet
) -> Image.Image:
    """Draws one row a pair, all of one size, and the classes' colours below.

    Args:
        pairs: uint8 images [height, width, channels] and uint8 class ids [height, width].
        predictions: uint8 class ids [height, width], one a pair.
        labels: the classes' names and colours.
    """
    height, width = pairs[0][1].shape
    scale = _TILE / max(height, width)
    tile = max(1, round(width * scale)), max(1, round(height * scale))
    column_width = max(tile[0], _NARROWEST) + _GAP
    across = _GAP + len(_TITLES) * column_width
    legend = _legend_lines(labels, across)
    top = _LINE + _GAP
    rows_end = top + len(pairs) * (tile[1] + _GAP)
    canvas = Image.new("RGB", (across, rows_end + len(legend) * _LINE), "white")
    draw = ImageDraw.Draw(canvas)
    font = _font()
    colors = _color_table(labels)

    for column, title in enumerate(_TITLES):
        draw.text((_GAP + column * column_width, _GAP // 2), title, _INK, font)
    for row, ((image, truth), predicted) in enumerate(zip(pairs, predictions, strict=True)):
        tiles = (
            Image.fromarray(_rgb(image)).resize(tile, Image.Resampling.BILINEAR),
            Image.fromarray(colors[truth]).resize(tile, Image.Resampling.NEAREST),
            Image.fromarray(colors[predicted]).resize(tile, Image.Resampling.NEAREST),
        )
        for column, picture in enumerate(tiles):
            canvas.paste(picture, (_GAP + column * column_width, top + row * (tile[1] + _GAP)))
    for line, items in enumerate(legend):
        y = rows_end + line * _LINE
        for x, name, color in items:
            draw.rectangle((x, y + 2, x + 12, y + 14), fill=color, outline=_INK)
            draw.text((x + 17, y), name, _INK, font)
    return canvas


def _legend_lines(labels: LabelSet, width: int) -> list[list[tuple[int, str, tuple[int, int, int]]]]:
    """Returns lines of (left edge, name, colour) that fit into ``width`` pixels."""
    if labels.num_classes > _LEGEND_CLASSES:
        return []
    font = _font()
    lines: list[list[tuple[int, str, tuple[int, int, int]]]] = [[]]
    x = _GAP
    for name, color in [*zip(labels.names, labels.palette, strict=True), ("ignored", _IGNORED_COLOR)]:
        taken = 17 + int(font.getlength(name)) + 2 * _GAP
        if lines[-1] and x + taken > width:
            lines.append([])
            x = _GAP
        lines[-1].append((x, name, color))
        x += taken
    return lines


def _color_table(labels: LabelSet) -> np.ndarray:
    """Returns the colour of every value that class ids may have, uint8 [256, 3]."""
    table = np.zeros((256, 3), np.uint8)
    table[: labels.num_classes] = labels.palette
    table[IGNORE_LABEL] = _IGNORED_COLOR
    return table


def _rgb(image: np.ndarray) -> np.ndarray:
    """The image as RGB: grey is repeated, channels after the third are not shown."""
    return np.repeat(image, 3, axis=2) if image.shape[2] < 3 else image[..., :3]


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=13)
