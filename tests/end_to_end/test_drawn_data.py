"""Whole runs on drawn shapes: pushed, repeated, refused, interrupted."""

import json
import os
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest
from commands import Finished, command, run, run_cold
from warm_process import WarmProcess

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SHAPES = ["disc", "square", "triangle", "boundary"]
TINY = {
    "dataset__shapes__num_images": 60,
    "transform__height": 32,
    "transform__width": 32,
    "model__filters": 4,
    "model__depth": 3,
    "training__epochs": 3,
    "training__learning_rate": 0.01,
    "evaluation__min_mean_iou": 0.05,
    "evaluation__allow_unmeasured_classes": SHAPES,
}


@pytest.fixture(scope="module")
def pushed(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    workdir = tmp_path_factory.mktemp("shapes") / "work"
    finished = run_cold(workdir, **TINY)
    assert finished.code == 0, finished.output
    return finished


def test_a_run_ends_in_a_pushed_model_and_says_where(pushed: Finished) -> None:
    summary = pushed.summary
    assert summary["outcome"] == "pushed" and summary["reasons"] == []
    version = Path(summary["serving_dir"], str(summary["pushed_version"]))
    assert (version / "saved_model.pb").exists() and str(version) in pushed.output
    assert sum(summary["examples"][split] for split in ("train", "val", "test")) == 60
    assert summary["metrics"]["examples"] == summary["examples"]["test"]


def test_a_rerun_with_nothing_changed_reuses_every_stage_and_pushes_nothing(pushed: Finished) -> None:
    before, summary = pushed.served_files(), pushed.summary
    again = run(pushed.workdir, **TINY)
    assert again.code == 0, again.output
    assert [name for name, cached in again.cached.items() if not cached] == ["Report"]
    assert "Nothing has changed" in again.output
    assert again.served_files() == before
    for key in ("outcome", "pushed_version", "metrics", "baseline", "examples"):
        assert again.summary[key] == summary[key]


def test_a_model_under_the_threshold_is_refused(pushed: Finished) -> None:
    before = pushed.served_files()
    refused = run(pushed.workdir, **{**TINY, "evaluation__min_mean_iou": 0.99})
    assert refused.code == 3, refused.output
    assert refused.summary["outcome"] == "rejected"
    assert "evaluation.min_mean_iou" in refused.summary["reasons"][0]
    assert refused.summary["reasons"][0] in refused.output
    assert refused.served_files() == before
    assert refused.cached["Trainer"] and not refused.cached["Evaluator"]


def test_a_model_that_knows_nothing_is_refused_for_all_that_it_lacks(pushed: Finished) -> None:
    """It is worse than the served one, and says some classes nowhere."""
    before, served = pushed.served_files(), pushed.summary
    worse = run(
        pushed.workdir,
        **{
            **TINY,
            "training__epochs": 1,
            "training__learning_rate": 1e-7,
            "evaluation__min_mean_iou": 0.0,
            "evaluation__allow_unmeasured_classes": [],
        },
    )
    assert worse.code == 3, worse.output
    regression, unfound = worse.summary["reasons"]
    numbers = (worse.summary["metrics"]["mean_iou"], served["metrics"]["mean_iou"])
    assert all(f"{number:.3f}" in regression for number in numbers), regression
    assert unfound.startswith("no pixel is rightly predicted as ")
    assert "evaluation.allow_unmeasured_classes" in unfound
    assert regression in worse.output and unfound in worse.output
    assert worse.summary["baseline"]["metrics"]["mean_iou"] == pytest.approx(numbers[1], abs=1e-6)
    assert worse.summary["untrained_classes"] == []
    assert worse.served_files() == before


# The tests from here on push, so they come after those that ask about the first push.

KILLED = {**TINY, "training__epochs": 8, "training__early_stopping_patience": None}
KILLED |= {"evaluation__max_regression": None}


@dataclass(frozen=True)
class Dead:
    """A run that was killed in its training, and once more, as it went on, in its push."""

    code: int
    output: str
    """Of the second process."""
    before: set[int]
    """The versions that were served before."""


@pytest.fixture(scope="module")
def dead(pushed: Finished, tmp_path_factory: pytest.TempPathFactory) -> Dead:
    before = served_versions(pushed.workdir)
    _, *given = command(pushed.workdir, **KILLED)
    kill_when_it_says("epoch 3/8", given)
    # The command, but the process kills itself once the copy has begun.
    dying = tmp_path_factory.mktemp("dying") / "run_local.py"
    dying.write_text(
        "import os, runpy, shutil, signal\n"
        "copytree = shutil.copytree\n"
        "def dying(source, target, *args, **kwargs):\n"
        "    copytree(source, target, *args, **kwargs)\n"
        "    if '.publishing' in str(target):\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "shutil.copytree = dying\n"
        "runpy.run_module('pipeline.run_local', run_name='__main__')\n"
    )
    process = WarmProcess([str(dying), *given[2:]], merged=True)
    output, _ = process.communicate()
    return Dead(process.wait(), output, before)


def test_a_killed_training_goes_on_at_its_epoch(pushed: Finished, dead: Dead) -> None:
    assert "going on after epoch" in dead.output, dead.output
    assert "epoch 2/8" not in dead.output and "epoch 8/8" in dead.output
    records = (pushed.workdir / "artifacts" / "Trainer" / "model_run").glob("*/history.json")
    newest = max(records, key=lambda path: int(path.parent.name))
    assert len(json.loads(newest.read_text())["epochs"]) == 8


def test_a_push_killed_half_way_leaves_nothing_to_load_and_is_made_good(pushed: Finished, dead: Dead) -> None:
    assert dead.code == -signal.SIGKILL, dead.output
    copy = pushed.workdir / "serving" / "shapes" / ".publishing"
    assert any(copy.rglob("*")), "the copy had begun"
    assert served_versions(pushed.workdir) == dead.before

    finished = run(pushed.workdir, **KILLED)
    assert finished.code == 0, finished.output
    assert finished.cached["Trainer"]
    assert served_versions(pushed.workdir) == {*dead.before, finished.summary["pushed_version"]}
    assert not copy.exists()


def served_versions(workdir: Path) -> set[int]:
    folders = (workdir / "serving" / "shapes").iterdir()
    return {int(path.name) for path in folders if path.name.isdecimal()}


def kill_when_it_says(words: str, arguments: list[str]) -> None:
    """Starts a run and kills it, with all its children, as soon as ``words`` appear."""
    process = WarmProcess(arguments, merged=True, own_group=True)
    assert process.stdout is not None
    seen = []
    for line in process.stdout:
        seen.append(line)
        if words in line:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return
    raise AssertionError("".join(seen))
