"""The command as a person meets it: compiling and submitting."""

import copy
import os
import re
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

import fake_kfp
import pytest
import yaml
from command import PIPELINE, Command, Compiler, fake_backend, in_this_process, submission
from fake_kfp import FakeKfp

from components.run_parameters import RunParameters
from pipeline.kubeflow.client import submit, transport
from pipeline.kubeflow.client.parameters import PARAMETER_KEYS

_REPOSITORY = Path(__file__).resolve().parents[2]

fake, command = fake_backend, in_this_process


@pytest.fixture
def compiler(command: Command, monkeypatch: pytest.MonkeyPatch) -> Compiler:
    compiler = Compiler()
    compiler.install(monkeypatch)
    return compiler


def test_compile_writes_both_documents_and_says_how_to_run_them(command: Command, tmp_path: Path) -> None:
    output = tmp_path / "new folder" / "pipeline.yaml"

    finished = command("compile", *PIPELINE, "--set", "training.epochs=7", "--output", output)

    assert finished.code == 0
    spec, platform = yaml.safe_load_all(output.read_text())
    assert spec["root"]["inputDefinitions"]["parameters"]["epochs"]["defaultValue"] == 7
    assert "kubernetes" in platform["platforms"]
    assert str(output) in finished.out
    assert "submit --recipe pets_unet --data /data/pets --set training.epochs=7 --image seg:1" in finished.out
    assert os.listdir(output.parent) == ["pipeline.yaml"]


@pytest.mark.parametrize("folder", ["file", "file/below"])
def test_a_package_that_cannot_be_written_is_one_line(command: Command, tmp_path: Path, folder: str) -> None:
    (tmp_path / "file").touch()

    finished = command("compile", *PIPELINE, "--output", tmp_path / folder / "pipeline.yaml")

    assert (finished.code, finished.out) == (2, "")
    assert re.fullmatch(r"--output \S+/pipeline.yaml: .*(no folder|Not a directory)\n", finished.err)


