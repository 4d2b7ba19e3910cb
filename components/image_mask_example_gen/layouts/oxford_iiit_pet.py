"""Oxford-IIIT Pet: images, trimaps, and official lists with species and breed.

Parkhi et al., "Cats and Dogs", CVPR 2012.
"""

from dataclasses import replace
from pathlib import Path

from components.dataset.features import ATTRIBUTE_PREFIX
from components.errors import StageError
from components.image_mask_example_gen.layouts.layout import (
    Attributes,
    Entry,
    Layout,
    RawClass,
    Scan,
    files_by_stem,
    pair_files,
)
from components.image_mask_example_gen.report import Reason, Rejection

_IMAGES = "images"
_TRIMAPS = "annotations/trimaps"
_LISTS = {"trainval": "annotations/trainval.txt", "test": "annotations/test.txt"}

_SPECIES = {"1": "cat", "2": "dog"}
_SPECIES_FEATURE = f"{ATTRIBUTE_PREFIX}species"
_BREED_FEATURE = f"{ATTRIBUTE_PREFIX}breed"


class OxfordIiitPet(Layout):
    """Official lists divide it."""

    name = "oxford_iiit_pet"
    folders = (_IMAGES, _TRIMAPS)
    files = tuple(_LISTS.values())
    classes = (RawClass("pet", 1), RawClass("background", 2), RawClass("border", 3))
    """Trimap values. Source: README of the Oxford-IIIT Pet annotations."""
    attributes = (_SPECIES_FEATURE, _BREED_FEATURE)
    slices = ("species",)

    def scan(self, root: Path) -> Scan:
        """Finds the pairs; those in no official list are set aside as unlisted.

        Only ``*.jpg`` counts as an image: the official archive has stray ``.mat`` files among them.
        """
        pairs = pair_files(files_by_stem(root, _IMAGES, ".jpg"), files_by_stem(root, _TRIMAPS, ".png"))
        listed = _read_lists(root)
        entries, rejected = [], list(pairs.rejected)
        # Of maybe a million pairs each of the few different ones is kept once.
        known: dict[Attributes, Attributes] = {}
        for pair in pairs.entries:
            if pair.key in listed:
                split, species = listed[pair.key]
                attributes = _attributes(pair, species)
                attributes = known.setdefault(attributes, attributes)
                entries.append(replace(pair, official_split=split, attributes=attributes))
            else:
                found = f"in neither of {' and '.join(self.files)}; its mask {pair.mask} stays aside as well"
                rejected.append(Rejection(pair.image, Reason.UNLISTED, found))
        if entries and not any(entry.official_split == "test" for entry in entries):
            raise StageError(
                f"no pair of the official list {_LISTS['test']} is there; look whether its images and "
                "masks are"
            )
        return Scan(entries, rejected, sorted([*pairs.files, *self.files]))


def _attributes(pair: Entry, species: str) -> Attributes:
    # Names are "<breed>_<number>"; breeds have underscores of their own.
    breed = pair.key.rpartition("_")[0]
    return ((_SPECIES_FEATURE, species), (_BREED_FEATURE, breed))


def _read_lists(root: Path) -> dict[str, tuple[str, str]]:
    """Returns split and species of each listed key. Columns: name, class id, species, breed id."""
    listed: dict[str, tuple[str, str]] = {}
    for split, path in _LISTS.items():
        with (root / path).open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.strip() or line.startswith("#"):
                    continue
                columns = line.split()
                if len(columns) != 4 or columns[2] not in _SPECIES:
                    raise StageError(
                        f"{path}, line {number}: {line.strip()!r}; expected name, class id, species (1 or 2) "
                        "and breed id, as in the official list."
                    )
                if columns[0] in listed:
                    raise StageError(f"{path}, line {number}: {columns[0]} is listed a second time.")
                listed[columns[0]] = (split, _SPECIES[columns[2]])
    return listed
