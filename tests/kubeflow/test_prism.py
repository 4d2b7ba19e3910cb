"""Beam's stages on Prism, Beam's own portable runner, with workers that Beam's boot starts as in the image.

Prism and boot are the programs ``prism`` and ``container`` that ``go install`` makes of Beam's release
(docs/scale.md), in the folder that the variable BEAM_BIN names, or else in one of PATH's.
"""

import gzip
import json
import os
import shutil
import subprocess
import tempfile
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import own_network
import psutil
import pytest
import tensorflow as tf
from emulator import pod
from emulator.pod import Pod
from google.protobuf.message import Message
from tensorflow_metadata.proto.v0 import statistics_pb2

from components.dataset.contracts import EVALUATION_FILE
from pipeline.config import BeamConfig, Recipe, load_recipe
from pipeline.create_pipeline import create_pipeline
from pipeline.failures import explain_failure
from pipeline.local.stages import Stage, stages_of

PRISM, BOOT = (shutil.which(name, path=os.environ.get("BEAM_BIN")) for name in ("prism", "container"))
MISSING = "" if PRISM and BOOT else "neither BEAM_BIN nor PATH has Beam's prism and container"
MISSING = MISSING or own_network.missing_privilege() or pod.missing_privilege()

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(bool(MISSING), reason=MISSING),
]

TINY = (
    "transform.height=32",
    "transform.width=32",
    "transform.materialize=true",
    "model.filters=4",
    "model.depth=2",
    "training.epochs=1",
    "evaluation.min_mean_iou=0",
)
PRISM_PORT, POOL_PORT = 8073, 50000
REMOTE = BeamConfig(
    runner="PortableRunner",
    job_endpoint=f"localhost:{PRISM_PORT}",
    environment_type="EXTERNAL",
    environment_config=f"localhost:{POOL_PORT}",
)
LOCAL = BeamConfig(workers=1)
DATASETS = {
    "pets_unet": "oxford_iiit_pet",
    "pets_mobilenetv2": "oxford_iiit_pet",
    "pets_best": "oxford_iiit_pet",
    "kitti_unet": "kitti_semantics",
    "ccp_densenet121": "clothing_co_parsing",
    "ccp_best": "clothing_co_parsing",
    "camvid_unet": "camvid",
    "camvid_best": "camvid",
}
"""Of each recipe, the folder of its data."""
TOO_LATE = "didn't get control connection"
"""What Prism says of a worker that took more than a minute to come up, which is little on a busy machine."""


def test_every_stage_gives_what_it_gives_in_this_process(tmp_path: Path) -> None:
    own_network.run(__file__, "check_every_stage_gives_what_it_gives_in_this_process", tmp_path)


def test_real_datasets_come_out_as_in_this_process(shared_data: Path, tmp_path: Path) -> None:
    own_network.run(__file__, "check_real_datasets_come_out_as_in_this_process", tmp_path)


def test_a_worker_killed_in_the_middle_of_ingestion_costs_the_stage_and_no_example(tmp_path: Path) -> None:
    own_network.run(__file__, "check_a_worker_killed_in_the_middle_of_ingestion", tmp_path)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What this machine and the worker's both see."""
    return tmp_path_factory.mktemp("work")


class Engine(NamedTuple):
    """Prism, and a worker pool in a pod, which has its own root and environment."""

    logs: Path
    pool: psutil.Process

    def workers(self) -> list[psutil.Process]:
        return self.pool.children(recursive=True)


