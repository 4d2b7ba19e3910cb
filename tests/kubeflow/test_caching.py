"""What Kubeflow's cache answers from one run to the next, by the backend's own rule for its key.

Of the compiled package the stages' work is left out: each puts out files that nobody has seen before, and the
Pusher pushes. The two tasks that fingerprint are the real ones.
"""

import itertools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from conftest import png_bytes
from emulator import pod
from emulator.cluster import Cluster, State, TaskResult

from components.model_store import publishing, store
from pipeline.config import load_recipe
from pipeline.kubeflow.spec.caching import DATA_TASK, SERVED_TASK
from pipeline.kubeflow.spec.compile import compile_pipeline

pytestmark = pytest.mark.skipif(
    bool(pod.missing_privilege()), reason=f"no namespaces: {pod.missing_privilege()}"
)

_DIGESTS = [f"registry.example/segmentation@sha256:{digit * 64}" for digit in "12"]
_ALWAYS = {DATA_TASK, SERVED_TASK, "model-pushed"}
_STAGE = """
import json, os, pathlib, sys, uuid
sys.path.insert(0, "/app")
from components.model_store import publishing, store, tokens
from pipeline.kubeflow import contents
given = json.loads(sys.argv[-1])
parameters, metadata = given["inputs"].get("parameterValues", {}), {}
local = lambda artifact: pathlib.Path("/s3") / artifact["uri"].removeprefix("s3://")
def taken(key):
    [artifact] = given["inputs"]["artifacts"][key]["artifacts"]
    return artifact
for key, members in given["outputs"]["artifacts"].items():
    [artifact] = members["artifacts"]
    if key == "executor-logs":
        continue
    folder = local(artifact) / "Format-Serving"
    folder.mkdir(parents=True)
    (folder / "saved_model.pb").write_text(str(uuid.uuid4()))
    artifact["metadata"] = metadata
    metadata[contents.NOTE] = contents._note(contents.local_files(artifact["uri"]))
    if key == "baseline_model":
        metadata["baseline_token"] = parameters["served_model"]
    if key == "pushed_model":
        model, base = local(taken("model")) / "Format-Serving", pathlib.Path(parameters["serving_dir"])
        if not (served := tokens.already_served(model, base)):
            compared = taken("baseline_model")["metadata"]["baseline_token"]
            words = {"push_token": parameters["push_token"], "baseline_token": compared}
            publishing.publish(model, base, words)
        metadata |= {"pushed": 1, "pushed_version": "", "pushed_destination": str(base)}
del given["outputs"]["artifacts"]["executor-logs"]
output = pathlib.Path(given["outputs"]["outputFile"])
output.write_text(json.dumps({"artifacts": given["outputs"]["artifacts"]}))
"""

RunPackage = Callable[..., dict[str, TaskResult]]


def without_work(text: str) -> str:
    """The package with every stage's command replaced; the key sees the arguments all the same."""
    spec, platform = yaml.safe_load_all(text)
    for executor in spec["deploymentSpec"]["executors"].values():
        if "--executor_class_path" in executor["container"]["args"]:
            executor["container"]["command"] = ["python", "-c", _STAGE]
            position = executor["container"]["args"].index("{{$}}")
            executor["container"]["args"].append(executor["container"]["args"].pop(position))
    return yaml.safe_dump_all([spec, platform])


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pod.install(tmp_path_factory.mktemp("image"))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "volumes/data"
    for kind, number in itertools.product(("images", "masks"), range(4)):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        (folder / kind / f"{number}.png").write_bytes(png_bytes(np.full((8, 8), number % 2, np.uint8)))
    return folder


@pytest.fixture
def serving(tmp_path: Path) -> Path:
    folder = tmp_path / "volumes/serving"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def run(request: pytest.FixtureRequest, tmp_path: Path, code: Path, data: Path, serving: Path) -> RunPackage:
    """Runs the package; the runs of a test share cache and volumes. Artifacts are called by their keys."""
    recipe_file = tmp_path / "toy.yaml"
    dataset = {"layout": "folder", "images": "images/*.png", "masks": "masks/*.png", "classes": ["a", "b"]}
    recipe_file.write_text(yaml.safe_dump({"dataset": dataset, "serving": {"model_name": "toy"}}))
    claims = {"segmentation-data": data, "segmentation-serving": serving}
    cluster = Cluster(
        tmp_path / "cluster", code, claims, names_are_keys=getattr(request, "param", "keys") == "keys"
    )

    def run(
        image: str = _DIGESTS[0],
        overrides: tuple[str, ...] = (),
        fails: frozenset[str] = frozenset(),
        **parameters: Any,
    ) -> dict[str, TaskResult]:
        recipe = load_recipe(str(recipe_file), "/data", overrides, runs_here=False)
        package = compile_pipeline(recipe, image=image, pipeline_root="s3://artifacts/toy")
        results = cluster.run(without_work(package.to_yaml()), parameters)
        failed = {name: result.log for name, result in results.items() if result.state is State.FAILED}
        assert failed.keys() == fails, failed
        return results

    return run


