"""Patterns for the folders and names of files, as a recipe's ``dataset.images`` and ``dataset.masks``."""

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path, PurePosixPath
from typing import Final

from components.folders import split_suffix
from pipeline.init.affixes import Affixes, stem_of
from pipeline.init.files import Folder
from pipeline.init.name_patterns import escape, folder_pattern

_SUFFIXES: Final = 3
MOST_KINDS: Final = 8
"""Of more folders side by side, each is a scene rather than a kind of picture."""


def image_patterns(images: Folder, masks: Folder, affixes: Affixes, root: Path) -> Iterator[str]:
    """Yields what may find the images and, where masks lie among them, no masks."""
    files = [path for path in images.files if affixes.image_core(stem_of(path)) is not None]
    names = [escape(affixes.image_prefix) + "*"]
    nested = images.path.is_relative_to(masks.path) or masks.path.is_relative_to(images.path)
    if nested and affixes.mask_suffix and not any(affixes.image_suffixes):
        # Masks lie among the images, maybe of several kinds: all their names end in other characters.
        cores = {affixes.image_core(stem_of(path)) for path in files}
        last = {affixes.mask_suffix[-1]} | {
            stem[-1]
            for path in masks.files
            if (stem := stem_of(path))
            and (cut := re.search(r"[_\-. ][^_\-. ]*$", stem))
            and stem[: cut.start()] in cores
        }
        named = {core for path in masks.files if (core := affixes.mask_core(stem_of(path)))}
        names += [names[0] + "[0-9]", f"{names[0]}[!{affixes.mask_suffix[-1]}]"]
        lengths = {len(stem_of(path)) for path in files if stem_of(path) in named}
        names += ["?" * lengths.pop()] if len(lengths) == 1 else []
        names += [f"{names[0]}[!{''.join(sorted(last - set('!]-^')))}]"] if len(last) > 1 else []
        in_images = {os.path.relpath(masks.path / path, images.path) for path in masks.files}
        unlike_masks = [path for path in files if not stem_of(path).endswith(affixes.mask_suffix)]
        files = [path for path in unlike_masks if path not in in_images] or unlike_masks
    for folder, name in product(_folder_patterns(images, files, root), names):
        for suffix in suffix_patterns(files, folder_pattern(affixes.image_suffixes)):
            yield folder + name + suffix


def mask_patterns(masks: Folder, affixes: Affixes, root: Path) -> Iterator[str]:
    """Yields what may find the masks."""
    files = [path for path in masks.files if affixes.mask_core(stem_of(path)) is not None]
    for folder in _folder_patterns(masks, files, root):
        for suffix in suffix_patterns(files, escape(affixes.mask_suffix)):
            yield f"{folder}{escape(affixes.mask_prefix)}*{suffix}"


def _folder_patterns(folder: Folder, files: Sequence[str], root: Path) -> list[str]:
    """The part of a pattern up to the last slash."""
    base = folder.path.relative_to(root).as_posix()
    start = "" if base == "." else escape(base) + "/"
    depths = {path.count("/") for path in files}
    patterns = [] if depths == {0} else [f"{start}**/"]
    if len(depths) == 1 or 0 in depths:
        patterns.insert(0, start + "*/" * min(depths))
    if len(depths) == 1:
        # What all have in common tells images from masks where both lie under one folder.
        levels = zip(*(PurePosixPath(path).parts[:-1] for path in files), strict=True)
        shared = start + "".join(f"{folder_pattern(each)}/" for each in levels)
        patterns += [shared] if shared not in patterns else []
    return patterns


def suffix_patterns(files: Sequence[str], affix: str) -> list[str]:
    """The end of a pattern: the pattern ``affix`` and one of the most frequent suffixes, or all of them."""
    spelled = Counter(split_suffix(path)[1] for path in files)
    # Patterns find files in any case: the most frequent spelling stands for the others.
    suffixes: dict[str, str] = {}
    for suffix, _ in spelled.most_common():
        suffixes.setdefault(suffix.lower(), suffix)
    patterns = [affix + suffix for suffix in list(suffixes.values())[:_SUFFIXES]]
    if len(suffixes) > 1:
        words = ",".join(suffix.removeprefix(".") for suffix in suffixes.values())
        patterns.append(f"{affix}.{{{words}}}")
    return patterns


def common_folders(files: Sequence[str], few: bool = False) -> str:
    """A pattern for the folders of these files alone; empty where they lie in differently deep ones.

    Where it shall name ``few``, those of a level stand in it by name.
    """
    folders = {PurePosixPath(file).parent.parts for file in files}
    if len({len(parts) for parts in folders}) > 1:
        return ""
    pattern = []
    for names in zip(*sorted(folders), strict=True):
        part = folder_pattern(names)
        unique = sorted(set(names))
        if few and part == "*" and len(unique) <= MOST_KINDS and not re.search("[,{}]", "".join(unique)):
            part = f"{{{','.join(unique)}}}"
        pattern.append(part)
    return "/".join(pattern)


def joined(folder: str, name: str) -> str:
    """Returns the name under a folder, if there is one."""
    return f"{folder}/{name}" if folder else name
