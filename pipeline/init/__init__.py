"""A first recipe from images and masks: what lies in the folders, what it means, and what to try with it.

The path from the command's arguments to the recipe, module by module:

1. ``__main__`` checks the arguments, ``run`` goes the whole way;
2. pairs: ``known_layouts`` of a known set, else ``files``, ``pairing`` and ``class_masks``; then ``splits``;
3. pixels: ``inspection`` reads them through ``label_values``, ``images``, ``orientation`` and ``groups``;
4. meaning: ``label_search`` finds names in ``label_files``; ``classes`` and ``voids`` give raw labels theirs;
5. recipe: ``proposals`` and ``quality_checks``, written by ``recipe_text`` and drawn by ``preview``.
"""

from pathlib import Path

from components.errors import printable_lines


class InitError(Exception):
    """No recipe can come of what was given; the message says what, where, and what would be right."""

    def __init__(self, message: str):
        super().__init__(printable_lines(message))


def already_there(option: str, path: Path) -> InitError:
    """Returns what to raise of a file that only ``--force`` replaces."""
    return InitError(f"{option}: {path} exists; name another file, or give --force to replace it")
