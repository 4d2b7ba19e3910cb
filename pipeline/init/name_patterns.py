"""Patterns for the names of files and folders, as a recipe's ``dataset`` reads them."""

import re
from collections.abc import Collection

from components.image_mask_example_gen.split_names import split_name


def escape(text: str) -> str:
    """Returns a pattern that only the text itself matches."""
    return re.sub(r"[*?\[{]", r"[\g<0>]", text)


def without_split(name: str) -> str:
    """The name of a folder, but for the split that it may name."""
    found = split_name(name)
    return found[2] if found else name


def folder_pattern(names: Collection[str]) -> str:
    """A pattern for folders that lie side by side: their name, ``{train,val}annot``, or ``*``."""
    if len(set(names)) == 1:
        return escape(next(iter(names)))
    found = [split_name(name) for name in sorted(set(names))]
    rests = {each[2] for each in found if each}
    if None in found or len(rests) > 1:
        return "*"
    before, _, after = map(escape, rests.pop().partition("{}"))
    return f"{before}{{{','.join(each[1] for each in found if each)}}}{after}"
