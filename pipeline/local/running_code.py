"""The code that a run began with, which an edit may change while stages import what they need."""

import logging
from importlib.metadata import PackageNotFoundError
from typing import Final

import components
import models
from components.fingerprint import source_fingerprint

_CODE: Final = (components, models)
"""All that stages, and the processes that they start, may import."""

# Below the stages' own, which is shown on the terminal.
logger = logging.getLogger("components.cache")


class RunningCode:
    """The code as it is when this is made: the cache's keys are of it.

    A stage's executor is imported when there is something to execute, and processes beside it start anew, so
    what a stage made can be that of code which its key does not hold.
    """

    def __init__(self) -> None:
        self._begun_with = source_fingerprint(*_CODE)
        self._is_said = False

    def is_as_it_was(self) -> bool:
        """Whether it is the same now; where not, the first call says so."""
        try:
            if source_fingerprint(*_CODE) == self._begun_with:
                return True
        except (OSError, PackageNotFoundError):
            # The change is under way: a library is gone until its new version is there, or a file is.
            pass
        if not self._is_said:
            self._is_said = True
            logger.warning(
                "code below components/ or models/, or a library, has changed since this run began: "
                "no later run reuses what its stages make from now on"
            )
        return False
