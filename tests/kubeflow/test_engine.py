"""An engine does Beam's work for the stages of a compiled package, and sees of their pods only the claims."""

import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import own_network
import pytest
from emulator import pod
from emulator.cluster import Cluster, State
from emulator.pod import Pod

from components.dataset.contracts import EVALUATION_FILE, INGESTION_FILE, Evaluation, Ingestion
from pipeline.config import load_recipe
from pipeline.kubeflow.spec.compile import compile_pipeline

MISSING = pod.missing_privilege() or own_network.missing_privilege()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(bool(MISSING), reason=MISSING),
]

SHARED = "/data/shared"
IMAGES = 24
SETTINGS = (
    f"dataset.shapes.num_images={IMAGES}",
    "transform.height=32",
    "transform.width=32",
    "model.filters=4",
    "model.depth=2",
    "training.epochs=1",
    "kubeflow.defaults.retries=0",
    f"kubeflow.shared_dir={SHARED}",
)
BEAM_STAGES = 4


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pod.install(tmp_path_factory.mktemp("image"))


@pytest.fixture(scope="module")
def claims(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: tmp_path_factory.mktemp(name) for name in ("segmentation-data", "segmentation-serving")}


@pytest.fixture(scope="module")
def engine(
    code: Path, claims: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Path]]:
    """The recipe's block for Beam's own job service, whose worker pool is in another pod, and its log."""
    root = tmp_path_factory.mktemp("engine")
    jobs, pool = 8099, 50000
    modules = {
        "jobs": ["apache_beam.runners.portability.local_job_service_main", f"--port={jobs}"],
        "pool": ["apache_beam.runners.worker.worker_pool_main", f"--service_port={pool}"],
    }
    processes = []
    try:
        for name, module in modules.items():
            with (root / f"{name}.log").open("w") as log:
                there = Pod(root / name, code, {"/data": claims["segmentation-data"]})
                processes.append(there.start(module, log.fileno()))
        for port in (jobs, pool):
            _wait_for(port)
        yield (
            f"{{runner: PortableRunner, job_endpoint: 'localhost:{jobs}', environment_type: EXTERNAL, "
            f"environment_config: 'localhost:{pool}'}}",
            root / "jobs.log",
        )
    finally:
        for process in processes:
            process.kill()
            process.wait()


def _wait_for(port: int) -> None:
    end = time.monotonic() + 120
    while True:
        try:
            socket.create_connection(("localhost", port)).close()
            return
        except ConnectionRefusedError:
            assert time.monotonic() < end
            time.sleep(0.2)


def test_an_engine_that_sees_the_shared_folder_alone_does_the_work_of_the_stages(tmp_path: Path) -> None:
    own_network.run(__file__, "check_an_engine_does_the_work_of_the_stages", tmp_path)


def check_an_engine_does_the_work_of_the_stages(
    code: Path, claims: dict[str, Path], engine: tuple[str, Path], tmp_path: Path
) -> None:
    beam, log = engine
    recipe = load_recipe("shapes", overrides=[*SETTINGS, f"beam={beam}"], runs_here=False)
    package = compile_pipeline(recipe, image="seg:1", pipeline_root="s3://artifacts/root")
    cluster = Cluster(tmp_path, code, claims)

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
    assert list((claims["segmentation-data"] / "shared").iterdir()) == []
