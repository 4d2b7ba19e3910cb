"""From one pair of files to one tf.Example."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tensorflow as tf

from components.dataset import features
from components.image_mask_example_gen.checks import PairFacts
from components.image_mask_example_gen.class_mask import ClassMask, MaskReader, ReadMask
from components.image_mask_example_gen.files import InputRejectedError, naming_in_memory_error
from components.image_mask_example_gen.image import EncodedImage, read_image
from components.image_mask_example_gen.layouts.layout import Entry
from components.image_mask_example_gen.report import Reason, Rejection
from components.imaging.exif import swaps_sides
from components.imaging.reading import Exif, Reading


@dataclass(frozen=True)
class ExampleReader:
    """Reads pairs, checks them and maps their labels."""

    masks: MaskReader
    reading: Reading
    """How the model reads images, and so whether masks are those of upright pictures."""

    def files(self, entry: Entry) -> list[Path]:
        """Returns what a pair is read from, but for what many pairs share."""
        masks = entry.mask_files if self.masks.layout.masks_are_files else ()
        return [self._image_file(entry), *(self.masks.root / path for path in masks)]

    def image(self, entry: Entry) -> EncodedImage:
        """Reads a pair's image.

        Raises:
          InputRejectedError: it cannot be used.
          MemoryError: there is not enough.
          StageError: what hinders says nothing of the file.
        """
        with naming_in_memory_error(entry.image):
            return read_image(self._image_file(entry), self.masks.max_pixels, self.reading)

    def _image_file(self, entry: Entry) -> Path:
        return self.masks.layout.image_file(self.masks.root, entry)

    def read(self, entry: Entry, mask: ReadMask | None = None) -> tuple[bytes, PairFacts] | Rejection:
        """Returns a pair's serialized Example and what is remembered of it, or why there is none.

        Args:
          entry: The pair.
          mask: Its mask, where that has been read elsewhere.

        Raises:
          MemoryError: there is not enough.
          StageError: what hinders says nothing of the files.
        """
        file, other = entry.image, entry.mask
        try:
            image = self.image(entry)
            file, other = other, file
            size, class_mask = _fitted(image, mask or self.masks.read(entry), self.reading.exif)
        except InputRejectedError as rejected:
            return Rejection(file, rejected.reason, f"{rejected.found} ({other} is left out with it)")
        facts = PairFacts(
            image.sketch(),
            image.used_range,
            image.bands_left_out,
            class_mask.palettes,
            class_mask.repaired_pixels,
            _binary_pixels(class_mask.class_pixels, class_mask.num_pixels),
        )
        return _serialize(entry, image, size, class_mask), facts


def _binary_pixels(class_pixels: Sequence[int], num_pixels: int) -> tuple[int, int, int] | None:
    match class_pixels:
        case [rest, thing]:
            return rest, thing, num_pixels - rest - thing
        case _:
            return None


def _fitted(image: EncodedImage, mask: ReadMask, exif: Exif | None) -> tuple[tuple[int, int], ClassMask]:
    """Returns height and width of the image as the model reads it, which are the mask's, and this.

    Raises:
      InputRejectedError: they are not, nobody has said how the model reads it, or it is no mask.
    """
    if mask.size is not None:
        _check_size(image, mask.size, exif)
    if isinstance(mask.outcome, InputRejectedError):
        raise mask.outcome
    assert mask.size is not None, "what could be read has a size"
    return mask.size, mask.outcome


def _check_size(image: EncodedImage, size: tuple[int, int], exif: Exif | None) -> None:
    """Raises InputRejectedError where a mask's height and width are not those of the image as it is read."""
    stored = (image.height, image.width)
    upright = stored[::-1] if swaps_sides(image.orientation) else stored
    wanted = upright if exif == "upright" else stored
    if size != wanted:
        found = f"the mask is {size[1]} x {size[0]} pixels, the image {wanted[1]} x {wanted[0]}"
        if size in (stored, upright):
            other = "stored" if exif == "upright" else "upright"
            found += f", and {size[1]} x {size[0]} with dataset.exif={other}: its EXIF turns it"
        raise InputRejectedError(Reason.SIZES_DIFFER, found)
    if exif is None and image.orientation != 1 and upright == stored:
        raise InputRejectedError(
            Reason.ORIENTATION_UNKNOWN,
            f"its EXIF says orientation {image.orientation}, and the sizes fit either way: set dataset.exif "
            "to upright, or to stored where masks fit pictures as they are stored",
        )


def _serialize(entry: Entry, image: EncodedImage, size: tuple[int, int], mask: ClassMask) -> bytes:
    values: dict[str, bytes | Sequence[int]] = {
        features.IMAGE_ENCODED: image.data,
        features.IMAGE_FORMAT: image.format.encode(),
        features.IMAGE_FILENAME: os.fsencode(entry.image),
        features.IMAGE_HEIGHT: size[:1],
        features.IMAGE_WIDTH: size[1:],
        features.MASK_ENCODED: mask.png,
        features.MASK_FORMAT: b"png",
        features.CLASS_PIXELS: mask.class_pixels,
    }
    values |= {name: text.encode() for name, text in entry.attributes}
    example = tf.train.Example()
    for name, value in values.items():
        feature = example.features.feature[name]
        if isinstance(value, bytes):
            feature.bytes_list.value.append(value)
        else:
            feature.int64_list.value.extend(value)
    return bytes(example.SerializeToString(deterministic=True))
