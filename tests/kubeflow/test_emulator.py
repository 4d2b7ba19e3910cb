"""The emulation refuses what the backend refuses, and shows a task what a pod would show it."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import yaml
from emulator import driver, pod
from emulator.cluster import Cluster, State, TaskResult
from kfp.pipeline_spec.pipeline_spec_pb2 import ExecutorInput

pytestmark = pytest.mark.skipif(
    bool(pod.missing_privilege()), reason=f"no namespaces: {pod.missing_privilege()}"
)

_PROGRAM = """
import json, pathlib, sys
given = json.loads(sys.argv[1])
local = lambda artifact: pathlib.Path("/s3") / artifact["uri"].removeprefix("s3://")
{body}
"""
_MAKES = """
[artifact] = given["outputs"]["artifacts"]["model"]["artifacts"]
local(artifact).mkdir()
(local(artifact) / "weights").write_text(str(given["inputs"]["parameterValues"]["epochs"]))
(local(artifact) / "empty").mkdir()
artifact["metadata"] = {"pushed": 1}
output = pathlib.Path(given["outputs"]["outputFile"])
output.write_text(json.dumps({"artifacts": {"model": {"artifacts": [artifact]}}}))
"""
_TAKES = """
[artifact] = given["inputs"]["artifacts"]["model"]["artifacts"]
print(json.dumps({"artifact": artifact, "files": sorted(map(str, local(artifact).rglob("*")))}))
"""

Bodies = dict[str, str]
RunToy = Callable[..., dict[str, TaskResult]]


def _package(
    bodies: Bodies, condition: str, caches: bool, retries: int, environment: Mapping[str, str]
) -> str:
    """`Make` has the output ``model``, `Take` has it as its input; both run Python."""
    model = {"model": {"artifactType": {"schemaTitle": "system.Model"}}}
    epochs = {"parameterType": "NUMBER_INTEGER"}
    components: dict[str, Any] = {
        "Make": {
            "executorLabel": "make",
            "inputDefinitions": {"parameters": {"epochs": epochs}},
            "outputDefinitions": {"artifacts": model},
        },
        "Take": {"executorLabel": "take", "inputDefinitions": {"artifacts": model}},
    }
    make: dict[str, Any] = {
        "componentRef": {"name": "Make"},
        "inputs": {"parameters": {"epochs": {"componentInputParameter": "epochs"}}},
        "cachingOptions": {"enableCache": caches},
        "retryPolicy": {"maxRetryCount": retries},
    }
    origin = {"taskOutputArtifact": {"producerTask": "Make", "outputArtifactKey": "model"}}
    take: dict[str, Any] = {
        "componentRef": {"name": "Take"},
        "inputs": {"artifacts": {"model": origin}},
        "cachingOptions": {"enableCache": caches},
    }
    if condition:
        take["triggerPolicy"] = {"condition": condition}
    executors = {
        label: {
            "container": {
                "image": "toy",
                "command": ["python", "-c", _PROGRAM.format(body=body)],
                "args": ["{{$}}"],
                "env": [{"name": name, "value": value} for name, value in environment.items()],
            }
        }
        for label, body in bodies.items()
    }
    spec = {
        "pipelineInfo": {"name": "toy"},
        "root": {
            "inputDefinitions": {"parameters": {"epochs": {**epochs, "defaultValue": 3}}},
            "dag": {"tasks": {"Make": make, "Take": take}},
        },
        "components": components,
        "deploymentSpec": {"executors": executors},
    }
    mount = {"constant": "claim", "mountPath": "/serving"}
    volumes = {label: {"pvcMount": [mount]} for label in bodies}
    platform = {"platforms": {"kubernetes": {"deploymentSpec": {"executors": volumes}}}}
    return yaml.safe_dump_all([spec, platform])


@pytest.fixture
def run(tmp_path: Path) -> RunToy:
    """Runs the toy; further runs of a test share cache and volumes."""
    (tmp_path / "volume").mkdir()
    (tmp_path / "code").mkdir()
    cluster = Cluster(tmp_path / "cluster", tmp_path / "code", {"claim": tmp_path / "volume"})

    def run(
        *,
        make: str = _MAKES,
        take: str = _TAKES,
        condition: str = "",
        caches: bool = False,
        retries: int = 0,
        environment: Mapping[str, str] = MappingProxyType({}),
        **parameters: Any,
    ) -> dict[str, TaskResult]:
        bodies = {"make": make, "take": take}
        return cluster.run(_package(bodies, condition, caches, retries, environment), parameters)

    return run


def test_a_task_finds_its_input_under_s3_without_type_and_with_doubles(run: RunToy) -> None:
    results = run(epochs=5)
    assert results["Take"].state is State.SUCCEEDED, results["Take"].log
    seen = json.loads(results["Take"].log)
    artifact = seen["artifact"]
    assert artifact["type"] == {"instanceSchema": ""}
    assert artifact["name"] == str(results["Make"].outputs["model"].id)
    assert artifact["metadata"]["pushed"] == 1.0 and isinstance(artifact["metadata"]["pushed"], float)
    # The empty folder is lost on the way through the object store.
    assert seen["files"] == ["/s3/" + artifact["uri"].removeprefix("s3://") + "/weights"]


def test_parameters_have_defaults_and_an_unknown_one_is_refused(run: RunToy) -> None:
    check = "assert given['inputs']['parameterValues'] == {'epochs': 3.0}"
    assert run(make=_MAKES + check)["Make"].state is State.SUCCEEDED
    with pytest.raises(driver.DriverError, match="epoch"):
        run(epoch=4)
    assert "expect number_value, got string_value" in run(epochs="4")["Make"].log


def test_the_checkout_is_not_to_be_seen_and_volumes_are(run: RunToy, tmp_path: Path) -> None:
    looks = (
        f"assert not pathlib.Path({str(pod.REPOSITORY / 'pipeline')!r}).exists()\n"
        # Folders lead to the virtual environment of a checkout in /tmp.
        "assert not any(path.is_file() for path in pathlib.Path('/tmp').iterdir())\n"
        "pathlib.Path('/serving/version').write_text('1')\n"
    )
    results = run(make=looks + _MAKES)
    assert results["Make"].state is State.SUCCEEDED, results["Make"].log
    assert (tmp_path / "volume" / "version").read_text() == "1"


def test_a_condition_that_does_not_hold_skips_the_task(run: RunToy) -> None:
    condition = "inputs.artifacts['model'].artifacts[0].metadata['pushed'] == {}"
    assert run(condition=condition.format("1.0"))["Take"].state is State.SUCCEEDED
    assert run(condition=condition.format("0.0"))["Take"].state is State.SKIPPED


def test_a_failed_task_is_tried_again_in_a_new_pod_and_then_fails_those_after_it(run: RunToy) -> None:
    fails_once = "flag = pathlib.Path('/serving/flag')\nif not flag.exists(): flag.touch(); sys.exit(1)\n"
    again = run(make=fails_once + _MAKES, retries=1)
    assert again["Make"].state is State.SUCCEEDED and again["Make"].attempts == 2
    failed = run(make="sys.exit('out of memory')", retries=1)
    assert failed["Make"].state is State.FAILED and failed["Make"].attempts == 2
    assert "out of memory" in failed["Make"].log
    assert failed["Take"].state is State.OMITTED


def test_the_cache_answers_for_the_same_parameters_image_and_artifact_ids(run: RunToy) -> None:
    first, second = run(caches=True), run(caches=True)
    assert {result.state for result in second.values()} == {State.CACHED}
    assert second["Make"].outputs == first["Make"].outputs
    other = run(caches=True, epochs=4)
    assert {result.state for result in other.values()} == {State.SUCCEEDED}
    assert run(caches=True, take=_TAKES + "\n")["Take"].state is State.SUCCEEDED


def test_an_executed_task_has_new_artifacts_though_their_content_is_the_same(run: RunToy) -> None:
    """So nothing after it would be found in the cache."""
    run(caches=True)
    assert run(caches=False)["Make"].state is State.SUCCEEDED
    first, second = run(), run()
    assert first["Make"].outputs["model"].id != second["Make"].outputs["model"].id


def test_the_log_of_every_attempt_is_an_output_that_no_component_declares(
    run: RunToy, tmp_path: Path
) -> None:
    """Its file is there before the command runs, and open while it does."""
    looks = (
        "[logs] = given['outputs']['artifacts']['executor-logs']['artifacts']\n"
        "assert local(logs).is_file() and logs['type'] == {'schemaTitle': 'system.Artifact'}\n"
        "print(logs['name'], file=sys.stderr)\n"
    )
    fails_once = "flag = pathlib.Path('/serving/flag')\nif not flag.exists(): flag.touch(); sys.exit(1)\n"
    lies = "artifact['metadata'] = {'from': 'the command'}\nwritten = json.loads(output.read_text())\n"
    lies += "written['artifacts']['executor-logs'] = {'artifacts': [artifact]}\n"
    lies += "output.write_text(json.dumps(written))\n"
    make = run(make=looks + fails_once + _MAKES + lies, retries=1)["Make"]
    assert make.state is State.SUCCEEDED and make.attempts == 2, make.log
    logs = make.outputs["executor-logs"]
    assert logs.uri.endswith("/executor-logs-1") and logs.metadata["display_name"] == "executor-logs"
    assert "from" not in logs.metadata
    objects = tmp_path / "cluster/objects" / logs.uri.removeprefix("s3://")
    assert objects.read_text() == make.log == "executor-logs\n"
    assert (objects.parent / "executor-logs-0").read_text() == "executor-logs\n"


def test_a_failed_task_leaves_its_log_and_nothing_else(run: RunToy) -> None:
    failed = run(make=_MAKES + "sys.exit(1)")["Make"]
    assert failed.state is State.FAILED and failed.outputs.keys() == {"executor-logs"}


def test_a_containers_own_variables_are_part_of_the_caches_key(run: RunToy) -> None:
    run(caches=True, environment={"A": "1"})
    assert run(caches=True, environment={"A": "1"})["Make"].state is State.CACHED
    assert run(caches=True, environment={"A": "2"})["Make"].state is State.SUCCEEDED


def test_null_in_metadata_is_refused(run: RunToy) -> None:
    result = run(make=_MAKES.replace('{"pushed": 1}', '{"pushed": None}'))["Make"]
    assert result.state is State.FAILED and "pushed is null" in result.log


_GIVEN = ExecutorInput()
_GIVEN.inputs.artifacts["m"].artifacts.add().metadata.update({"a": 1, "b": "x"})
_METADATA = "inputs.artifacts['m'].artifacts[0].metadata"


def _triggers(condition: str) -> bool:
    task = driver.Task()
    task.trigger_policy.condition = condition
    return driver.triggers(task, _GIVEN)


@pytest.mark.parametrize(("number", "holds"), [("1.0", True), ("0.0", False)])
def test_conditions_are_evaluated(number: str, holds: bool) -> None:
    assert _triggers(f"({_METADATA}['a'] == {number})") is holds


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        (f"{_METADATA}['a'] == 1", "no such overload"),
        (f"{_METADATA}['b'] == 1.0", "no such overload"),
        (f"{_METADATA}['absent'] == 1.0", "no such key"),
        (f"{_METADATA}['a'] > 1.0", "not emulated"),
    ],
)
def test_what_cel_would_not_evaluate_is_an_error(condition: str, words: str) -> None:
    with pytest.raises(driver.DriverError, match=words):
        _triggers(condition)
