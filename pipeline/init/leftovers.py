"""What a pairing leaves of the files that were listed, and what to say of it."""

from collections import Counter
from collections.abc import Iterator
from pathlib import PurePosixPath

from components.errors import printable
from components.image_mask_example_gen.layouts.file_pattern import FilePattern
from components.image_mask_example_gen.suffixes import MASKS, UNREAD_PICTURES
from pipeline.init.affixes import stem_of
from pipeline.init.class_words import has_name
from pipeline.init.files import some, some_counts, suffix_of
from pipeline.init.listing import Listing, Pairing


def passed_over(listing: Listing, pairing: Pairing) -> Iterator[str]:
    """Says what lies among the masks, has the name of an image that has one, and is not used."""
    pattern = FilePattern(pairing.dataset["images"])
    names = {found.name for entry in pairing.entries if (found := pattern.match(entry.image))}
    folders = {PurePosixPath(file).parent for entry in pairing.entries for file in entry.mask_files}
    folders -= {PurePosixPath(entry.image).parent for entry in pairing.entries}
    named = pairing.files | pairing.besides
    left = [
        path
        for path in listing.pictures
        if path not in named and PurePosixPath(path).parent in folders and has_name(stem_of(path), names)
    ]
    if left:
        yield (
            "files among the masks are not used, though their names hold those of images that have "
            f"others, {some(left, counted=True)}: what they mark counts as background; if they are "
            "classes, give dataset.masks a pattern for each"
        )


def unused(listing: Listing, pairing: Pairing) -> Iterator[str]:
    """Says which pictures lie in the folders and are not used, by folder and suffix."""
    left = _unnamed(listing, pairing)
    kinds = {
        "pictures that match no pattern": [p for p in left if suffix_of(p) in MASKS],
        "pictures in formats that are not read here": [p for p in left if suffix_of(p) in UNREAD_PICTURES],
    }
    for what, files in kinds.items():
        if files:
            patterns = (f"{PurePosixPath(path).parent}/*{PurePosixPath(path).suffix}" for path in files)
            groups = Counter(pattern.removeprefix("./") for pattern in patterns)
            shown = f"{some_counts(groups)} (such as {printable(files[0])})"
            beside = ""
            if suffix_of(files[0]) in MASKS and len(files) >= len(pairing.entries):
                taken = pairing.dataset["masks"]
                beside = f"; if the masks are there, not at {taken}, name their folder as --masks"
            yield f"{len(files)} {what} are not used: {shown}{beside}"


def other_files(listing: Listing, pairing: Pairing) -> tuple[str, ...]:
    """Returns what lies in the folders and is no picture."""
    return tuple(p for p in _unnamed(listing, pairing) if suffix_of(p) not in MASKS | UNREAD_PICTURES)


def _unnamed(listing: Listing, pairing: Pairing) -> list[str]:
    named = pairing.files | pairing.besides | {item.file for item in pairing.unpaired}
    return [path for path in listing.files if path not in named]
