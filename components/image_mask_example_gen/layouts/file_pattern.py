"""Patterns for paths, and what they leave open of the files that they find."""

import itertools
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from sys import intern
from typing import NamedTuple

from components.bucket import BucketPath
from components.folders import files_below, split_suffix
from components.image_mask_example_gen.suffixes import MASKS, UNREAD_PICTURES

_ESCAPED = r"\[([,{}])\]"
_IN_CHOICE = r"(?:\[[,{}]\]|(?!\[[,{}]\])[^{}])*"
_CHOICE = rf"\{{{_IN_CHOICE},{_IN_CHOICE}\}}"
_BETWEEN_CHOICES = re.compile(r",(?!\])|(?<!\[),")
_SUFFIX = re.compile(rf"\.(?:[^.*?\[\]{{}}]+|{_CHOICE})$")
_TOKEN = re.compile(rf"\[[!^]?\]?[^\]]*\]|{_CHOICE}|.", re.DOTALL)
_ANY = "[^/]*"
_SPECIAL = re.compile(r"[\\\[&~|]")
"""What a class of Python's regular expressions may read otherwise than a shell does."""
_PICTURES = MASKS | UNREAD_PICTURES


class _Token(NamedTuple):
    """A part of a pattern."""

    regex: str
    literal: str | None
    """The letter that it stands for, as ``[*]`` does, too; None for a wildcard."""


class Found(NamedTuple):
    """A file by the parts of its path that its pattern leaves open, in Unicode's form C."""

    path: str
    """Relative to the root, as the file system has it."""
    folders: str
    """Those that the pattern leaves open, with slashes between them."""
    open_part: str
    """Of these folders, what their literal letters leave open."""
    name: str
    """The stem, without the literal ending of the pattern."""
    first: str
    """The beginning of the stem, up to where the pattern's first ``*`` ends."""
    suffix: str
    """The file's own, with its dot."""


class Files(NamedTuple):
    """What a pattern finds."""

    found: list[Found]
    others: list[Found]
    """Pictures that it would find with another suffix, or whose format nothing here reads."""


class FilePattern:
    """A pattern for paths: ``*``, ``?``, ``[…]`` and ``{a,b}`` within one name, ``**`` any folders.

    Between braces ``[,]``, ``[{]`` and ``[}]`` are these letters, and all others are themselves. The name of
    a file matches in any case. Where the pattern leaves its suffix open, pictures match alone.
    """

    def __init__(self, pattern: str):
        self.text = pattern
        # As a shell reads it: neither "./" nor "//" names a folder.
        *folders, name = [part for part in composed(pattern).split("/") if part not in ("", ".")] or [""]
        self.open_folders = sum(map(_is_open, folders))
        self.names_folders = any(_is_open(part) and set(part) != {"*"} for part in folders)
        """Whether an open folder's name has a literal part."""
        literal = 0
        while literal < len(folders) and not _is_open(folders[literal]):
            literal += 1
        self._base = ["".join(_literals(part)) for part in folders[:literal]]
        self._depth = None if "**" in folders else len(folders) - literal
        suffix = _SUFFIX.search(name)
        self._has_suffix = suffix is not None
        stem = name[: suffix.start()] if suffix else name
        # A pattern for one name leaves nothing of it open.
        self.beginning = "".join(itertools.takewhile(bool, _literals(stem)))
        """Literal start of every file's name."""
        self._ending = len(list(itertools.takewhile(bool, _literals(stem)[::-1]))) if _is_open(stem) else 0
        self.has_parts = _ANY in _part_regex(stem) and _literals(stem).count("") > 1
        """Whether more than one name may begin alike: its first ``*`` is not the only wildcard."""
        start = _open_folders_regex(folders)
        try:
            self._regex = re.compile(start + _name_regex(name))
            self._any_suffix = (
                re.compile(start + _name_regex(stem) + r"\.[^/.]+") if self._has_suffix else self._regex
            )
        except re.error as error:
            raise ValueError(f"the pattern cannot be read: {error.msg}") from None

    def match(self, path: str) -> Found | None:
        """Takes a path relative to the root apart; None for a file that is not meant."""
        match = self._regex.fullmatch(composed(path))
        if match is None:
            return None
        suffix = split_suffix(match[0])[1].lower()
        # An open suffix must not turn lists, databases and scripts into damaged pictures.
        meant = self._has_suffix or suffix in MASKS or not re.search("[a-z]", suffix)
        return self._found(path, match) if meant else None

    def find(self, paths: Iterable[str]) -> Files:
        """Sorts paths relative to the root."""
        files = Files([], [])
        for path in paths:
            if item := self.match(path):
                files.found.append(item)
                continue
            match = self._any_suffix.fullmatch(composed(path))
            if match and split_suffix(path)[1].lower() in _PICTURES:
                files.others.append(self._found(path, match))
        return files

    def walk(self, root: Path) -> Iterator[str]:
        """Yields the path, relative to root, of each file that may match and is not hidden."""
        start = _folder_named(root, self._base)
        prefix = "" if start == root else f"{start.relative_to(root).as_posix()}/"
        in_bucket = isinstance(start, BucketPath)
        for path in files_below(start, _raise_unless_missing, self._depth):
            # A link that leads nowhere is a file that is missing, and is to be told of.
            file = os.path.join(start, path)
            if in_bucket or os.path.isfile(file) or os.path.islink(file):
                yield prefix + path

    def _found(self, path: str, match: re.Match[str]) -> Found:
        name, suffix = split_suffix(match[0].rpartition("/")[2])
        if self._has_suffix or not suffix:
            name = name[: len(name) - self._ending]
        parts: dict[str, list[str]] = {"folder": [], "open": []}
        for group, text in match.groupdict().items():
            kind = group.rstrip("0123456789")
            if text and kind in parts:
                parts[kind].append(text.strip("/"))
        first = self.beginning + match["first"] if "first" in match.re.groupindex else name
        # Of many thousands of files: what is the same is kept once.
        first = name if first == name else first
        return Found(path, "/".join(parts["folder"]), "/".join(parts["open"]), name, first, intern(suffix))


