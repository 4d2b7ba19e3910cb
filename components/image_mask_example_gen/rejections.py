"""Input files that become no Example: why, and what was found instead."""

from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """Why a file was set aside. The values stand in artifacts and summaries: keep them stable."""

    NOT_DECODABLE = "not decodable"
    TRUNCATED = "truncated"
    IMAGE_WITHOUT_MASK = "image without mask"
    MASK_WITHOUT_IMAGE = "mask without image"
    SIZES_DIFFER = "sizes differ"
    LABEL_OUTSIDE_CLASSES = "label outside the classes"
    EMPTY_FILE = "empty file"
    TOO_MANY_PIXELS = "too many pixels"
    UNLISTED = "unlisted"
    """The dataset itself leaves the file out, so it does not count as damage."""


@dataclass(frozen=True)
class Rejection:
    """One file set aside; the other file of its pair goes with it."""

    file: str
    """Path relative to the dataset's root."""
    reason: Reason
    found: str
    """What was found, in words."""


class InputRejectedError(Exception):
    """Raised while one file is read; the caller knows which."""

    def __init__(self, reason: Reason, found: str):
        super().__init__(reason, found)
        self.reason = reason
        self.found = found
