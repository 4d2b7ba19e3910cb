"""The container command, given what the launcher gives and read as the launcher reads."""

import base64
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.errors import StageError
from pipeline.kubeflow import entrypoint, uris
from pipeline.kubeflow.spec import artifacts

_SPEC_TYPES = {
    "model": "tfx.Model",
    "baseline_model": "tfx.Model",
    "blessing": "tfx.ModelBlessing",
    "infra": "tfx.InfraBlessing",
    "examples": "tfx.Examples",
    "ingestion": "segmentation.IngestionReport",
}


@pytest.fixture
def roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Puts the launcher's copies below a temporary directory."""
    local = {scheme: f"{tmp_path}{root}" for scheme, root in uris._LOCAL_ROOTS.items()}
    monkeypatch.setattr(uris, "_LOCAL_ROOTS", local)
    return tmp_path


def _artifact(uri: str, **fields: Any) -> dict[str, Any]:
    return {"artifacts": [{"uri": uri, **fields}]}


def _spec(keys: list[str]) -> dict[str, Any]:
    """As TFX's compiler writes it: a YAML schema for every artifact."""
    schema = {key: {"artifactType": {"instanceSchema": f"title: {_SPEC_TYPES[key]}\n"}} for key in keys}
    return {"artifacts": schema}


def _run(
    executor: str,
    executor_input: dict[str, Any],
    inputs_spec: dict[str, Any] | None = None,
    outputs_spec: dict[str, Any] | None = None,
) -> int:
    return entrypoint.main(
        [
            f"--executor_class_path=toy_executors.{executor}",
            f"--json_serialized_invocation_args={json.dumps(executor_input)}",
            f"--json_serialized_inputs_spec_args={json.dumps(inputs_spec or {})}",
            f"--json_serialized_outputs_spec_args={json.dumps(outputs_spec or {})}",
        ]
    )


def _judged(roots: Path, untyped: dict[str, Any]) -> dict[str, Any]:
    """Runs `Judge` on inputs with that for a type; returns the output file's artifacts by key."""
    keys = ["model", "blessing", "infra", "examples", "ingestion"]
    metadata = {
        "blessing": {"blessed": 1.0},
        "infra": {"blessed": 1.0},
        "examples": {"span": 3.0, "split_names": '["train"]', "display_name": "examples"},
    }
    inputs_spec = _spec(keys)
    inputs_spec["parameters"] = {
        "epochs": {"parameterType": "NUMBER_INTEGER"},
        "learning_rate": {"parameterType": "NUMBER_DOUBLE"},
    }
    outputs_spec = {
        "artifacts": {
            "out": {"artifactType": {"instanceSchema": "title: tfx.Examples\n"}},
            "report": {"artifactType": {"instanceSchema": "title: segmentation.Report\n"}},
            "page": {"artifactType": {"instanceSchema": "title: segmentation.Page\n"}},
        }
    }
    executor_input = {
        "inputs": {
            "parameterValues": {
                "epochs": 2.0,
                "learning_rate": 1.0,
                "labels": "",
                "lineage": "",
                "lineage_x": 1.0,
            },
            "artifacts": {
                key: _artifact(f"s3://bucket/run/{key}", name="17", metadata=metadata.get(key, {}), **untyped)
                for key in keys
            },
        },
        "outputs": {
            "outputFile": str(roots / "outputs" / "output_metadata.json"),
            "artifacts": {
                "out": _artifact("s3://bucket/run/out", type={"schemaTitle": "system.Dataset"}),
                "report": _artifact("s3://bucket/run/report", type={"schemaTitle": "system.Artifact"}),
                "page": _artifact("s3://bucket/run/page", type={"schemaTitle": "system.HTML"}),
                "executor-logs": _artifact("s3://bucket/run/logs-0", type={"schemaTitle": "system.Artifact"}),
            },
        },
    }
    # The launcher has it open.
    logs = roots / "s3/bucket/run/logs-0"
    logs.parent.mkdir(parents=True, exist_ok=True)
    logs.touch()
    assert _run("Judge", executor_input, inputs_spec, outputs_spec) == 0
    written = json.loads((roots / "outputs" / "output_metadata.json").read_text())
    return {key: members["artifacts"][0] for key, members in written["artifacts"].items()}


