"""Real pets through the compiled package, task by task as Kubeflow Pipelines does it, to a served model.

Each task of the first run is a container of the image where one can be built. Otherwise, and in the runs that
follow, it is a process that sees what a container would.
"""

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from emulator import engine as engines
from emulator import image as images
from emulator import pod
from emulator.cluster import Cluster, State, TaskResult
from pets_run import PAIRS, SETTINGS, copy_pets, pets_run
from PIL import Image

from pipeline.config import load_recipe
from pipeline.kubeflow.client.backend import verdict

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3600),  # the first build of the image installs everything
    pytest.mark.skipif(bool(pod.missing_privilege()), reason=pod.missing_privilege()),
]

Results = dict[str, TaskResult]


@dataclass(frozen=True)
class Setup:
    """A cluster with its volumes, and the package."""

    cluster: Cluster
    code: Path | engines.Image
    package: str
    data: Path
    serving: Path

    def objects(self, artifact: Any) -> Path:
        return self.cluster.objects.path(artifact.uri)

    def versions(self) -> list[str]:
        return sorted(path.name for path in (self.serving / "pets").iterdir() if path.name.isdecimal())


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pod.install(tmp_path_factory.mktemp("image"))


@pytest.fixture(scope="module")
def code(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path | engines.Image:
    if engines.missing():
        return request.getfixturevalue("installed")
    return images.built(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def setup(shared_data: Path, code: Path | engines.Image, tmp_path_factory: pytest.TempPathFactory) -> Setup:
    from pipeline.kubeflow.spec.compile import compile_pipeline

    root = tmp_path_factory.mktemp("kubeflow")
    data, serving = root / "volumes/data", root / "volumes/serving"
    copy_pets(shared_data / "oxford_iiit_pet", data / "pets")
    serving.mkdir()
    serving.chmod(0o777)  # a container's user has no name here
    overrides = [f"{key}={json.dumps(value)}" for key, value in SETTINGS.items()]
    # One attempt tells as much as two, and sooner.
    recipe = load_recipe(
        "pets_unet", "/data/pets", [*overrides, "kubeflow.defaults.retries=0"], runs_here=False
    )
    # By digest: what a tag names may change, so that the cache would not be asked.
    name = f"registry.example/pets@sha256:{64 * '1'}"
    package = compile_pipeline(recipe, image=name, pipeline_root="s3://artifacts/pets")
    claims = {"segmentation-data": data, "segmentation-serving": serving}
    cluster = Cluster(root / "cluster", code, claims)
    return Setup(cluster, code, package.to_yaml(), data / "pets", serving)


@pytest.fixture(scope="module")
def first(setup: Setup) -> Results:
    return _succeeded(setup.cluster.run(setup.package))


@pytest.fixture(scope="module")
def again(setup: Setup, first: Results, installed: Path) -> Results:
    """Nothing has changed."""
    return _succeeded(setup.cluster.run(setup.package, code=installed))


@pytest.fixture(scope="module")
def second(setup: Setup, again: Results, installed: Path) -> Results:
    """One image less at the same place, and a gate that no model passes by the run's own parameter."""
    listed = setup.data / "annotations/trainval.txt"
    _, *others = listed.read_text().splitlines()
    listed.write_text("\n".join(others) + "\n")
    parameters = {"learning_rate": 0.003, "min_mean_iou": 0.99}
    return _succeeded(setup.cluster.run(setup.package, parameters, up_to="model-pushed", code=installed))


def _succeeded(results: Results) -> Results:
    for name, result in results.items():
        print(f"{name:20} {result.state:10} {result.seconds:6.1f} s")
        assert result.state is not State.FAILED, f"{name}: {result.log}"
    return results


def _evaluation(setup: Setup, results: Results) -> Any:
    from components.dataset.contracts import EVALUATION_FILE, Evaluation

    return Evaluation.load(setup.objects(results["Evaluator"].outputs["evaluation"]) / EVALUATION_FILE)


def test_every_task_runs_and_the_last_one_says_what_was_pushed(setup: Setup, first: Results) -> None:
    assert {result.state for result in first.values()} == {State.SUCCEEDED}
    [version] = setup.versions()
    said = first["model-pushed"].log
    assert said == f"pushed: version {version} is served from /serving/pets/{version}\n"


def _ingested(setup: Setup, results: Results) -> dict[str, int]:
    from components.dataset.contracts import INGESTION_FILE, Ingestion

    artifact = results["ImageMaskExampleGen"].outputs["ingestion"]
    return Ingestion.load(setup.objects(artifact) / INGESTION_FILE).examples


def test_artifacts_name_places_in_the_object_store(first: Results) -> None:
    artifacts = [artifact for result in first.values() for artifact in result.outputs.values()]
    assert all(artifact.uri.startswith("s3://artifacts/") for artifact in artifacts)
    texts = [text for artifact in artifacts for text in artifact.metadata.values() if isinstance(text, str)]
    assert not [text for text in texts if text.startswith("/s3")]
    blessing = first["Evaluator"].outputs["blessing"].metadata
    assert blessing["current_model"] == first["Trainer"].outputs["model"].uri
    assert blessing["blessed"] == 1.0


def test_the_page_of_the_run_is_a_file_that_kubeflow_can_show(setup: Setup, first: Results) -> None:
    page = first["Report"].outputs["report"]
    assert page.uri.endswith("/index.html")
    assert "</html>" in setup.objects(page).read_text()


def test_the_report_names_the_commit_of_the_image_not_of_who_compiled(setup: Setup, first: Results) -> None:
    assert pod.REVISION in setup.objects(first["Report"].outputs["report"]).read_text()


def test_a_container_pushes_as_its_own_user_what_the_images_server_has_tried(
    setup: Setup, first: Results
) -> None:
    from components.dataset.contracts import SERVING_CHECK_FILE, ServingCheck

    if not isinstance(setup.code, engines.Image):
        pytest.skip(engines.missing())
    assert {path.stat().st_uid for path in setup.serving.rglob("*")} == {images.USER}
    verdict = setup.objects(first["ServingCheck"].outputs["infra_blessing"])
    assert (
        ServingCheck.load(verdict / SERVING_CHECK_FILE).server == f"tensorflow_model_server {images.SERVER}"
    )


def test_the_served_version_answers_over_grpc(setup: Setup, first: Results) -> None:
    from components.serving.client import SegmentationClient
    from components.serving.process import ServerProcess
    from components.serving.server.options import ServerOptions

    [image, *_] = sorted((setup.data / "images").iterdir())
    base = setup.serving / "pets"
    with (
        ServerProcess(ServerOptions(port=0, model_name="pets", model_base_path=str(base))) as server,
        SegmentationClient(server.target, "pets") as client,
    ):
        [prediction] = client.predict([image.read_bytes()])
    assert str(prediction.version) in setup.versions()
    assert Image.open(io.BytesIO(prediction.mask_bytes)).size == Image.open(image).size
    assert prediction.class_fraction.sum() == pytest.approx(1)


def test_the_same_recipe_and_data_give_the_same_metrics_locally(
    setup: Setup, first: Results, shared_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    local = pets_run(shared_data, tmp_path_factory)
    assert local.code == 0, local.output
    assert _evaluation(setup, first).metrics.model_dump(mode="json") == local.summary["metrics"]


def test_a_run_with_nothing_changed_is_answered_from_the_cache(
    setup: Setup, first: Results, again: Results
) -> None:
    ran = {name for name, result in again.items() if result.state is State.SUCCEEDED}
    assert ran == {"data-fingerprint", "served-fingerprint", "model-pushed"}
    assert again["model-pushed"].log == first["model-pushed"].log
    assert len(setup.versions()) == 1


def test_a_second_run_is_compared_with_the_version_that_the_first_pushed(
    setup: Setup, first: Results, second: Results
) -> None:
    [version] = setup.versions()
    assert second["Baseline"].outputs["baseline_model"].metadata["version"] == version
    evaluation = _evaluation(setup, second)
    assert evaluation.baseline is not None and evaluation.baseline.version == int(version)
    assert evaluation.baseline.metrics == _evaluation(setup, first).metrics != evaluation.metrics
    blessing = second["Evaluator"].outputs["blessing"].metadata
    assert blessing["baseline_model"] == second["Baseline"].outputs["baseline_model"].uri


def test_a_model_under_the_runs_own_threshold_is_not_pushed(setup: Setup, second: Results) -> None:
    reasons = _evaluation(setup, second).reasons
    assert any("0.99" in reason for reason in reasons)
    assert verdict(second["Evaluator"].log) == list(reasons)
    assert second["Evaluator"].outputs["blessing"].metadata["blessed"] == 0.0
    assert second["Pusher"].outputs["pushed_model"].metadata["pushed"] == 0.0
    assert second["model-pushed"].state is State.SKIPPED
    assert len(setup.versions()) == 1


def test_the_models_record_names_what_the_run_was_trained_with(
    setup: Setup, first: Results, second: Results
) -> None:
    def learning_rate(results: Results) -> float:
        model = setup.objects(results["Trainer"].outputs["model"]) / "Format-Serving"
        recipe = json.loads((model / "assets.extra/labels.json").read_text())["recipe"]
        return float(recipe["training"]["learning_rate"])

    assert (learning_rate(first), learning_rate(second)) == (SETTINGS["training.learning_rate"], 0.003)


def test_of_changed_data_only_the_schema_comes_from_the_cache(second: Results) -> None:
    cached = [name for name, result in second.items() if result.state is State.CACHED]
    assert cached == ["CuratedSchema"]


def test_changed_data_under_the_same_path_is_seen(setup: Setup, first: Results, second: Results) -> None:
    before, after = _ingested(setup, first), _ingested(setup, second)
    assert before["train"] + before["val"] == PAIRS["trainval"] == after["train"] + after["val"] + 1
    assert before["test"] == after["test"] == PAIRS["test"]
