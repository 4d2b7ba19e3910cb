"""What the command lines of this package have in common."""

import argparse
from collections.abc import Sequence
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
