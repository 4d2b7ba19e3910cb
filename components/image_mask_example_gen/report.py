"""Where every input file went: ``ingestion.json``, and the reasons for which a file becomes no Example."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from components.settings import Settings

REPORT_FILE = "ingestion.json"


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


class IngestionReport(Settings):
    """Where every input file went."""

    examples: dict[str, int]
    """Number of examples of each split."""
    rejected: tuple[Rejection, ...]


def load_ingestion_report(uri: str) -> IngestionReport:
    """Reads the report from the local folder of an ``IngestionReport`` artifact."""
    return IngestionReport.model_validate_json((Path(uri) / REPORT_FILE).read_text(encoding="utf-8"))
