"""Text files of others' tools: lists, tables, names of classes."""

import codecs
from collections.abc import Iterable
from pathlib import Path

from components.errors import StageError
from components.folders import open_file


def decode_text(data: bytes, errors: str = "strict") -> str:
    """Decodes what its first bytes mark as UTF-16, as Windows PowerShell's ``>`` does, and all else as UTF-8.

    Args:
      data: the whole file.
      errors: what to do about bytes that are none, as for ``bytes.decode``.

    Raises:
      UnicodeDecodeError: it is neither, by ``errors``.
    """
    is_utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    # Halves of a letter are no name's bytes.
    return data.decode("utf-16") if is_utf16 else data.decode("utf-8-sig", errors)


def read_names(root: Path, path: str, key: str) -> str:
    """Reads a list or table; what is no UTF-8 stays as names of files have it.

    Raises:
      StageError: it cannot be read, or begins as UTF-16 and is none; the message begins with ``key``.
    """
    try:
        with open_file(root / path) as file:
            return decode_text(file.read(), "surrogateescape")
    except OSError as error:
        raise StageError(f"{key}: {path} cannot be read under {root}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise StageError(f"{key}: {path} begins as UTF-16 and is none: {error.reason}") from error


def windows_spelling(name: str) -> str | None:
    """Reads a name's bytes as Western European Windows writes them; None where it was UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return name.encode("utf-8", "surrogateescape").decode("cp1252", "replace")
    return None


def encoding_doubt(texts: Iterable[str]) -> str:
    """Says what keeps texts of a file from naming anything: they are no UTF-8; empty where they are."""
    for text in texts:
        if "\0" in text:
            return ", and has zero bytes, as UTF-16 without its mark: save it as UTF-8"
        if windows_spelling(text):
            return ", and is no UTF-8: save it as that"
    return ""