@pytest.mark.parametrize(
    "untyped", [{}, {"type": {"instanceSchema": ""}}, {"type": {"schemaTitle": "system.Artifact"}}]
)
def test_the_executor_gets_artifacts_of_the_declared_classes_on_its_own_disk(
    roots: Path, untyped: dict[str, Any]
) -> None:
    _judged(roots, untyped)
    from toy_executors import seen

    assert seen["classes"] == {
        "model": "Model",
        "blessing": "ModelBlessing",
        "infra": "InfraBlessing",
        "examples": "Examples",
        "ingestion": "PlainArtifact",
        "out": "Examples",
        "report": "PlainArtifact",
        "page": "PlainArtifact",
    }
    assert seen["uris"] == {key: f"{roots}/s3/bucket/run/{key}" for key in seen["uris"]}
    assert all(seen["directories"])


@pytest.mark.parametrize("text", ["", "[]", base64.b64encode(b"{").decode()])
def test_options_that_did_not_arrive_are_not_taken_for_none(
    text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Kubernetes fills the variable with nothing where there is no such annotation."""
    monkeypatch.setenv("STAGE_OPTIONS", text)
    with pytest.raises(SystemExit) as ended:
        entrypoint.main(["--announce_pushed_model", "{}"])
    assert ended.value.code == 2
    assert "STAGE_OPTIONS is not what the package says in the annotation" in capsys.readouterr().err


def test_doubles_become_the_whole_numbers_that_they_were_and_lineage_is_the_caches_alone(roots: Path) -> None:
    _judged(roots, {})
    from toy_executors import seen

    properties = seen["exec_properties"]
    assert properties == {"epochs": 2, "learning_rate": 1.0, "labels": ""}
    assert type(properties["epochs"]) is int and type(properties["learning_rate"]) is float
    assert seen["blessed"] and seen["validated"]
    assert seen["span"] == 3 and seen["splits"] == '["train"]'


def test_the_output_speaks_of_the_object_store_again_and_holds_no_null(roots: Path) -> None:
    written = _judged(roots, {})
    assert written["out"]["uri"] == "s3://bucket/run/out"
    metadata = written["out"]["metadata"]
    assert metadata["model"] == "s3://bucket/run/model"
    assert (metadata["count"], metadata["span"], metadata["split_names"]) == (3, 7, '["test"]')
    assert "nothing" not in written["report"]["metadata"]
    assert str(roots) not in json.dumps(written)


def test_an_output_that_is_not_declared_stays_the_launchers_own(roots: Path) -> None:
    written = _judged(roots, {})
    assert written.keys() == {"out", "report", "page"}
    assert (roots / "s3/bucket/run/logs-0").read_bytes() == b""


def test_a_page_is_named_by_its_file(roots: Path) -> None:
    written = _judged(roots, {})
    assert written["page"]["uri"] == "s3://bucket/run/page/index.html"


@pytest.mark.parametrize("names", [("5", "6"), (None, None)])
def test_the_evaluators_verdict_names_both_models(roots: Path, names: tuple[str | None, ...]) -> None:
    """TFX writes ids down that it makes of names; newer backends give none."""
    keys = ["model", "baseline_model"]
    executor_input = {
        "inputs": {
            "artifacts": {
                key: _artifact(f"gs://bucket/{key}", **({"name": name} if name else {}))
                for key, name in zip(keys, names, strict=True)
            }
        },
        "outputs": {
            "outputFile": str(roots / "output.json"),
            "artifacts": {"blessing": _artifact("gs://bucket/blessing")},
        },
    }
    assert _run("Verdict", executor_input, _spec(keys), _spec(["blessing"])) == 0
    written = json.loads((roots / "output.json").read_text())
    metadata = written["artifacts"]["blessing"]["artifacts"][0]["metadata"]
    assert metadata["current_model"] == "gs://bucket/model"
    assert metadata["current_model_id"] == (names[0] or "gs://bucket/model")
    assert metadata["baseline_model_id"] == (names[1] or "gs://bucket/baseline_model")


def _written(roots: Path) -> dict[str, Any]:
    """Runs `Writer`; returns its output file's artifacts by key."""
    keys = ["examples", "blessing"]
    outputs = {key: _artifact(f"s3://bucket/run/{key}") for key in keys}
    executor_input = {"outputs": {"outputFile": str(roots / "output.json"), "artifacts": outputs}}
    assert _run("Writer", executor_input, None, _spec(keys)) == 0
    artifacts: dict[str, Any] = json.loads((roots / "output.json").read_text())["artifacts"]
    return artifacts


def _read(roots: Path, artifacts: dict[str, Any]) -> int:
    executor_input = {
        "inputs": {"artifacts": artifacts},
        "outputs": {"outputFile": str(roots / "output.json")},
    }
    return _run("Reader", executor_input, _spec([*artifacts]))


def _lose_a_file(folder: Path) -> None:
    (folder / "Split-test/data_tfrecord-00001-of-00002.gz").unlink()


def _grow_a_file(folder: Path) -> None:
    (folder / "Split-test/data_tfrecord-00001-of-00002.gz").write_bytes(b"other records")


@pytest.mark.parametrize("harm", [_lose_a_file, _grow_a_file, shutil.rmtree])
def test_what_is_left_of_an_artifact_is_not_taken_for_all_of_it(
    roots: Path, harm: Callable[[Path], object], capsys: pytest.CaptureFixture[str]
) -> None:
    written = _written(roots)
    harm(roots / "s3/bucket/run/examples")
    assert _read(roots, written) == 1
    error = capsys.readouterr().err
    assert error.startswith("failed: examples: objects below s3://bucket/run/examples have gone or changed")
    assert "(made: 2 files, 14 bytes, " in error and "--no-cache" in error and error.count("\n") == 1
    # A run that the cache answers for the most part begins with this task.
    inputs = {"parameterValues": {"serving_dir": str(roots)}, "artifacts": {"model": written["examples"]}}
    asked = {"inputs": inputs, "outputs": {"outputFile": str(roots / "answers.json")}}
    assert entrypoint.main(["--fingerprint_served", json.dumps(asked)]) == 1
    assert capsys.readouterr().err.startswith(
        "failed: model: objects below s3://bucket/run/examples have gone"
    )


def test_what_an_earlier_attempt_has_left_is_not_called_lost(
    roots: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written = _written(roots)
    (roots / "s3/bucket/run/examples/Split-test/data_tfrecord-00002-of-00003.gz").write_bytes(b"records")
    assert _read(roots, written) == 1
    error = capsys.readouterr().err
    assert error.startswith(
        "failed: examples: more objects are below s3://bucket/run/examples than a stage made"
    )
    assert "an earlier attempt" in error and "--no-cache" in error and error.count("\n") == 1


@pytest.mark.parametrize(
    "name", ["tensorboard/val/events.out.tfevents.1796077394.pod-1.1.0.v2", "predictions/epoch-0012.png"]
)
def test_records_for_people_of_another_attempt_are_no_fault(roots: Path, name: str) -> None:
    written = _written(roots)
    record = roots / "s3/bucket/run/examples" / name
    record.parent.mkdir(parents=True)
    record.touch()
    assert _read(roots, written) == 0


def test_an_artifact_that_is_whole_or_was_never_more_is_read(roots: Path) -> None:
    written = _written(roots)
    # The object store keeps no folder without a file.
    (roots / "s3/bucket/run/blessing").rmdir()
    imported = {"ingestion": _artifact("s3://bucket/imported")}
    assert _read(roots, {**written, **imported}) == 0


def _reading(roots: Path, **properties: str) -> dict[str, Any]:
    """ExecutorInput of a stage with a dataset in a bucket and other properties."""
    return {
        "inputs": {
            "parameterValues": properties,
            "artifacts": {"dataset_files": _artifact("s3://bucket/pets", type={"instanceSchema": ""})},
        },
        "outputs": {"outputFile": str(roots / "output.json")},
    }


def test_a_property_that_is_the_uri_of_an_input_becomes_its_copys_path(roots: Path) -> None:
    (roots / "s3/bucket/pets").mkdir(parents=True)
    others = {"elsewhere": "s3://bucket/cats", "folder": "/data/pets", "text": '{"root": "s3://bucket/pets"}'}
    assert _run("Reader", _reading(roots, root="s3://bucket/pets", **others)) == 0
    from toy_executors import seen

    assert seen["exec_properties"] == {"root": f"{roots}/s3/bucket/pets", **others}


def test_a_bucket_without_the_dataset_is_one_line(roots: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("Reader", _reading(roots, root="s3://bucket/pets")) == 1
    error = capsys.readouterr().err
    assert error.startswith("failed: root: there is nothing below s3://bucket/pets; ")
    assert error.count("\n") == 1


def test_a_failed_stage_says_why_in_one_line_and_leaves_no_output(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "output.json"
    assert _run("Refusal", {"outputs": {"outputFile": str(output)}}) == 1
    assert capsys.readouterr().err == "failed: the folder /data/pets is empty; put images into it\n"
    assert not output.exists()


def test_an_option_that_beam_refuses_is_a_failure_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = entrypoint.pack_options(["--direct_runner_bundle_repeat=x"])
    monkeypatch.setenv(entrypoint.OPTIONS_VARIABLE, options)
    assert _run("Beams", {}) == 1
    assert capsys.readouterr().err.endswith(
        "argument --direct_runner_bundle_repeat: invalid int value: 'x'\n"
        "failed: Beam refuses beam.options; the log has its words\n"
    )


def test_each_line_of_a_reason_bears_the_mark(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise StageError("two lines\nof advice")

    monkeypatch.setattr(entrypoint, "_run_executor", refuse)

    assert entrypoint.main(["--executor_class_path=toy_executors.Refusal"]) == 1
    assert capsys.readouterr().err == "failed: two lines\nfailed: of advice\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["--executor_class_path=toy_executors.Refusal"],
            "--json_serialized_invocation_args is not the JSON of",
        ),
        (
            ["--executor_class_path=toy_executors.Refusal", "--json_serialized_invocation_args={{$}}"],
            "--json_serialized_invocation_args is not the JSON of a ExecutorInput",
        ),
        (
            ["--executor_class_path=toy_executors.Absent", "--json_serialized_invocation_args={}"],
            "toy_executors",
        ),
    ],
)
def test_what_the_launcher_would_not_give_is_named(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert entrypoint.main(arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("failed: ") and error.count("\n") == 1
    assert words in error


def _pushed(metadata: dict[str, Any]) -> str:
    pushed_model = _artifact("s3://bucket/pushed", metadata=metadata)
    return json.dumps({"inputs": {"artifacts": {"pushed_model": pushed_model}}})


def test_the_pushed_version_is_announced_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    metadata = {
        "pushed": 1.0,
        "pushed_version": "1700000000",
        "pushed_destination": "/serving/pets/1700000000",
    }
    assert entrypoint.main(["--announce_pushed_model", _pushed(metadata)]) == 0
    assert capsys.readouterr().out == "pushed: version 1700000000 is served from /serving/pets/1700000000\n"


@pytest.mark.parametrize("executor_input", [_pushed({"pushed": 0.0}), "{}", "{{$}}"])
def test_without_a_pushed_model_there_is_nothing_to_announce(executor_input: str) -> None:
    """Run as the container runs it: the traceback goes to the log, one line to standard error."""
    command = [
        sys.executable,
        "-m",
        "pipeline.kubeflow.entrypoint",
        "--announce_pushed_model",
        executor_input,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("failed: --announce_pushed_model needs") and done.stderr.count("\n") == 1
    assert "Traceback (most recent call last)" in done.stdout


def test_help_and_announcement_import_no_tensorflow() -> None:
    program = (
        "import sys; from pipeline.kubeflow import entrypoint\n"
        f"entrypoint.main(['--announce_pushed_model', {_pushed({})!r}])\n"
        "print([name for name in ('tensorflow', 'tfx', 'apache_beam') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("s3://bucket/a/b", "/s3/bucket/a/b"),
        ("gs://bucket/a", "/gcs/bucket/a"),
        ("minio://bucket/a", "/minio/bucket/a"),
    ],
)
def test_every_store_has_its_folder(uri: str, path: str) -> None:
    assert artifacts.local_path(uri) == path
    assert artifacts.remote_uri(path) == uri


@pytest.mark.parametrize("text", ["", "/serving/pets/1", "1700000000", "say s3://bucket", "/s3"])
def test_all_other_texts_stay_as_they_are(text: str) -> None:
    assert artifacts.local_path(text) == text
    assert artifacts.remote_uri(text) == text
