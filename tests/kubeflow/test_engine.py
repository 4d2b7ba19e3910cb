"""An engine does Beam's work for the stages of a compiled package, and sees of their pods only the claims.

What stages hand on lies on one of these, or stays where it is, in Google Cloud Storage: `gcs_server`.
"""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

import gcs_server
import numpy as np
import own_network
import pytest
import yaml
from emulator import driver, pod
from emulator.cluster import Cluster, State, TaskResult
from emulator.pod import Pod
from PIL import Image
from waiting import until_open

from components.dataset.contracts import EVALUATION_FILE, INGESTION_FILE, Evaluation, Ingestion
from pipeline.config import Recipe, load_recipe
from pipeline.kubeflow.spec.compile import compile_pipeline

MISSING = pod.missing_privilege() or own_network.missing_privilege()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(bool(MISSING), reason=MISSING),
]

ROOT = "gs://artifacts/root"
IMAGES = 24
SETTINGS = (
    "transform.height=32",
    "transform.width=32",
    "model.filters=4",
    "model.depth=2",
    "training.epochs=1",
    "kubeflow.defaults.retries=0",
)
BEAM_STAGES = 4


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pod.install(tmp_path_factory.mktemp("image"))


@pytest.fixture(scope="module")
def claims(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: tmp_path_factory.mktemp(name) for name in ("segmentation-data", "segmentation-serving")}


@contextmanager
def engine(
    root: Path, code: Path, claim: Path, environment: Mapping[str, str] = MappingProxyType({})
) -> Iterator[tuple[str, Path]]:
    """The recipe's block for Beam's own job service, whose worker pool is in another pod, and its log."""
    root.mkdir()
    jobs, pool = 8099, 50000
    modules = {
        "jobs": ["apache_beam.runners.portability.local_job_service_main", f"--port={jobs}"],
        "pool": ["apache_beam.runners.worker.worker_pool_main", f"--service_port={pool}"],
    }
    processes = []
    try:
        for name, module in modules.items():
            with (root / f"{name}.log").open("w") as log:
                there = Pod(root / name, code, {"/data": claim}, environment)
                processes.append(there.start(module, log.fileno()))
        for port in (jobs, pool):
            until_open(port, 120)
        yield (
            f"{{runner: PortableRunner, job_endpoint: 'localhost:{jobs}', environment_type: EXTERNAL, "
            f"environment_config: 'localhost:{pool}'}}",
            root / "jobs.log",
        )
    finally:
        for process in processes:
            process.kill()
            process.wait()


def test_an_engine_that_sees_the_shared_folder_alone_does_the_work_of_the_stages(tmp_path: Path) -> None:
    own_network.run(__file__, "check_an_engine_does_the_work_of_the_stages", tmp_path)


def check_an_engine_does_the_work_of_the_stages(code: Path, claims: dict[str, Path], tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, code, claims)
    shared = (f"dataset.shapes.num_images={IMAGES}", "kubeflow.shared_dir=/data/shared")
    with engine(tmp_path / "engine", code, claims["segmentation-data"]) as (beam, log):
        recipe = load_recipe("shapes", overrides=[*SETTINGS, *shared, f"beam={beam}"], runs_here=False)
        run_to_the_evaluator(cluster, recipe, log)
    assert list((claims["segmentation-data"] / "shared").iterdir()) == []


@pytest.mark.skipif(gcs_server.SERVER is None, reason="no fake-gcs-server")
def test_an_engine_works_where_the_artifacts_are_in_a_bucket(tmp_path: Path) -> None:
    own_network.run(__file__, "check_an_engine_works_in_a_bucket", tmp_path)


def check_an_engine_works_in_a_bucket(
    code: Path, claims: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    buckets, claim = tmp_path / "buckets", claims["segmentation-data"]
    (buckets / "artifacts").mkdir(parents=True)
    draw_pairs(buckets / "data/set")
    dataset = {
        "layout": "folder",
        "images": "images/*.jpg",
        "masks": "masks/*.png",
        "classes": ["a", "b"],
        "label_values": {"a": 0, "b": 1},
    }
    file = tmp_path / "noise.yaml"
    file.write_text(yaml.safe_dump({"dataset": dataset}))
    with (
        gcs_server.serving(claim, buckets, "/data") as variables,
        engine(tmp_path / "engine", code, claim, variables) as (beam, log),
    ):
        for name, path in variables.items():
            monkeypatch.setenv(name, path.replace("/data", str(claim)))
        secrets = [{"secret": "google", "key": name, "variable": name} for name in variables]
        there = ("kubeflow.copy_bucket=false", f"kubeflow.secrets={json.dumps(secrets)}", f"beam={beam}")
        recipe = load_recipe(str(file), "gs://data/set", [*SETTINGS, *there], runs_here=False)
        cluster = Cluster(
            tmp_path / "cluster",
            code,
            claims,
            secrets={"google": variables},
            root=ROOT,
            objects=gcs_server.BucketStore(tmp_path / "copies"),
        )
        results = run_to_the_evaluator(cluster, recipe, log)
        for stage in ("ImageMaskExampleGen", "StatisticsGen", "Transform", "Evaluator"):
            for key, artifact in results[stage].outputs.items():
                if key == driver.LOGS:
                    continue
                # What the launcher would make files of, and what only the stage needs.
                names = cluster.objects.names(artifact.uri)  # type: ignore[attr-defined]
                left = [name for name in names if name.endswith("/") or ".partial" in name]
                assert names and not left, artifact.uri
            # Nothing has gone by way of the pod but what the launcher brought and keeps.
            [folder] = (tmp_path / "cluster/pods").glob(f"1-{stage}-1/gcs/artifacts")
            own = [path for path in folder.rglob("attempt-*/*") if f"/{stage}/" in str(path)]
            assert own == []


def draw_pairs(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    for number in range(IMAGES):
        mask = np.zeros((40, 40), np.uint8)
        mask[8:24, 8 + number % 8 : 30] = 1
        pixels = (mask[..., np.newaxis] * 120 + rng.integers(0, 100, (40, 40, 3))).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"images/{number:02}.jpg")
        Image.fromarray(mask).save(folder / f"masks/{number:02}.png")


def run_to_the_evaluator(cluster: Cluster, recipe: Recipe, log: Path) -> dict[str, TaskResult]:
    """Runs the recipe's package, and looks whether an engine with that log did the work."""
    package = compile_pipeline(recipe, image="seg:1", pipeline_root=cluster.root)
    results = cluster.run(package.to_yaml(), up_to="Evaluator")
    for name, result in results.items():
        assert result.state is State.SUCCEEDED, f"{name}: {result.log}\n{log.read_text()}"
    assert len(re.findall(r"Completed job in .* state DONE", log.read_text())) >= BEAM_STAGES
    ingestion = cluster.objects.path(results["ImageMaskExampleGen"].outputs["ingestion"].uri)
    evaluation = cluster.objects.path(results["Evaluator"].outputs["evaluation"].uri)
    ingested = Ingestion.load(ingestion / INGESTION_FILE).examples
    assert sum(ingested.values()) == IMAGES
    assert Evaluation.load(evaluation / EVALUATION_FILE).metrics.examples == ingested["test"] > 0
    blessing = results["Evaluator"].outputs["blessing"].metadata
    assert blessing["current_model"] == results["Trainer"].outputs["model"].uri
    return results
