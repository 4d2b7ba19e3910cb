"""Finds the commit of the code that runs."""

import os
import subprocess
from pathlib import Path
from typing import Final

_BAKED_IN: Final = "SEGMENTATION_REVISION"
"""Environment variable of the image, set when it is built; the code in there is in no repository."""
_CODE: Final = (":/*.py", ":/*.j2", ":/*.css", ":/*.js")
"""Files that a run or its page is made with, at any depth of the repository."""


def git_commit() -> str:
    """Returns the commit of the code that this process runs, `` and changes`` after it where code differs.

    Recipes, datasets and results may lie in a checkout; they are no code.

    In an image it is the one that was baked in, just as the build said it. Empty where neither an image nor
    a Git repository knows.
    """
    if baked_in := os.environ.get(_BAKED_IN):
        return baked_in
    # A repository around it that does not know this file is somebody else's.
    if not _git("ls-files", Path(__file__).name):
        return ""
    commit = _git("rev-parse", "HEAD")
    return f"{commit} and changes" if commit and _git("status", "--porcelain", "--", *_CODE) else commit


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
