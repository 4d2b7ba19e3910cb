"""The command as a person meets it: compiling, submitting, waiting for the verdict."""

import ast
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import fake_kfp
import pytest
import yaml
from command import PIPELINE, PUSHED, REFUSED, Command, in_this_process, submission
from fake_kfp import FakeKfp, Step
from small_package import STAGES, Compiler

from pipeline.kubeflow.parameter_values import RECIPE_KEYS

_REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def fake() -> Iterator[FakeKfp]:
    with fake_kfp.running() as backend:
        yield backend


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> Iterator[Command]:
    with in_this_process(monkeypatch, capfd, tmp_path) as run:
        yield run


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


def test_a_package_that_cannot_be_written_is_one_line(command: Command, tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    finished = command("compile", *PIPELINE, "--output", tmp_path / "file" / "pipeline.yaml")

    assert (finished.code, finished.out) == (2, "")
    assert re.fullmatch(r"--output \S+/pipeline.yaml: .+\n", finished.err)


def test_the_image_may_come_from_the_recipe(command: Command, compiler: Compiler, tmp_path: Path) -> None:
    without = [arg for arg in PIPELINE if arg not in ("--image", "seg:1")]

    missing = command("compile", *without, "--output", tmp_path / "a.yaml")
    given = command("compile", *without, "--set", "kubeflow.image=seg:2", "--output", tmp_path / "a.yaml")

    assert missing.code == 2 and "--image" in missing.err
    assert given.code == 0 and compiler.calls[0]["image"] == "seg:2"


def test_without_cache_no_stage_may_use_it(command: Command, compiler: Compiler, tmp_path: Path) -> None:
    stages = "kubeflow.stages={Trainer: {cache: true, gpus: 2}}"

    assert (
        command("compile", *PIPELINE, "--set", stages, "--no-cache", "--output", tmp_path / "a.yaml").code
        == 0
    )

    kubeflow = compiler.calls[0]["recipe"].kubeflow
    assert [kubeflow.stage(name).cache for name in ("Trainer", "Evaluator")] == [False, False]
    assert kubeflow.stage("Trainer").gpus == 2


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


def test_what_the_backend_refuses_while_waiting_says_that_the_run_goes_on(
    command: Command, fake: FakeKfp
) -> None:
    fake.script = [Step("RUNNING")]
    fake.at_first_fetch = lambda: fake.troubles.extend([None, 403])

    finished = command(*submission(fake, "--wait"))

    assert finished.code == 2
    assert "does not allow this" in finished.err and "the run goes on" in finished.err


def test_the_same_pipeline_is_uploaded_once(command: Command, fake: FakeKfp) -> None:
    first = command(*submission(fake))
    again = command(*submission(fake, "--param", "epochs=3"))
    changed = command(*submission(fake, "--set", "training.epochs=3"))

    assert (first.code, again.code, changed.code) == (0, 0, 0)
    assert "Uploaded version" in first.out and "Already there: version" in again.out
    assert len(fake.pipelines) == len(fake.experiments) == 1
    assert len(fake.versions) == 2 and len(fake.runs) == 3


def test_a_pushed_model_ends_with_0(command: Command, fake: FakeKfp) -> None:
    fake.script = [
        Step("PENDING"),
        Step("RUNNING", {"ImageMaskExampleGen": "RUNNING"}),
        Step("RUNNING", {"ImageMaskExampleGen": "SUCCEEDED", "Trainer": "RUNNING"}),
        PUSHED,
    ]

    finished = command(*submission(fake, "--wait"))

    assert finished.code == 0
    lines = finished.out.splitlines()
    begun = lines.index("      ImageMaskExampleGen …")
    assert lines[begun + 1 : begun + 3] == ["[1/5] ImageMaskExampleGen 1 min 5 s", "      Trainer …"]
    assert "[5/5] model-pushed 1 min 5 s" in lines
    assert any(line.startswith("Pushed") for line in lines)
    assert "driver" not in finished.out and "executor" not in finished.out


def test_a_refused_model_ends_with_3(command: Command, fake: FakeKfp) -> None:
    fake.script = [REFUSED]

    finished = command(*submission(fake, "--wait"))

    assert finished.code == 3
    assert "model-pushed skipped" in finished.out and "Refused, nothing was pushed" in finished.out


@pytest.mark.parametrize(
    ("step", "line"),
    [
        (
            Step("FAILED", {"Trainer": "FAILED"}, task_errors={"Trainer": "no\n  memory"}),
            "Trainer failed: no memory",
        ),
        (Step("FAILED", {"Trainer": "FAILED"}), "Trainer failed"),
        (Step("FAILED", {"Trainer-driver": "FAILED"}), "Trainer failed before it began"),
        (Step("FAILED", error="no quota"), "the run failed outside its stages: no quota"),
    ],
    ids=["reason", "no reason", "driver", "outside"],
)
def test_a_failed_stage_ends_with_1_and_shows_the_way_to_its_log(
    command: Command, fake: FakeKfp, step: Step, line: str
) -> None:
    fake.script = [step]

    finished = command(*submission(fake, "--wait", "--namespace", "ml"))

    assert finished.code == 1
    assert line in finished.out.splitlines()
    assert "kubectl -n ml logs -l pipeline/runid=run-1 -c main" in finished.out


def test_a_run_that_was_cancelled_ends_with_1(command: Command, fake: FakeKfp) -> None:
    # The workflow of a run that was cancelled ends as failed.
    fake.script = [Step("RUNNING"), Step("CANCELING"), Step("FAILED", {"Trainer": "FAILED"})]

    finished = command(*submission(fake, "--wait"))

    assert finished.code == 1
    assert "Cancelled" in finished.out


def test_a_backend_that_is_away_for_a_while_is_waited_for(command: Command, fake: FakeKfp) -> None:
    fake.script = [Step("RUNNING"), Step("RUNNING"), PUSHED]
    fake.at_first_fetch = lambda: fake.troubles.extend([503, 429, 401])

    finished = command(*submission(fake, "--wait"))

    assert finished.code == 0
    assert "trying again" in finished.out and "It answers again" in finished.out


def test_a_backend_that_stays_away_ends_the_waiting_with_2(command: Command, fake: FakeKfp) -> None:
    fake.script = [Step("RUNNING")]
    fake.at_first_fetch = fake.stop

    finished = command(*submission(fake, "--wait"))
    fake.start()

    assert finished.code == 2
    assert "cannot be reached" in finished.err
    assert "the run goes on, this follows it again:\n" in finished.err
    assert finished.err.endswith(f"  python -m pipeline.run_kubeflow wait run-1 --host {fake.host}\n")


def test_waiting_ends_with_its_timeout_and_the_run_goes_on(command: Command, fake: FakeKfp) -> None:
    fake.script = [Step("RUNNING")]

    finished = command(*submission(fake, "--wait", "--timeout", "0.1"))

    assert finished.code == 130
    assert "the run goes on" in finished.err and "wait run-1" in finished.err


def test_wait_follows_a_run_that_was_started_before(command: Command, fake: FakeKfp) -> None:
    fake.script = [REFUSED]
    assert command(*submission(fake)).code == 0

    finished = command("wait", "run-1", "--host", fake.host)

    assert finished.code == 3
    assert "[5/5] " in finished.out


def test_waiting_for_a_run_that_is_not_there_is_one_line(command: Command, fake: FakeKfp) -> None:
    finished = command("wait", "run-7", "--host", fake.host)

    assert finished.code == 2
    assert finished.err == f"{fake.host} does not have it (404 Not Found): Not Found\n"


def test_a_run_of_another_project_is_not_judged(command: Command, fake: FakeKfp) -> None:
    assert command(*submission(fake)).code == 0
    spec = fake.versions["version-1"].pipeline_spec["pipeline_spec"]
    del spec["root"]["dag"]["tasks"]["model-pushed"]
    fake.script = [PUSHED]

    finished = command("wait", "run-1", "--host", fake.host)

    assert finished.code == 2
    assert "model-pushed" in finished.err


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


def test_a_recurring_run_is_not_made_twice(command: Command, fake: FakeKfp) -> None:
    assert command(*submission(fake, "--cron", "@daily")).code == 0

    finished = command(*submission(fake, "--cron", "@hourly"))

    assert finished.code == 2 and len(fake.recurring) == 1
    assert "recurring-1" in finished.err and "--cron-name" in finished.err


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--param", "epoch=3"], "did you mean epochs? (there is data_path, epochs, learning_rate,"),
        (["--param", "epochs=0"], "training.epochs is 0"),
        (["--param", "epochs=many"], "training.epochs is 'many'"),
        (["--param", "epochs"], "write it as NAME=VALUE"),
        (["--param", "data_path=data"], "dataset.root is 'data'; give the absolute path"),
        (["--param", "serving_dir=/elsewhere"], "/elsewhere, which none of kubeflow.volumes provides"),
        (["--set", "training.epochz=3"], "did you mean training.epochs?"),
        (["--cron", "0 3 * * *"], "'0 0 3 * * *'"),
        (["--cron", "daily"], "six fields"),
        (["--cron", "@daily", "--wait"], "--wait follows one run"),
        (["--catchup"], "--catchup goes with --cron"),
        (["--cron", "@daily", "--start", "2030-01-31T06:00:00"], "its zone"),
        (["--cron", "@daily", "--max-concurrency", "11"], "--max-concurrency"),
        (["--timeout", "5"], "--timeout goes with --wait"),
        (["--wait", "--timeout", "0"], "above 0"),
        (["--pipeline-root", "/tmp/root"], "s3://BUCKET"),
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


def test_an_interrupt_while_waiting_says_how_to_go_on_waiting(fake: FakeKfp, tmp_path: Path) -> None:
    fake.script = [Step("RUNNING", {"Trainer": "RUNNING"})]
    fake.versions["version-1"] = _version()
    fake.runs["run-1"] = _run()
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline.run_kubeflow", "wait", "run-1", "--host", fake.host],
        cwd=_REPOSITORY,
        env=os.environ | {"HOME": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert "run-1" in process.stdout.readline()
        assert "Trainer …" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    finally:
        process.kill()

    assert process.returncode == 130
    assert err.startswith("interrupted; the run goes on") and f"wait run-1 --host {fake.host}" in err


def _version() -> fake_kfp.api.V2beta1PipelineVersion:
    spec = {"root": {"dag": {"tasks": {name: {"taskInfo": {"name": name}} for name in STAGES}}}}
    return fake_kfp.api.V2beta1PipelineVersion(pipeline_spec=spec)


def _run() -> fake_kfp.api.V2beta1Run:
    reference = fake_kfp.api.V2beta1PipelineVersionReference(
        pipeline_id="pipeline-1", pipeline_version_id="version-1"
    )
    return fake_kfp.api.V2beta1Run(run_id="run-1", pipeline_version_reference=reference)


@pytest.mark.parametrize("command_name", [[], ["compile"], ["submit"], ["wait"]])
def test_help_imports_neither_tensorflow_nor_tfx_nor_kfp(command_name: list[str]) -> None:
    code = (
        "import sys, pipeline.run_kubeflow as command\n"
        f"try: command.main({[*command_name, '--help']})\n"
        "except SystemExit: pass\n"
        "print(*{'tensorflow', 'tfx', 'kfp', 'kfp_server_api'} & set(sys.modules), file=sys.stderr)"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], cwd=_REPOSITORY, capture_output=True, text=True, check=True
    )

    assert done.stderr.strip() == ""
    assert "usage: python -m pipeline.run_kubeflow" in done.stdout


def test_every_parameter_of_the_pipeline_can_be_given() -> None:
    # Read, not imported: that would take the seconds of importing TFX.
    module = ast.parse((_REPOSITORY / "pipeline" / "parameters.py").read_text(encoding="utf-8"))
    (parameters,) = (node for node in module.body if isinstance(node, ast.ClassDef))

    fields = [ast.unparse(node.target) for node in parameters.body if isinstance(node, ast.AnnAssign)]

    assert fields == list(RECIPE_KEYS)
