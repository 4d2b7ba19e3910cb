"""Runs the command in a process of its own, judged by what it leaves and says."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from warm_process import WarmProcess

REPOSITORY = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Finished:
    """A run that ended."""

    code: int
    output: str
    workdir: Path

    @property
    def summary(self) -> dict[str, Any]:
        return json.loads((self.workdir / "summary.json").read_text())

    @property
    def cached(self) -> dict[str, bool]:
        return {stage["name"]: stage["cached"] for stage in self.summary["stages"]}

    def served_files(self) -> dict[str, int]:
        """Every file under ``serving/`` with its time of change."""
        return served_files(self.workdir)


def served_files(workdir: Path) -> dict[str, int]:
    files = (path for path in (workdir / "serving").rglob("*") if path.is_file())
    return {str(path): path.stat().st_mtime_ns for path in files}


def command(workdir: Path, *arguments: str, **settings: object) -> list[str]:
    overrides = [f"--set={key.replace('__', '.')}={json.dumps(value)}" for key, value in settings.items()]
    return [sys.executable, "-m", "pipeline.run_local", "--workdir", str(workdir), *arguments, *overrides]


def run(workdir: Path, *arguments: str, **settings: object) -> Finished:
    """Runs the pipeline to its end: ``run(workdir, "--recipe", "shapes", training__epochs=2)``."""
    _, *given = command(workdir, *arguments, **settings)
    process = WarmProcess(given, merged=True)
    output, _ = process.communicate()
    return Finished(process.wait(), output, workdir)
