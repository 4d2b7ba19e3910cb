"""A run on drawn shapes that is killed twice and pushed in the end; then repeated, and refused."""

import json
import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from commands import REPOSITORY, Finished, command, run
from warm_process import WarmProcess

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SHAPES = ["disc", "square", "triangle", "boundary"]
TINY = {
    "dataset__shapes__num_images": 60,
    "transform__height": 32,
    "transform__width": 32,
    "model__filters": 4,
    "model__depth": 2,
    "training__epochs": 8,
    "training__early_stopping_patience": None,
    "training__learning_rate": 0.01,
    "evaluation__min_mean_iou": 0.05,
    "evaluation__allow_unmeasured_classes": SHAPES,
    "beam__workers": 1,
}


@dataclass(frozen=True)
class Dead:
    """A run that was killed in its training, and once more, as it went on, in its push."""

    workdir: Path
    code: int
    output: str
    """Of the second process."""


@pytest.fixture(scope="module")
def dead(tmp_path_factory: pytest.TempPathFactory) -> Dead:
    """By a new interpreter, as a person would, and by one that has imported TFX."""
    workdir = tmp_path_factory.mktemp("shapes") / "work"
    arguments = command(workdir, **TINY)
    kill_when_it_says("epoch 3/8", arguments)
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
    process = WarmProcess([str(dying), *arguments[3:]], merged=True)
    output, _ = process.communicate()
    return Dead(workdir, process.wait(), output)


def kill_when_it_says(words: str, arguments: list[str]) -> None:
    """Starts a run and kills it, with all its children, as soon as ``words`` appear."""
    process = subprocess.Popen(
        arguments,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=REPOSITORY,
        start_new_session=True,
    )
    assert process.stdout is not None
    seen = []
    for line in process.stdout:
        seen.append(line)
        if words in line:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return
    raise AssertionError("".join(seen))


def test_a_killed_training_goes_on_at_its_epoch(dead: Dead) -> None:
    assert "going on after epoch" in dead.output, dead.output
    assert "epoch 2/8" not in dead.output and "epoch 8/8" in dead.output
    records = (dead.workdir / "artifacts" / "Trainer" / "model_run").glob("*/history.json")
    newest = max(records, key=lambda path: int(path.parent.name))
    assert len(json.loads(newest.read_text())["epochs"]) == 8


def test_a_push_killed_half_way_leaves_nothing_to_load(dead: Dead) -> None:
    assert dead.code == -signal.SIGKILL, dead.output
    serving = dead.workdir / "serving" / "shapes"
    assert any((serving / ".publishing").rglob("*")), "the copy had begun"
    assert not [path for path in serving.iterdir() if path.name.isdecimal()]


# From here on there is a version.


@pytest.fixture(scope="module")
def pushed(dead: Dead) -> Finished:
    finished = run(dead.workdir, **TINY)
    assert finished.code == 0, finished.output
    return finished


def test_the_run_after_it_makes_it_good_and_trains_nothing(pushed: Finished) -> None:
    assert pushed.cached["Trainer"]
    [version] = (pushed.workdir / "serving" / "shapes").glob("[!.]*")
    assert version.name == str(pushed.summary["pushed_version"])
    assert not version.with_name(".publishing").exists()


def test_a_run_ends_in_a_pushed_model_and_says_where(pushed: Finished) -> None:
    summary = pushed.summary
    assert summary["outcome"] == "pushed" and summary["reasons"] == []
    version = Path(summary["serving_dir"], str(summary["pushed_version"]))
    assert (version / "saved_model.pb").exists() and str(version) in pushed.output
    assert sum(summary["examples"][split] for split in ("train", "val", "test")) == 60
    assert summary["metrics"]["examples"] == summary["examples"]["test"]
    drawn = pushed.workdir / "drawn"
    assert f"pipeline.predict {drawn} --server" in pushed.output
    assert [path.name for path in sorted(drawn.iterdir())] == [f"{number}.jpg" for number in range(1, 5)]


def test_a_rerun_with_nothing_changed_reuses_every_stage_and_pushes_nothing(pushed: Finished) -> None:
    before, summary = pushed.served_files(), pushed.summary
    again = run(pushed.workdir, **TINY)
    assert again.code == 0, again.output
    assert all(again.cached.values())
    assert "Nothing has changed" in again.output
    assert again.served_files() == before
    for key in ("outcome", "pushed_version", "metrics", "baseline", "examples"):
        assert again.summary[key] == summary[key]


def test_a_model_that_knows_nothing_is_refused_for_all_that_it_lacks(pushed: Finished) -> None:
    """It is under the threshold and worse than the served one, and says some classes nowhere."""
    before, served = pushed.served_files(), pushed.summary
    worse = run(
        pushed.workdir,
        **{
            **TINY,
            "training__epochs": 1,
            "training__learning_rate": 1e-7,
            "evaluation__min_mean_iou": 0.99,
            "evaluation__allow_unmeasured_classes": [],
        },
    )
    assert worse.code == 3, worse.output
    assert worse.summary["outcome"] == "rejected"
    threshold, regression, unfound = worse.summary["reasons"]
    assert "evaluation.min_mean_iou" in threshold
    numbers = (worse.summary["metrics"]["mean_iou"], served["metrics"]["mean_iou"])
    assert all(f"{number:.3f}" in regression for number in numbers), regression
    assert unfound.startswith("no pixel is rightly predicted as ")
    assert "evaluation.allow_unmeasured_classes" in unfound
    assert all(reason in worse.output for reason in (threshold, regression, unfound))
    assert worse.summary["baseline"]["metrics"]["mean_iou"] == pytest.approx(numbers[1], abs=1e-6)
    assert worse.summary["untrained_classes"] == []
    assert worse.served_files() == before
