"""Runs the command with toy stages in the test's own process, which saves the imports."""

import faulthandler
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import toy_pipeline

from pipeline.run_local import main


class Finished(NamedTuple):
    """A run that has ended."""

    code: int
    out: str
    err: str


Run = Callable[..., Finished]


def runs_here(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Yields the command, as a fixture does: ``run(workdir, "--quiet", trouble="stage_error")``."""

    def run_here(workdir: Path, *args: str, trouble: str = "") -> Finished:
        monkeypatch.setenv("TOY_TROUBLE", trouble)
        capfd.readouterr()
        code = main(["--workdir", str(workdir), *args])
        return Finished(code, *capfd.readouterr())

    for name, module in toy_pipeline.stand_ins().items():
        monkeypatch.setitem(sys.modules, name, module)
    yield run_here
    faulthandler.enable(2)


def summary_of(workdir: Path) -> dict[str, Any]:
    summary: dict[str, Any] = json.loads((workdir / "summary.json").read_text(encoding="utf-8"))
    return summary