def composed(text: str) -> str:
    """In Unicode's form C: macOS writes letters and their accents apart."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def _folder_named(root: Path, parts: Iterable[str]) -> Path:
    """The folder that these names lead to, whichever form of Unicode the file system has them in."""
    folder = root
    for part in parts:
        exact = folder / part
        if not exact.exists() and folder.is_dir():
            exact = next((path for path in folder.iterdir() if composed(path.name) == part), exact)
        folder = exact
    return folder


def _raise_unless_missing(error: OSError) -> None:
    """A folder that cannot be read must not pass for an empty one, as it does with ``os.walk``."""
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error


def folders_regex(pattern: str) -> str:
    """Translates a pattern for folders into a regular expression that ends after their last slash.

    Raises:
      ValueError: it cannot be read.
    """
    parts = [part for part in pattern.split("/") if part not in ("", ".")]
    regex = "".join("(?:[^/]+/)*" if part == "**" else _part_regex(part) + "/" for part in parts)
    try:
        re.compile(regex)
    except re.error as error:
        raise ValueError(f"the pattern {pattern!r} cannot be read: {error.msg}") from None
    return regex


def _open_folders_regex(folders: Sequence[str]) -> str:
    """The same with a group ``folderN`` for each open folder, and in it ``openN`` for each wildcard."""
    numbers = itertools.count()
    regex = ""
    for part in folders:
        if part == "**":
            regex += f"(?P<folder{next(numbers)}>(?P<open{next(numbers)}>(?:[^/]+/)*))"
        elif _is_open(part):
            groups = [
                f"(?P<open{next(numbers)}>{token.regex})" if token.literal is None else token.regex
                for token in _tokens(part)
            ]
            regex += f"(?P<folder{next(numbers)}>{''.join(groups)}/)"
        else:
            regex += _part_regex(part) + "/"
    return regex


def _name_regex(name: str) -> str:
    """Literal letters match in any case; the first ``*`` is the group ``first``."""
    regex = "".join(
        token.regex if token.literal is None else f"(?i:{token.regex})" for token in _tokens(name)
    )
    return regex.replace(_ANY, f"(?P<first>{_ANY})", 1)


def _tokens(part: str) -> Iterator[_Token]:
    """Translates one path component; no token crosses a slash."""
    for text in _TOKEN.findall(part):
        body = text[1:-1]
        if text == "*":
            yield _Token(_ANY, None)
        elif text == "?":
            yield _Token("[^/]", None)
        elif len(text) == 1 or (text.startswith("[") and len(body) == 1):
            yield _Token(re.escape(body or text), body or text)
        elif text.startswith("{"):
            choices = (re.sub(_ESCAPED, r"\1", choice) for choice in _BETWEEN_CHOICES.split(body))
            yield _Token(f"(?i:{'|'.join(map(re.escape, choices))})", None)
        else:
            body = _SPECIAL.sub(r"\\\g<0>", body)
            yield _Token(f"[^{body[1:]}]" if body.startswith("!") else f"[{body}]", None)


def _literals(part: str) -> list[str]:
    """The letter of each token, empty for a wildcard."""
    return [token.literal or "" for token in _tokens(part)]


def _is_open(part: str) -> bool:
    return "" in _literals(part)


def _part_regex(part: str) -> str:
    return "".join(token.regex for token in _tokens(part))
