"""Which commit the code is of."""

import subprocess
from pathlib import Path


def git_commit() -> str:
    """Returns the commit of this project's code, `` and changes`` after it where files differ from it.

    Empty where the code is in no Git repository, an installed package for example.
    """
    # A repository around it that does not know this file is somebody else's.
    if not _git("ls-files", Path(__file__).name):
        return ""
    commit = _git("rev-parse", "HEAD")
    return f"{commit} and changes" if commit and _git("status", "--porcelain", "--", ":/") else commit


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