def test_a_package_does_not_replace_its_recipe(
    command: Command, compiler: Compiler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = tmp_path / "k.yaml"
    text = (_REPOSITORY / "pipeline/recipes/pets_unet.yaml").read_text()
    recipe.write_text(text)

    finished = command("compile", *PIPELINE, "--recipe", recipe, "--output", "k.yaml")

    assert (finished.code, finished.out) == (2, "")
    assert finished.err == "--output k.yaml is the recipe itself; choose another file\n"
    assert recipe.read_text() == text


def test_the_image_may_come_from_the_recipe(command: Command, compiler: Compiler, tmp_path: Path) -> None:
    without = [arg for arg in PIPELINE if arg not in ("--image", "seg:1")]

    missing = command("compile", *without, "--output", tmp_path / "a.yaml")
    given = command("compile", *without, "--set", "kubeflow.image=seg:2", "--output", tmp_path / "a.yaml")

    assert missing.code == 2 and "--image" in missing.err
    assert given.code == 0 and compiler.calls[0]["image"] == "seg:2"


def test_the_recipe_holds_what_the_command_line_says_instead(
    command: Command, compiler: Compiler, tmp_path: Path
) -> None:
    changes = ["--set", "kubeflow={image: 'seg:2', cache: true}", "--no-cache"]

    assert command("compile", *PIPELINE, *changes, "--output", tmp_path / "a.yaml").code == 0

    kubeflow = compiler.calls[0]["recipe"].kubeflow
    assert (kubeflow.image, kubeflow.cache) == ("seg:1", False)


def test_submit_starts_a_run_of_a_new_version(command: Command, fake: FakeKfp) -> None:
    finished = command(*submission(fake, "--param", "epochs=3", "--param", "data_path=/data/other"))

    assert finished.code == 0, finished.err
    (run,) = fake.runs.values()
    assert run.runtime_config == {
        "pipeline_root": "s3://b/root",
        "parameters": {"epochs": 3, "data_path": "/data/other"},
    }
    assert run.service_account == "segmentation-pipeline"
    assert fake.experiments[run.experiment_id].display_name == "pets_unet"
    (version,) = fake.versions.values()
    assert run.pipeline_version_reference == {
        "pipeline_id": version.pipeline_id,
        "pipeline_version_id": version.pipeline_version_id,
    }
    assert re.fullmatch(r"pets-unet-[0-9a-f]{12}", version.name)
    assert f"{fake.host}/#/runs/details/{run.run_id}" in finished.out
    assert f"wait {run.run_id} --host {fake.host}" in finished.out


def test_the_same_pipeline_is_uploaded_once(command: Command, fake: FakeKfp) -> None:
    first = command(*submission(fake))
    again = command(*submission(fake, "--param", "epochs=3"))
    changed = command(*submission(fake, "--set", "training.epochs=3"))

    assert (first.code, again.code, changed.code) == (0, 0, 0)
    assert "Uploaded version" in first.out and "Already there: version" in again.out
    assert len(fake.pipelines) == len(fake.experiments) == 1
    assert len(fake.versions) == 2 and len(fake.runs) == 3


def test_cron_makes_a_recurring_run(command: Command, fake: FakeKfp) -> None:
    nightly = ["--cron", "0 0 3 * * *", "--start", "2030-01-31T06:00:00+01:00", "--max-concurrency", "2"]

    finished = command(*submission(fake, *nightly, "--cron-name", "nightly", "--param", "min_mean_iou=0.7"))

    assert finished.code == 0, finished.err
    (job,) = fake.recurring.values()
    assert job.trigger == {
        "cron_schedule": {"cron": "0 0 3 * * *", "start_time": "2030-01-31T06:00:00+01:00"}
    }
    assert (job.display_name, job.mode, job.max_concurrency, job.no_catchup) == ("nightly", "ENABLE", 2, True)
    assert job.runtime_config["parameters"] == {"min_mean_iou": 0.7}
    assert not fake.runs
    assert f"{fake.host}/#/recurringrun/details/recurring-1" in finished.out
    assert "is a tag, so every run begins anew" in finished.out


def test_a_recurring_run_of_an_image_by_digest_may_reuse_stages(command: Command, fake: FakeKfp) -> None:
    digest = f"registry.example/segmentation@sha256:{64 * '1'}"
    finished = command(*submission(fake, "--cron", "@daily", "--image", digest))
    assert finished.code == 0 and "begins anew" not in finished.out


@pytest.mark.parametrize(
    ("health", "says"),
    [
        (
            {"tag_name": "2.16.1"},
            "Warning: Kubeflow Pipelines 2.16.1 starts recurring runs not as segmentation-pip",
        ),
        ({"apiServerTagName": "2.9.0"}, "Warning: Kubeflow Pipelines 2.9.0 starts"),
        (
            {"tag_name": "unknown"},
            "does not tell its version (unknown); if it is older than 2.17.0, it starts",
        ),
        ({}, "does not tell its version (none)"),
        ({"tag_name": "2.17.0"}, None),
        ({"apiServerTagName": "v3.0.0-rc.1"}, None),
    ],
)
def test_a_backend_that_takes_another_account_for_recurring_runs_is_told_of(
    command: Command, fake: FakeKfp, health: dict[str, str], says: str | None
) -> None:
    fake.health = health

    finished = command(*submission(fake, "--cron", "@daily"))
    once = command(*submission(fake))
    as_told = command(
        *submission(fake, "--cron", "@daily", "--cron-name", "b", "--set", "kubeflow.service_account=null")
    )

    assert (finished.code, once.code, as_told.code) == (0, 0, 0)
    assert says in finished.out if says else "Warning" not in finished.out
    assert "Warning" not in once.out and "Warning" not in as_told.out


@pytest.mark.parametrize("schedule", [[], ["--cron", "@daily"]])
def test_a_backend_that_refuses_the_account_is_told_of_with_what_lets_it_have_it(
    command: Command, fake: FakeKfp, schedule: list[str]
) -> None:
    fake.allowed_accounts, fake.usable_accounts = [], []
    unlisted = command(*submission(fake, *schedule))
    fake.allowed_accounts = ["segmentation-pipeline"]
    unusable = command(*submission(fake, *schedule))
    kubeflows = command(*submission(fake, *schedule, "--set", "kubeflow.service_account=null"))
    assert (unlisted.code, unusable.code, kubeflows.code) == (2, 2, 0)
    assert "ALLOWEDSERVICEACCOUNTS of the deployment ml-pipeline" in unlisted.err
    assert "the verb use on serviceaccounts of that name" in unusable.err
    assert "kubeflow.service_account to null" in unlisted.err


def test_a_recurring_run_is_not_made_twice(command: Command, fake: FakeKfp) -> None:
    assert command(*submission(fake, "--cron", "@daily")).code == 0

    finished = command(*submission(fake, "--cron", "@hourly"))

    assert finished.code == 2 and len(fake.recurring) == 1
    assert "recurring-1" in finished.err and "--cron-name" in finished.err

    # Those that were stopped fill the first page of the list.
    stopped = copy.copy(fake.recurring["recurring-1"])
    stopped.status = "DISABLED"
    fake.recurring = {f"stopped-{number}": stopped for number in range(10)} | fake.recurring
    assert command(*submission(fake, "--cron", "@hourly")).code == 2 and len(fake.recurring) == 11


def test_a_recurring_run_that_was_stopped_makes_room_for_another(command: Command, fake: FakeKfp) -> None:
    assert command(*submission(fake, "--cron", "@daily")).code == 0
    fake.recurring["recurring-1"].status = "DISABLED"

    assert command(*submission(fake, "--cron", "@hourly")).code == 0

    assert len(fake.recurring) == 2


@pytest.mark.parametrize(("schedule", "endpoint"), [([], "run"), (["--cron", "@daily"], "recurring")])
def test_a_run_that_may_have_been_started_is_told_of(
    command: Command, fake: FakeKfp, monkeypatch: pytest.MonkeyPatch, schedule: list[str], endpoint: str
) -> None:
    create = getattr(fake, f"_create_{endpoint}")

    def create_late(request: Any) -> Any:
        created = create(request)
        time.sleep(2)
        return created

    monkeypatch.setattr(fake, f"_create_{endpoint}", create_late)
    monkeypatch.setattr(transport, "TIMEOUT", (10.0, 1.0))

    finished = command(*submission(fake, *schedule))

    assert finished.code == 2 and len(fake.runs) + len(fake.recurring) == 1
    assert "does not answer within 1 s; pets_unet" in finished.err
    assert "may have been started nevertheless: look for it before you submit again" in finished.err


def test_a_run_that_was_refused_has_not_been_started(
    command: Command, fake: FakeKfp, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(request: Any) -> Any:
        raise fake_kfp.Refusal(401, "Unauthenticated")

    monkeypatch.setattr(fake, "_create_run", refuse)

    finished = command(*submission(fake))

    assert finished.code == 2
    assert "does not know who asks" in finished.err and "may have been started" not in finished.err


def test_an_interrupt_while_a_run_is_started_does_not_say_that_there_is_none(
    command: Command, fake: FakeKfp, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(submit, "start", interrupted)

    finished = command(*submission(fake))

    assert finished.code == 130
    assert "interrupted; pets_unet" in finished.err and "may have been started nevertheless" in finished.err


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--param", "epoch=3"], "did you mean epochs? (there is data_path, epochs, learning_rate,"),
        (["--param", "epochs=0"], "training.epochs is 0"),
        (["--param", "epochs=many"], "training.epochs is 'many'"),
        (["--param", "epochs"], "write it as NAME=VALUE"),
        (["--param", "data_path=data"], "dataset.root is 'data'; give the absolute path"),
        (["--param", "data_path=s3://b/pets"], "with --data s3://b/pets it is compiled to read this"),
        (["--param", "serving_dir=/elsewhere"], "/elsewhere, which none of kubeflow.volumes provides"),
        (["--set", "training.epochz=3"], "did you mean training.epochs?"),
        (["--cron", "0 3 * * *"], "'0 0 3 * * *'"),
        (["--cron", "daily"], "six fields"),
        (["--cron", "@dayly"], "@daily"),
        (["--cron", "a b c d e f"], "six fields"),
        (["--cron", "@daily", "--start", "2030-01-31T06:00Z", "--end", "2030-01-30T06:00Z"], "not before"),
        (["--cron", "@daily", "--end", "2020-01-30T06:00Z"], "--end 2020-01-30T06:00:00Z is past"),
        (["--cron", "@daily", "--wait"], "--wait follows one run"),
        (["--catchup"], "--catchup goes with --cron"),
        (["--cron", "@daily", "--start", "2030-01-31T06:00:00"], "its zone"),
        (["--cron", "@daily", "--max-concurrency", "11"], "--max-concurrency"),
        (["--timeout", "5"], "--timeout goes with --wait"),
        (["--wait", "--timeout", "0"], "above 0"),
        (["--pipeline-root", "/tmp/root"], "s3://BUCKET"),
        (["--pipeline-root", "s3://bucket/my root"], "s3://BUCKET"),
        (["--pipeline-root", "s3://bucket/root?region=x"], "s3://BUCKET"),
        (["--pipeline-root", "s3://bucket/root[1]"], "without * ? [ and"),
        (["--image", "seg 1"], "kubeflow.image is 'seg 1'"),
        (["--token-file", "a", "--cookies-file", "b"], "not allowed with"),
        (["--experiment", ""], "it is empty"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_told_before_anybody_is_asked(
    command: Command, fake: FakeKfp, options: list[str], says: str
) -> None:
    finished = command(*submission(fake, *options))

    assert (finished.code, finished.out) == (2, "")
    assert says in finished.err
    assert not fake.requests


def test_help_imports_neither_tensorflow_nor_tfx_nor_kfp() -> None:
    code = (
        "import contextlib, sys, pipeline.run_kubeflow as command\n"
        "for name in ([], ['compile'], ['submit'], ['wait']):\n"
        "    with contextlib.suppress(SystemExit):\n"
        "        command.main([*name, '--help'])\n"
        "print(*{'tensorflow', 'tfx', 'kfp', 'kfp_server_api'} & set(sys.modules), file=sys.stderr)"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], cwd=_REPOSITORY, capture_output=True, text=True, check=True
    )

    assert done.stderr.strip() == ""
    assert done.stdout.count("usage: python -m pipeline.run_kubeflow") == 4


def test_every_parameter_of_the_pipeline_can_be_given() -> None:
    assert [field.name for field in fields(RunParameters)] == list(PARAMETER_KEYS)
