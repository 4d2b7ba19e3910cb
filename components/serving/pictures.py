"""What people look at: masks with a palette, and masks laid over their images."""

import importlib.util
import io
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from PIL import ImageDraw, ImageFont

from components.pillow import Image
from components.serving.model_labels import Color, Labels

_PNG_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_GRAYSCALE, _PALETTE = 0, 3
_OPACITY: Final = 0.5
_JPEG_QUALITY: Final = 90


def with_palette(mask_bytes: bytes, colors: Sequence[Color]) -> bytes:
    """Returns the mask as a PNG of colour type 3, so that any viewer shows the classes' colours.

    An 8-bit grayscale PNG and an 8-bit palette PNG store their pixels alike. So the compressed pixels stay
    as they are, byte for byte; only the header changes, and the palette comes before them.
    Source: W3C, Portable Network Graphics (PNG) Specification, 11.2.1 and 11.2.2.

    Args:
        mask_bytes: PNG of class ids, one 8-bit channel.
        colors: RGB, one a class; at most 256.

    Raises:
        ValueError: the mask is no such PNG.
    """
    header = mask_bytes[16:29]
    if not mask_bytes.startswith(_PNG_SIGNATURE + struct.pack(">I4s", 13, b"IHDR")) or len(header) < 13:
        raise ValueError("the mask is not a PNG")
    if header[8:10] != bytes((8, _GRAYSCALE)):
        raise ValueError("the mask is not a PNG of one 8-bit channel")
    pixels = _offset_of(b"IDAT", mask_bytes)
    return b"".join(
        (
            _PNG_SIGNATURE,
            _chunk(b"IHDR", header[:9] + bytes((_PALETTE,)) + header[10:]),
            # Colour spaces and such come before the palette.
            mask_bytes[33:pixels],
            _chunk(b"PLTE", np.asarray(colors, np.uint8).tobytes()),
            mask_bytes[pixels:],
        )
    )


def read_class_ids(mask_bytes: bytes) -> np.ndarray:
    """Returns a mask's pixels, uint8 [H, W], with a palette or without."""
    with _open(mask_bytes) as mask:
        return np.array(mask)


def overlay(image_bytes: bytes, mask_bytes: bytes, labels: Labels, class_fraction: Sequence[float]) -> bytes:
    """Returns a JPEG of the image, its classes tinted and outlined, with a legend below.

    The image's pixels are taken as they are stored, without EXIF orientation, as the model takes them.

    Args:
        image_bytes: the encoded image; of an animation, the first frame.
        mask_bytes: PNG of class ids at the image's size.
        labels: covers every class id.
        class_fraction: [C], the shares that the legend tells.

    Raises:
        ValueError: the image cannot be read here, or its size is not the mask's.
    """
    class_ids = read_class_ids(mask_bytes)
    image = _read_rgb(image_bytes)
    if image.shape[:2] != class_ids.shape:
        raise ValueError(
            f"the image is {image.shape[1]} × {image.shape[0]}, "
            f"its mask {class_ids.shape[1]} × {class_ids.shape[0]}"
        )
    colors = np.asarray(labels.colors, np.uint8)[class_ids]
    opacity = np.where(_outlines(class_ids), 1, _OPACITY).astype(np.float32)[..., np.newaxis]
    blended = (image + (colors - image.astype(np.float32)) * opacity).astype(np.uint8)
    picture = _with_legend(Image.fromarray(blended), labels, class_fraction)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=_JPEG_QUALITY)
    return buffer.getvalue()


def _outlines(class_ids: np.ndarray) -> np.ndarray:
    """Where a pixel's class differs from that of its right or lower neighbour, bool [H, W]."""
    edges = np.zeros(class_ids.shape, bool)
    edges[:, :-1] = class_ids[:, :-1] != class_ids[:, 1:]
    edges[:-1] |= class_ids[:-1] != class_ids[1:]
    return edges


def _with_legend(picture: Image.Image, labels: Labels, class_fraction: Sequence[float]) -> Image.Image:
    """Adds below the picture its classes' colours, names and shares, largest first."""
    font_size = max(12, min(picture.size) // 40)
    font = _font(font_size)
    line, gap = font_size * 3 // 2, font_size // 2
    shown = sorted((-share, class_id) for class_id, share in enumerate(class_fraction) if share > 0)
    places: list[tuple[int, int, Color, str]] = []
    x, y = gap, 0
    for share, class_id in shown:
        text = f"{labels.names[class_id]} {-share:.1%}"
        width = font_size + gap + int(font.getlength(text)) + 2 * gap
        if places and x + width > picture.width:
            x, y = gap, y + line
        places.append((x, y, labels.colors[class_id], text))
        x += width
    result = Image.new("RGB", (picture.width, picture.height + y + line + gap), "white")
    result.paste(picture)
    draw = ImageDraw.Draw(result)
    for x, y, color, text in places:
        top = picture.height + y + gap
        draw.rectangle((x, top, x + font_size, top + font_size), fill=color, outline="black")
        draw.text((x + font_size + gap, top), text, fill="black", font=font)
    return result


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Matplotlib's own font, found without importing it: Pillow's has no letters beyond ASCII."""
    spec = importlib.util.find_spec("matplotlib")
    for folder in (spec and spec.submodule_search_locations) or ():
        path = Path(folder, "mpl-data", "fonts", "ttf", "DejaVuSans.ttf")
        if path.is_file():
            return ImageFont.truetype(path, size)
    return ImageFont.load_default(size)


def _read_rgb(image_bytes: bytes) -> np.ndarray:
    with _open(image_bytes) as image:
        if image.mode.startswith("I"):
            # 16 bits a pixel; Pillow would clip them.
            return np.repeat((np.array(image) >> 8).astype(np.uint8)[..., np.newaxis], 3, axis=2)
        return np.array(image.convert("RGB"))


def _open(encoded: bytes) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(encoded))
        image.load()
        return image
    except (OSError, ValueError, SyntaxError) as error:
        raise ValueError(f"cannot be read: {error}") from None


def _offset_of(name: bytes, png: bytes) -> int:
    position = len(_PNG_SIGNATURE)
    while position + 8 <= len(png):
        length, found = struct.unpack_from(">I4s", png, position)
        if found == name:
            return position
        position += 12 + length
    raise ValueError(f"the mask is a PNG without {name.decode()}")


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(body, zlib.crc32(name)))