def executed(results: dict[str, TaskResult]) -> set[str]:
    """The stages that ran; the tasks that always do are not named."""
    return {name for name, result in results.items() if result.state is State.SUCCEEDED} - _ALWAYS


def rewrite(folder: Path) -> None:
    """Puts other files of the same names and contents in the place of all."""
    for file in folder.rglob("*.png"):
        content = file.read_bytes()
        file.unlink()
        file.write_bytes(content)


def versions(serving: Path) -> list[int]:
    return store.versions(serving / "toy")


@pytest.mark.parametrize("run", ["ids"], indirect=True)
def test_unchanged_data_is_answered_where_artifacts_are_called_by_their_ids(run: RunPackage) -> None:
    assert executed(run())
    assert executed(run()) == set()


def test_nothing_changed_runs_nothing_and_a_change_all_that_it_touches(
    run: RunPackage, data: Path, serving: Path
) -> None:
    first = run()
    everything = first.keys() - _ALWAYS
    assert executed(first) == everything and len(versions(serving)) == 1

    rewrite(data)  # a volume that was filled anew
    assert executed(run()) == set()
    assert len(versions(serving)) == 1
    trained = {"Trainer", "Baseline", "Evaluator", "ServingCheck", "Pusher", "Report"}
    assert executed(run(epochs=3)) == trained
    # What is being served is the model itself now; it is compared with what it was compared with before.
    assert executed(run(epochs=3, min_mean_iou=0.1)) == {"Evaluator", "ServingCheck", "Pusher", "Report"}
    assert executed(run(overrides=("training.seed=7",))) == trained

    (data / "masks/2.png").write_bytes(png_bytes(np.full((8, 8), 1, np.uint8)))
    assert executed(run()) == everything - {"CuratedSchema"}
    assert executed(run(_DIGESTS[1])) == everything


def test_who_does_the_work_and_for_how_long_at_most_is_no_reason_to_do_it_again(run: RunPackage) -> None:
    engine = (
        "beam={runner: FlinkRunner, job_endpoint: 'flink:8099', environment_type: EXTERNAL, "
        "environment_config: 'localhost:50000'}"
    )
    shared = "kubeflow.shared_dir=/serving/shared"
    run()
    # Its page shows the recipe.
    page = {"Report"}
    done_otherwise = (engine, shared, "beam.workers=7", "kubeflow.defaults.timeout_seconds=600")
    assert executed(run(overrides=done_otherwise)) == page
    # The number of devices that train is a matter of the model.
    trained = {"Trainer", "Baseline", "Evaluator", "ServingCheck", "Pusher", "Report"}
    several = "kubeflow.stages.Trainer.machines=2"
    assert executed(run(overrides=(several, shared))) == trained
    limits = "kubeflow.stages.Trainer={machines: 2, memory_limit: 48Gi, timeout_seconds: 600}"
    assert executed(run(overrides=(limits, f"{shared}/other"))) == page
    # So are the devices of one: by default a GPU.
    assert executed(run(overrides=("kubeflow.stages.Trainer.gpus=4",))) == trained


def test_what_is_served_is_looked_at_in_every_run(run: RunPackage, serving: Path, tmp_path: Path) -> None:
    run()
    [version] = versions(serving)
    shutil.rmtree(serving / "toy" / str(version))
    assert executed(run()) == {"ServingCheck", "Pusher", "Report"}
    assert len(versions(serving)) == 1

    other = tmp_path / "other"
    other.mkdir()
    (other / "saved_model.pb").write_text("another model")
    publishing.publish(other, serving / "toy", {})
    assert executed(run()) == {"Baseline", "Evaluator", "ServingCheck", "Pusher", "Report"}


def test_a_model_that_the_cache_has_and_the_bucket_has_not_ends_the_run(
    run: RunPackage, tmp_path: Path
) -> None:
    model = Path(run()["Trainer"].outputs["model"].uri.removeprefix("s3://"))
    shutil.rmtree(tmp_path / "cluster/objects" / model)
    results = run(fails=frozenset({SERVED_TASK}))
    assert f"failed: model: objects below s3://{model} have gone or changed" in results[SERVED_TASK].log


@pytest.mark.parametrize(
    ("image", "overrides", "path"),
    [
        ("segmentation:1", (), "/data"),
        (_DIGESTS[0], ("kubeflow.cache=false",), "/data"),
        (_DIGESTS[0], (), "s3://bucket/pets"),
        (_DIGESTS[0], ("model.encoder_weights=/data/weights.h5",), "/data"),
    ],
)
def test_what_the_cache_cannot_tell_it_is_not_asked(
    image: str, overrides: tuple[str, ...], path: str
) -> None:
    """A tag may be another image tomorrow, a bucket's files are the launcher's alone, weights go unread."""
    recipe = load_recipe("pets_mobilenetv2", path, overrides, runs_here=False)
    tasks = compile_pipeline(recipe, image=image, pipeline_root="s3://artifacts/toy").spec.root.dag.tasks
    asking = {name for name, task in tasks.items() if task.caching_options.enable_cache}
    assert asking == (set() if "kubeflow.cache=false" in overrides else {"CuratedSchema"})
    assert not {DATA_TASK, SERVED_TASK} & tasks.keys()
