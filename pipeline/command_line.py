"""What the command lines of this package have in common."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Final

USAGE: Final = 2
"""Exit status where what was asked for cannot be done."""


class UsageError(Exception):
    """What was asked for cannot be done; the message says why."""


def command_parser(
    module: str, description: str | None, parents: Sequence[argparse.ArgumentParser] = ()
) -> argparse.ArgumentParser:
    """Returns a parser without options of its own.

    Args:
        module: whose name is the command's: ``pipeline.init``.
        description: the module's docstring, shown as it stands.
        parents: parsers whose options it takes over.
    """
    return argparse.ArgumentParser(
        prog=f"python -m {module}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        parents=parents,
    )


def non_empty(text: str) -> str:
    """The type of an option that names something; an empty one comes from a shell variable never set."""
    if not text.strip():
        raise argparse.ArgumentTypeError("it is empty")
    return text


def non_empty_path(text: str) -> Path:
    """Likewise of one that names a file or a folder; an empty one would be the current folder."""
    return Path(non_empty(text))


def add_overrides(
    group: argparse._ActionsContainer,  # That of a parser and of a group of options; it has no other name.
    example: str = "training.epochs=5",
) -> None:
    """Adds ``--set``, which `load_recipe` takes."""
    group.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help=f"change a key of the recipe, such as {example}; may be repeated",
    )