@pytest.fixture(scope="module")
def engine(work: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    root = tmp_path_factory.mktemp("engine")
    programs = root / "beam"
    programs.mkdir()
    assert PRISM and BOOT
    shutil.copy(BOOT, programs / "boot")
    there = Pod(root / "pod", pod.install(root / "image"), {"/opt/apache/beam": programs, str(work): work})
    pool_args = [f"--service_port={POOL_PORT}", "--container_executable=/opt/apache/beam/boot"]
    with (root / "pool.log").open("w") as log:
        pool = there.start(["apache_beam.runners.worker.worker_pool_main", *pool_args], log.fileno())
    command = [PRISM, f"-job_port={PRISM_PORT}", "-serve_http=false", "-log_kind=text"]
    with (root / "prism.log").open("w") as log:
        prism = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    engine = Engine(root, psutil.Process(pool.pid))
    try:
        yield engine
    finally:
        for worker in engine.workers():
            worker.kill()
        pool.kill()
        prism.kill()
        prism.wait()


def stages(folder: Path, recipe: Recipe, beam: BeamConfig) -> list[Stage]:
    """The stages of a new run in a folder of its own."""
    folder.mkdir(exist_ok=True)
    pipeline = create_pipeline(
        recipe,
        recipe.run_parameters(str(folder / "serving")),
        pipeline_name="prism",
        pipeline_root=str(folder / "artifacts"),
        checkpoint_dir=None,
        metadata_path=str(folder / "metadata.sqlite"),
    )
    return stages_of(pipeline, uuid.uuid4().hex, lambda _: beam.pipeline_args())


def run(stage: Stage, engine: Engine) -> None:
    """Runs a stage, again where its worker came too late."""
    for _ in range(8):
        try:
            stage.run()
            return
        except RuntimeError as error:
            if TOO_LATE not in str(error):
                raise
    raise AssertionError((engine.logs / "pool.log").read_text())


def run_both(work: Path, recipe: Recipe, engine: Engine, *, before: str) -> tuple[Path, Path]:
    """Runs the stages before one on Prism and in this process; Examples must be equal, transformed ones, too.

    Returns:
        The folders of the two runs.
    """
    remote, local = work / "remote", work / "local"
    for folder, beam in {remote: REMOTE, local: LOCAL}.items():
        for stage in stages(folder, recipe, beam):
            if stage.name == before:
                break
            run(stage, engine)
    for artifact in ("ImageMaskExampleGen/examples", "ImageMaskExampleGen/ingestion"):
        assert files(remote, artifact) == files(local, artifact), recipe.name
    assert transformed(remote) == transformed(local), recipe.name
    return remote, local


def files(run: Path, artifact: str) -> dict[str, bytes]:
    """The files of ``STAGE/KEY`` in a run's folder, by their paths in the artifact."""
    [root] = (run / "artifacts" / artifact).iterdir()
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def statistics(run: Path) -> dict[str, dict[str, Message]]:
    """The statistics of each feature, by split and name; a runner may list features in any order."""
    found = {}
    for file, content in files(run, "StatisticsGen/statistics").items():
        [dataset] = statistics_pb2.DatasetFeatureStatisticsList.FromString(content).datasets
        found[file] = {".".join(feature.path.step): feature for feature in dataset.features}
    return found


def exact(statistics: dict[str, dict[str, Message]]) -> dict[tuple[str, str], tuple[float, ...]]:
    """What is counted and compared of each split's features: how many, the smallest and the largest."""
    counted = {}
    for file, features in statistics.items():
        for name, feature in features.items():
            of_kind = getattr(feature, feature.WhichOneof("stats"))
            common = of_kind.common_stats
            extremes = (of_kind.min, of_kind.max) if feature.HasField("num_stats") else ()
            counted[file, name] = (
                common.num_non_missing,
                common.num_missing,
                common.tot_num_values,
                *extremes,
            )
    return counted


def transformed(run: Path) -> dict[str, list[str]]:
    """The transformed Examples as text, by split; a runner may write them in any order."""
    found = defaultdict(list)
    for file, content in files(run, "Transform/transformed_examples").items():
        for record in records(gzip.decompress(content)):
            features = tf.train.Example.FromString(record).features.feature
            found[os.path.dirname(file)].append(str(sorted((name, str(features[name])) for name in features)))
    return {split: sorted(examples) for split, examples in found.items()}


def records(content: bytes) -> Iterator[bytes]:
    """Of a TFRecord file: length, its checksum, the record, its checksum."""
    while content:
        length = int.from_bytes(content[:8], "little")
        yield content[12 : 12 + length]
        content = content[16 + length :]


def check_every_stage_gives_what_it_gives_in_this_process(
    work: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The pictures are drawn there.
    monkeypatch.setattr(tempfile, "tempdir", str(work))
    recipe = load_recipe("shapes", None, [*TINY, "dataset.shapes.num_images=24"])
    remote, local = run_both(work, recipe, engine, before="ServingCheck")
    assert statistics(remote) == statistics(local)
    assert len(transformed(remote)["Split-train"]) > 4
    verdicts = [
        json.loads(files(folder, "Evaluator/evaluation")[EVALUATION_FILE]) for folder in (remote, local)
    ]
    assert verdicts[0] == verdicts[1] and verdicts[0]["metrics"]["examples"] == 4


def check_real_datasets_come_out_as_in_this_process(shared_data: Path, work: Path, engine: Engine) -> None:
    """Of every recipe with data of its own, up to what is trained on."""
    for name, data in DATASETS.items():
        root = work / "data" / data
        if not root.exists():
            shutil.copytree(shared_data / data, root)
        recipe = load_recipe(name, str(root), ["transform.materialize=true"])
        remote, local = run_both(work, recipe, engine, before="Trainer")
        # Quantiles and the commonest values are estimates, which the order of examples changes.
        assert exact(statistics(remote)) == exact(statistics(local)), name
        assert transformed(remote)["Split-train"], name
        for folder in (remote, local):
            shutil.rmtree(folder)


def check_a_worker_killed_in_the_middle_of_ingestion(
    work: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prism tries nothing again: the stage fails, leaves nothing, and is right when it is started anew."""
    monkeypatch.setattr(tempfile, "tempdir", str(work))
    recipe = load_recipe("shapes", None, [*TINY, "dataset.shapes.num_images=2000"])
    remote, local = work / "remote", work / "local"
    killer = threading.Thread(target=kill_worker_after_first_shard, args=(remote, engine), daemon=True)
    killer.start()
    with pytest.raises(RuntimeError) as failure:
        run(ingestion(remote, recipe, REMOTE), engine)
    line = explain_failure(failure.value)
    assert "SDK worker disconnected" in line and len(line.splitlines()) == 1
    assert not list(remote.rglob("Split-*"))

    run(ingestion(remote, recipe, REMOTE), engine)
    run(ingestion(local, recipe, LOCAL), engine)
    assert len(files(local, "ImageMaskExampleGen/examples")) > 20
    for artifact in ("ImageMaskExampleGen/examples", "ImageMaskExampleGen/ingestion"):
        assert files(remote, artifact) == files(local, artifact)


def ingestion(folder: Path, recipe: Recipe, beam: BeamConfig) -> Stage:
    [stage] = (stage for stage in stages(folder, recipe, beam) if stage.name == "ImageMaskExampleGen")
    return stage


def kill_worker_after_first_shard(folder: Path, engine: Engine) -> None:
    while not list(folder.rglob("Split-*/data_*")):
        time.sleep(0.005)
    for process in engine.workers():
        if "apache_beam.runners.worker.sdk_worker_main" in process.cmdline():
            process.kill()
