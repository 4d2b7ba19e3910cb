"""``python -m pipeline.run_kubeflow`` in the test's own process, against a fake backend."""

import faulthandler
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import kfp
import pytest
from fake_kfp import FakeKfp, Step
from small_package import STAGES, Compiler

from pipeline.kubeflow.client import transport, waiting
from pipeline.run_kubeflow import main

PIPELINE = [
    "--recipe",
    "pets_unet",
    "--data",
    "/data/pets",
    "--image",
    "seg:1",
    "--pipeline-root",
    "s3://b/root",
]
PUSHED = Step("SUCCEEDED", dict.fromkeys(STAGES, "SUCCEEDED"))
REFUSED = Step("SUCCEEDED", {**PUSHED.tasks, "model-pushed": "SKIPPED"})


class Finished(NamedTuple):
    """A command that has ended."""

    code: int
    out: str
    err: str


Command = Callable[..., Finished]


@contextmanager
def in_this_process(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> Iterator[Command]:
    """Yields the command, with a stand-in for the compiler, no configuration of kfp's, and short waits."""
    forget_configuration(monkeypatch, tmp_path)
    Compiler().install(monkeypatch)
    monkeypatch.setattr(waiting, "PACE", waiting.Pace(shortest=0.01, longest=0.05, patience=0.5))
    # On a busy machine even a fake that answers at once takes its time.
    monkeypatch.setattr(transport, "TIMEOUT", (10.0, 10.0))

    def run(*args: str | Path) -> Finished:
        capfd.readouterr()
        try:
            code = main([str(arg) for arg in args])
        except SystemExit as exit_:
            code = int(str(exit_.code))
        return Finished(code, *capfd.readouterr())

    yield run
    faulthandler.enable(2)


def forget_configuration(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hides what this machine's user has set up for kfp and kubectl."""
    for name in ("ENDPOINT", "UI_ENDPOINT", "SA_TOKEN_PATH", "IAP_OAUTH2_CLIENT_ID"):
        monkeypatch.delenv(f"KF_PIPELINES_{name}", raising=False)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "no-kubeconfig"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setattr(kfp.Client, "_LOCAL_KFP_CONTEXT", str(tmp_path / "no-context.json"))


def submission(fake: FakeKfp, *more: str | Path) -> list[str | Path]:
    return ["submit", *PIPELINE, "--host", fake.host, *more]
