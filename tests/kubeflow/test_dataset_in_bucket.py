"""A dataset in an object store: the task that is compiled for it, and what reaches the stage."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import s3_server
from emulator import pod
from emulator.cluster import Cluster, State
from google.protobuf import json_format
from kfp import components, dsl
from kfp.pipeline_spec.pipeline_spec_pb2 import PipelineDeploymentConfig, PipelineSpec
from PIL import Image
from spec_rules import violations

from components.dataset.contracts import INGESTION_FILE, Ingestion
from pipeline.config import Recipe, load_recipe
from pipeline.kubeflow.spec.caching import DATA_TASK
from pipeline.kubeflow.spec.compile import compile_pipeline
from pipeline.kubeflow.spec.dataset_importer import DATASET_FILES, IMPORTER
from pipeline.kubeflow.spec.package import Package
from pipeline.recipe_errors import RecipeError

BUCKET = "s3://datasets/pets"
STAGE = "ImageMaskExampleGen"
DIGEST = f"registry/seg@sha256:{'0' * 64}"
FOLDER = (
    "dataset={layout: folder, images: images/*.jpg, masks: masks/*.png, classes: [background, pet]}",
    "evaluation.slices=[]",
    "kubeflow.defaults.retries=0",
)


def recipe_of(data: str, *overrides: str) -> Recipe:
    return load_recipe("pets_unet", data, overrides, runs_here=False)


@pytest.fixture(scope="module")
def package() -> Package:
    recipe = recipe_of(BUCKET, *FOLDER)
    return compile_pipeline(recipe, image="seg:1", pipeline_root="s3://artifacts/root")


@pytest.fixture(scope="module")
def spec(package: Package) -> PipelineSpec:
    return package.spec


def test_the_package_keeps_every_rule_of_the_backend(spec: PipelineSpec) -> None:
    assert violations(spec, recipe_of(BUCKET, *FOLDER).kubeflow) == []


def _constant_uri(spec: PipelineSpec) -> None:
    uri = spec.root.dag.tasks[IMPORTER].inputs.parameters["uri"]
    uri.runtime_value.constant.string_value = BUCKET


def _condition(spec: PipelineSpec) -> None:
    spec.root.dag.tasks[IMPORTER].trigger_policy.condition = "true"


def _no_reimport(spec: PipelineSpec) -> None:
    executors = spec.deployment_spec["executors"]
    del executors[f"{IMPORTER}-executor"]["importer"]["reimport"]


def _undeclared_input(spec: PipelineSpec) -> None:
    del spec.components[STAGE].input_definitions.artifacts[DATASET_FILES]


@pytest.mark.parametrize(
    ("damage", "rule"),
    [
        (_constant_uri, "importers_find_their_uri"),
        (_condition, "importers_are_what_the_backend_runs"),
        (_no_reimport, "importers_are_what_the_backend_runs"),
        (_undeclared_input, "inputs_are_given"),
    ],
)
def test_a_spoiled_importer_breaks_a_rule(
    spec: PipelineSpec, damage: Callable[[PipelineSpec], None], rule: str
) -> None:
    spoiled = PipelineSpec()
    spoiled.CopyFrom(spec)
    damage(spoiled)
    broken = violations(spoiled, recipe_of(BUCKET, *FOLDER).kubeflow)
    assert any(line.startswith(f"{rule}: ") for line in broken)


def test_the_importer_is_what_kfps_own_compiler_writes(spec: PipelineSpec) -> None:
    @dsl.pipeline(name="own")
    def own(data_path: str) -> None:
        dsl.importer(artifact_uri=data_path, artifact_class=dsl.Dataset, reimport=True)

    theirs = own.pipeline_spec
    assert _importer(spec, f"{IMPORTER}-executor") == _importer(theirs, "exec-importer")
    assert spec.root.dag.tasks[IMPORTER].inputs == theirs.root.dag.tasks["importer"].inputs
    [ours], [output] = (
        component.output_definitions.artifacts.values()
        for component in (spec.components[IMPORTER], theirs.components["comp-importer"])
    )
    assert ours.artifact_type == output.artifact_type


def _importer(spec: PipelineSpec, label: str) -> PipelineDeploymentConfig.ImporterSpec:
    deployment = json_format.MessageToDict(spec.deployment_spec)
    return json_format.ParseDict(deployment, PipelineDeploymentConfig()).executors[label].importer


def test_kfps_client_reads_the_file(package: Package, tmp_path: Path) -> None:
    package.write(tmp_path / "pipeline.yaml")
    loaded = components.load_component_from_file(str(tmp_path / "pipeline.yaml"))
    assert loaded.pipeline_spec == package.spec
    assert loaded.component_spec.inputs["data_path"].default == BUCKET


def test_an_importer_asks_nothing_of_kubernetes(package: Package) -> None:
    executors = package.platform.platforms["kubernetes"].deployment_spec.executors
    assert f"{IMPORTER}-executor" not in executors
    assert len(executors) == len(package.spec.root.dag.tasks) - 1


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    if why := pod.missing_privilege():
        pytest.skip(why)
    root = tmp_path_factory.mktemp("bucket")
    claims = {name: root / name for name in ("segmentation-data", "segmentation-serving")}
    for folder in claims.values():
        folder.mkdir()
    return Cluster(root / "cluster", pod.install(root / "image"), claims)


def _put(cluster: Cluster, uri: str, names: list[str]) -> None:
    _draw(cluster.objects.path(uri), names)


def _draw(root: Path, names: list[str]) -> None:
    random = np.random.default_rng(0)
    for name in names:
        pixels = random.integers(0, 256, (24, 32, 3), np.uint8)
        mask = (pixels[..., 0] > 127).astype(np.uint8)
        for folder, ending, array in (("images", "jpg", pixels), ("masks", "png", mask)):
            path = root / folder / f"{name}.{ending}"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(path)


def test_the_stage_reads_the_bucket_and_every_run_anew(cluster: Cluster, package: Package) -> None:
    _put(cluster, BUCKET, [f"pet{number:02}" for number in range(12)])

    first = cluster.run(package.to_yaml(), up_to=STAGE)
    again = cluster.run(package.to_yaml(), up_to=IMPORTER)

    assert first[STAGE].state is State.SUCCEEDED, first[STAGE].log
    report = Ingestion.load(cluster.objects.path(first[STAGE].outputs["ingestion"].uri) / INGESTION_FILE)
    assert (sum(report.examples.values()), report.rejected) == (12, ())
    artifacts = [results[IMPORTER].outputs[DATASET_FILES] for results in (first, again)]
    assert [artifact.uri for artifact in artifacts] == [BUCKET, BUCKET]
    assert artifacts[0].id != artifacts[1].id


OWN_KEYS = (
    *FOLDER,
    "kubeflow.copy_bucket=false",
    "kubeflow.secrets=["
    + ", ".join(f"{{secret: bucket, key: {name}, variable: {name}}}" for name in s3_server.environment(0))
    + "]",
)


def test_a_stage_that_reads_the_bucket_itself_needs_no_importer() -> None:
    recipe = recipe_of(BUCKET, *OWN_KEYS)
    spec = compile_pipeline(recipe, image=DIGEST, pipeline_root="s3://artifacts/root").spec
    assert violations(spec, recipe.kubeflow) == []
    assert IMPORTER not in spec.root.dag.tasks and DATA_TASK in spec.root.dag.tasks
    assert not spec.components[STAGE].input_definitions.artifacts


def test_a_layout_that_reads_no_bucket_cannot_read_it_itself() -> None:
    tfds = "dataset={layout: tfds, name: pets, classes: [background, pet]}"
    for more, refused in (((), False), (("kubeflow.copy_bucket=false",), True)):
        recipe = recipe_of(BUCKET, tfds, "evaluation.slices=[]", *more)
        with pytest.raises(RecipeError, match="layout tfds reads no bucket") if refused else nullcontext():
            compile_pipeline(recipe, image="seg:1", pipeline_root="s3://artifacts/root")


def test_the_stage_reads_a_servers_bucket_itself_and_only_what_changed_anew(tmp_path: Path) -> None:
    """In an emulated pod, with keys from a Secret; the data are on no disk of the pod."""
    if why := pod.missing_privilege():
        pytest.skip(why)
    claims = {name: tmp_path / name for name in ("segmentation-data", "segmentation-serving")}
    for folder in claims.values():
        folder.mkdir()
    _draw(tmp_path / "buckets/datasets/pets", [f"pet{number:02}" for number in range(12)])
    with s3_server.serving(tmp_path / "buckets") as port:
        secrets = {"bucket": s3_server.environment(port)}
        code = pod.install(tmp_path / "image")
        cluster = Cluster(tmp_path / "cluster", code, claims, names_are_keys=True, secrets=secrets)
        package = compile_pipeline(
            recipe_of(BUCKET, *OWN_KEYS), image=DIGEST, pipeline_root="s3://artifacts/root"
        ).to_yaml()
        first, same = (cluster.run(package, up_to=STAGE) for _ in range(2))
        _draw(tmp_path / "buckets/datasets/pets", ["pet03"])
        changed = cluster.run(package, up_to=STAGE)
        with_wrong_key = secrets["bucket"] | {"AWS_SECRET_ACCESS_KEY": "wrong"}
        secrets["bucket"] = with_wrong_key
        refused = cluster.run(package, up_to=STAGE)

    states = [run[STAGE].state for run in (first, same, changed, refused)]
    assert states == [State.SUCCEEDED, State.CACHED, State.SUCCEEDED, State.OMITTED], first[STAGE].log
    report = Ingestion.load(cluster.objects.path(first[STAGE].outputs["ingestion"].uri) / INGESTION_FILE)
    assert (sum(report.examples.values()), report.rejected) == (12, ())
    assert "failed: s3://datasets/pets cannot be read: " in refused[DATA_TASK].log


def test_an_empty_uri_fails_the_importer(cluster: Cluster, package: Package) -> None:
    results = cluster.run(package.to_yaml(), {"data_path": ""}, up_to=STAGE)

    assert results[IMPORTER].state is State.FAILED and "empty artifact URI" in results[IMPORTER].log
    assert results[STAGE].state is State.OMITTED
