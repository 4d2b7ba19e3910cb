"""Where a run's masks, overlays and records go; an image file appears complete or not at all."""

import errno
import json
import os
import secrets
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, TextIO

from components.image_mask_example_gen.suffixes import PICTURES
from pipeline.predict.image_files import ImageFile

STDOUT: Final = "-"
_RECORD_START: Final = b'{"file":'
"""What every line of a record begins with."""
_LONGEST_LINE: Final = 1 << 20
"""Bytes; hundreds of classes take some ten thousand."""
_NO_SPACE: Final = (errno.ENOSPC, errno.EDQUOT)


class Existing(StrEnum):
    """What becomes of results that are there already."""

    REFUSE = "refuse"
    SKIP = "skip"
    REPLACE = "replace"


@dataclass(frozen=True)
class ResultFiles:
    """Where the results of images below one folder go, and what becomes of earlier ones."""

    output: Path
    overlays: bool
    record: str | None = None
    """The JSON file, `STDOUT`, or None."""
    existing: Existing = Existing.REFUSE

    def mask(self, image: ImageFile) -> Path:
        """``a.jpg`` gives ``a.jpg.png``: ``a.png`` beside it has a mask of its own."""
        return self.output / f"{image.name}.png"

    def overlay(self, image: ImageFile) -> Path:
        """``a.jpg`` gives ``a.jpg.overlay.jpg``."""
        return self.output / f"{image.name}.overlay.jpg"

    def write_mask(self, image: ImageFile, content: bytes) -> None:
        _write(self.mask(image), content)

    def write_overlay(self, image: ImageFile, content: bytes) -> None:
        _write(self.overlay(image), content)

    def still_to_do(self, images: Sequence[ImageFile]) -> Sequence[ImageFile]:
        """Returns the images to segment: all of them, or those that lack a result or a line in the record.

        Raises:
            ValueError: results are there and may not be touched, or the record's file is none.
            OSError: that file cannot be read.
        """
        record = self._record_file()
        if record:
            _check_record(record)
        if self.existing is Existing.REPLACE:
            return images
        if self.existing is Existing.SKIP:
            recorded = _recorded_masks(record) if record else None
            return [image for image in images if not self._is_done(image, recorded)]
        # Not Path's, which raises over a name that is too long: that is told of the one image.
        taken = [path for image in images for path in self._results(image) if os.path.exists(path)]
        if record and record.exists():
            taken.append(record)
        if taken:
            more = f", and so do {len(taken) - 1} more results" if len(taken) > 1 else ""
            raise ValueError(
                f"{taken[0]} exists already{more}; give --existing skip or replace, or another --output"
            )
        return images

    @contextmanager
    def open_record(self) -> Iterator["Record"]:
        """Opens the record: a file, which `Existing.SKIP` continues, or standard output, or nothing."""
        path = self._record_file()
        if path is None:
            yield Record(sys.stdout if self.record else None)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        if self.existing is Existing.SKIP and path.is_file():
            _end_last_line(path)
        if self.existing is Existing.REPLACE and path.is_file():
            os.truncate(path, 0)
        # Another run may be writing to it: each adds its lines, each line in one go, behind what is there.
        with path.open("a", _LONGEST_LINE, encoding="utf-8") as file:
            yield Record(file)

    def _record_file(self) -> Path | None:
        return None if self.record in (None, STDOUT) else Path(str(self.record))

    def _is_done(self, image: ImageFile, recorded: Collection[str] | None) -> bool:
        missing = recorded is not None and str(self.mask(image)) not in recorded
        return not missing and all(map(os.path.exists, self._results(image)))

    def _results(self, image: ImageFile) -> list[Path]:
        return [self.mask(image), self.overlay(image)] if self.overlays else [self.mask(image)]


class Record:
    """One JSON object a line for each image, written as the run goes."""

    def __init__(self, file: TextIO | None):
        self._file = file

    def write(self, **entry: Any) -> None:
        """Adds a line."""
        if self._file is not None:
            self._file.write(f"{json.dumps(entry)}\n")
            self._file.flush()


def _check_record(path: Path) -> None:
    """Refuses what is not this command's to write: ``--json a.jpg b.jpg`` means a photograph's file."""
    if path.suffix.lower() in PICTURES:
        raise ValueError(
            f"--json {path} names a picture; it takes the record's file, or - for standard output"
        )
    if not os.path.isfile(path):
        return
    with path.open("rb") as file:
        # A killed run may have left less than that.
        if not _RECORD_START.startswith(file.read(len(_RECORD_START))):
            raise ValueError(f"--json {path} exists and is no record of this command; name another file")


def _recorded_masks(path: Path) -> set[str]:
    """The masks that a record tells of; a line that is none, such as half a line, tells of none."""
    lines = path.read_bytes().splitlines() if path.is_file() else []
    entries = filter(None, map(_entry, lines))
    return {str(entry["mask"]) for entry in entries if "mask" in entry}


def _end_last_line(path: Path) -> None:
    """Ends what a killed run wrote last; half an entry goes, as no record tells of its image any more."""
    content = path.read_bytes()
    last = content[content.rfind(b"\n") + 1 :]
    if last and _entry(last):
        with path.open("ab") as file:
            file.write(b"\n")
    elif last.startswith(b"{"):
        os.truncate(path, len(content) - len(last))


def _entry(line: bytes) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None


def is_out_of_space(error: OSError) -> bool:
    """Whether nothing further can be written, rather than this one file."""
    return error.errno in _NO_SPACE


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Short: the file's own name may be as long as names can be. Nobody else's: runs may share a folder.
    partial = path.parent / f".partial-{secrets.token_hex(8)}"
    try:
        partial.write_bytes(content)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
