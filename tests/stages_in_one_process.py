"""``benchmarks.stages``, with its stages one after the other in this process, which saves their imports.

Its arguments are that program's. What it says of memory tells nothing then.
"""

import io
import subprocess
import sys
from contextlib import redirect_stdout

from benchmarks import one_stage, stages


class Here:
    """Stands in for ``subprocess``."""

    @staticmethod
    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        printed = io.StringIO()
        with redirect_stdout(printed):
            one_stage.main(*command[3:])
        return subprocess.CompletedProcess(command, 0, printed.getvalue(), "")


if __name__ == "__main__":
    one_stage.subprocess = Here  # type: ignore[assignment]
    sys.exit(stages.main())
