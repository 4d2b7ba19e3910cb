"""Input files that become no Example: why, and what was found instead."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum

from components.errors import StageError


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
    r"""One file set aside; the other file of its pair goes with it.

    It is made to be read: bytes of a name that are not UTF-8 stand in it as ``\xNN``.
    """

    file: str
    """Path relative to the dataset's root, printable."""
    reason: Reason
    found: str
    """What was found, in words."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "file", printable(self.file))
        object.__setattr__(self, "found", printable(self.found))


def printable(text: str) -> str:
    r"""Writes the bytes of a file name that are not UTF-8, lone surrogates to Python, as ``\xNN``."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


class InputRejectedError(Exception):
    """Raised while one file is read; the caller knows which."""

    def __init__(self, reason: Reason, found: str):
        super().__init__(reason, found)
        self.reason = reason
        self.found = found


class UnusableDatasetError(StageError):
    """Too little of the dataset is left to go on with; the message shows some of the files, this all."""

    def __init__(self, message: str, rejected: Sequence[Rejection]):
        super().__init__(message)
        self.rejected_files = tuple(asdict(rejection) for rejection in rejected)
        """``file``, ``reason`` and ``found`` of each, as in ``ingestion.json``."""
