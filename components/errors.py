"""The one exception whose message is written for the person who runs the pipeline."""

from collections.abc import Mapping
from typing import Any


class StageError(Exception):
    """A stage cannot go on; the message says what, where, and what would be right."""

    rejected_files: tuple[Mapping[str, Any], ...] = ()
    """Input files that led to it, ready for JSON, where a message cannot hold them all."""
