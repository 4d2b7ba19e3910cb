"""Any images and masks: two patterns under the root, paired by name."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from components.folders import walk_folders
from components.image_mask_example_gen.layouts.layout import Layout, RawClass, Scan, pair_files

_CHOICE = r"\{[^{}]*,[^{}]*\}"
_WILDCARD = re.compile(rf"[*?\[]|{_CHOICE}")


class Folder(Layout):
    """Files that two patterns find, and classes that the recipe names."""

    name = "folder"

    def __init__(self, images: str, masks: str, classes: tuple[RawClass, ...]):
        self._patterns = {"images": images, "masks": masks}
        self.classes = classes

    def scan(self, root: Path) -> Scan:
        """Finds the pairs.

        The name of a file is what its pattern leaves open: the file's stem without the literal ending of
        the pattern, so ``images/*.jpg`` meets ``masks/*_mask.png``. Where both patterns leave the same
        number of folders open, those are part of the name: ``*/images/*.jpg`` meets ``*/masks/*.png``
        within one folder. Where no two names meet and the patterns begin in different ways, the literal
        beginnings count no more than the endings: ``images/*.jpg`` meets ``masks/mask_*.png``, and
        ``*/photo.jpg`` meets ``*/labels.png``. Where still none meet, what folders' names have besides the
        open part does not count either: ``{train,val}/*.jpg`` meets ``{train,val}annot/*.png``.
        """
        images, masks = map(FilePattern, self._patterns.values())
        with_folders = images.open_folders == masks.open_folders
        found = [list(pattern.find(root, with_folders)) for pattern in (images, masks)]
        scan = pair_files(*found)
        if not scan.entries and images.beginning != masks.beginning:
            scan = pair_files(*map(_without_beginnings, (images, masks), found))
        if not scan.entries and with_folders and (images.names_folders or masks.names_folders):
            scan = pair_files(*(pattern.find(root, True, open_part=True) for pattern in (images, masks)))
        return scan

    def missing(self, root: Path) -> list[str]:
        """The patterns that match nothing."""
        return [
            f"file that matches dataset.{key}={pattern!r}"
            for key, pattern in self._patterns.items()
            if next(FilePattern(pattern).find(root, with_folders=False), None) is None
        ]


def _without_beginnings(
    pattern: "FilePattern", files: Iterable[tuple[str, str]]
) -> Iterator[tuple[str, str]]:
    for key, path in files:
        folders, slash, name = key.rpartition("/")
        yield (folders + slash + name.removeprefix(pattern.beginning)).rstrip("/"), path


class FilePattern:
    """A pattern for paths: ``*``, ``?``, ``[…]`` and ``{a,b}`` within one name, ``**`` any folders."""

    def __init__(self, pattern: str):
        # As a shell reads it: neither "./" nor "//" names a folder.
        *folders, name = [part for part in pattern.split("/") if part not in ("", ".")] or [""]
        self.open_folders = sum(bool(_WILDCARD.search(part)) for part in folders)
        self.names_folders = any(_WILDCARD.search(part) and set(part) != {"*"} for part in folders)
        """Whether an open folder's name has a literal part."""
        literal = 0
        while literal < len(folders) and not _WILDCARD.search(folders[literal]):
            literal += 1
        self._base = "/".join(folders[:literal])
        self._depth = None if "**" in folders else len(folders) - literal
        # A pattern for one name leaves nothing of it open.
        self.beginning = _WILDCARD.split(name)[0] if _WILDCARD.search(name) else PurePosixPath(name).stem
        """Literal start of every file's name."""
        self._ending = re.split(rf"[*?\]]|{_CHOICE}", name)[-1] if _WILDCARD.search(name) else ""
        try:
            self._regex = re.compile("".join(map(_folder_regex, folders[literal:])) + _part_regex(name))
            self._open_part = re.compile(
                "".join(map(_open_folder_regex, folders[literal:])) + _part_regex(name)
            )
        except re.error as error:
            raise ValueError(f"the pattern cannot be read: {error.msg}") from None

    def find(self, root: Path, with_folders: bool, open_part: bool = False) -> Iterator[tuple[str, str]]:
        """Yields the name and the path, relative to root, of each matching file that is not hidden.

        Args:
          root: The dataset's folder.
          with_folders: Whether open folders are part of the name,
          open_part: and only what the pattern leaves open of them.
        """
        regex = self._open_part if open_part else self._regex
        for path in self._walk(root):
            below_base = path[len(self._base) + 1 :] if self._base else path
            match = regex.fullmatch(below_base)
            if match:
                name = PurePosixPath(path).name.removesuffix(self._ending)
                name = name if "." in self._ending else PurePosixPath(name).stem
                folders = [folder.strip("/") for folder in match.groups() if folder] if with_folders else []
                yield "/".join([*folders, name]), path

    def _walk(self, root: Path) -> Iterator[str]:
        start = root / self._base
        for folder, subfolders, files in walk_folders(start, _raise_unless_missing):
            depth = len(folder.relative_to(start).parts)
            if self._depth is not None and depth >= self._depth:
                subfolders.clear()
            below_root = folder.relative_to(root)
            for file in files:
                # A link that leads nowhere is a file that is missing, and is to be told of.
                if (folder / file).is_file() or (folder / file).is_symlink():
                    yield (below_root / file).as_posix()


def _raise_unless_missing(error: OSError) -> None:
    """A folder that cannot be read must not pass for an empty one, as it does with ``os.walk``."""
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error


def _folder_regex(part: str) -> str:
    if part == "**":
        return "((?:[^/]+/)*)"
    regex = _part_regex(part) + "/"
    return f"({regex})" if _WILDCARD.search(part) else regex


def _open_folder_regex(part: str) -> str:
    return "((?:[^/]+/)*)" if part == "**" else _part_regex(part, capture=True) + "/"


def folders_regex(pattern: str) -> str:
    """Translates a pattern for folders into a regular expression that ends after their last slash.

    Raises:
      ValueError: it cannot be read.
    """
    regex = "".join(_folder_regex(part) for part in pattern.split("/") if part not in ("", "."))
    try:
        re.compile(regex)
    except re.error as error:
        raise ValueError(f"the pattern {pattern!r} cannot be read: {error.msg}") from None
    return regex


def _part_regex(part: str, capture: bool = False) -> str:
    """Translates one path component; the wildcards of ``fnmatch`` and ``{a,b}``, none crosses a slash.

    Each wildcard is a group where it is to be captured.
    """
    regex = ""
    for token in re.findall(rf"\[[!^]?\]?[^\]]*\]|{_CHOICE}|.", part, flags=re.DOTALL):
        wildcard = _token_regex(token)
        regex += f"({wildcard})" if capture and _WILDCARD.match(token) else wildcard
    return regex


def _token_regex(token: str) -> str:
    if token == "*":
        return "[^/]*"
    if token == "?":
        return "[^/]"
    if len(token) == 1:
        return re.escape(token)
    body = token[1:-1]
    if token.startswith("{"):
        return f"(?:{'|'.join(map(re.escape, body.split(',')))})"
    body = body.replace("\\", "\\\\")
    return f"[^{body[1:]}]" if body.startswith("!") else f"[{body}]"
