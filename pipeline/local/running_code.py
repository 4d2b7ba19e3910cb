"""The code that a run began with, which an edit may change while stages import what they need."""

import logging
from importlib.metadata import PackageNotFoundError
from typing import TYPE_CHECKING

from components.fingerprint import source_fingerprint

if TYPE_CHECKING:
    from components.report.data import Lineage

# Below the stages' own, which is shown on the terminal.
logger = logging.getLogger("components.cache")


class RunningCode:
    """The code as it is when this is made: the cache's keys are of it.

    A stage's executor is imported when there is something to execute, and processes beside it start anew, so
    what a stage made can be that of code which its key does not hold.
    """

    def __init__(self) -> None:
        from components.report import lineage

        self._begun_with = lineage.lineage({})
        self._is_said = False

    def put_into(self, known: "Lineage") -> "Lineage":
        """Returns a run's origin with the code that it began with, in place of what is there at its end."""
        begun, changed = self._begun_with, "" if self.is_as_it_was() else ", changed while it ran"
        code = {"code_fingerprint": begun.code_fingerprint + changed, "git_commit": begun.git_commit}
        return known.model_copy(update={**code, "versions": begun.versions})

    def is_as_it_was(self) -> bool:
        """Whether it is the same now; where not, the first call says so."""
        from components.report import lineage

        try:
            if source_fingerprint(*lineage.CODE) == self._begun_with.code_fingerprint:
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
