"""Runs the ingestion as TFX does, and reads what it wrote."""

import json
from itertools import chain
from pathlib import Path
from typing import Any

import tensorflow as tf
from tfx.types import standard_artifacts

from components.dataset.artifacts import IngestionReportArtifact
from components.dataset.contracts import INGESTION_FILE, Ingestion
from components.dataset.features import IMAGE_FILENAME, SPLITS
from components.image_mask_example_gen.config import DatasetConfig
from components.image_mask_example_gen.executor import Executor
from components.run_parameters import settings_of_any_run
from pipeline.beam_config import BeamConfig


def ingest(
    config: DatasetConfig,
    out: Path,
    *,
    workers: int = 1,
    bands: tuple[int, ...] | None = None,
    fingerprint: str = "",
) -> Ingestion:
    """Runs the executor as TFX does and reads its report; ``fingerprint`` is what the cache's key holds."""
    examples, ingestion = standard_artifacts.Examples(), IngestionReportArtifact()
    examples.uri, ingestion.uri = str(out / "examples"), str(out / "ingestion")
    for uri in (examples.uri, ingestion.uri):
        Path(uri).mkdir(parents=True)
    executor = Executor(
        Executor.Context(
            beam_pipeline_args=BeamConfig(workers=workers).pipeline_args(),
            tmp_dir=str(out / "tmp"),
            unique_id="1",
        )
    )
    properties = {
        "dataset": settings_of_any_run({"dataset": config.model_dump(mode="json"), "bands": bands}),
        "labels": config.label_set().model_dump_json(),
        "data_path": config.root or "",
        "fingerprint": fingerprint,
    }
    executor.Do({}, {"examples": [examples], "ingestion": [ingestion]}, properties)
    assert json.loads(examples.split_names) == list(SPLITS)
    assert examples.get_string_custom_property("payload_format") == "FORMAT_TF_EXAMPLE"
    assert sorted(path.name for path in (out / "examples").iterdir()) == [
        "Split-test",
        "Split-train",
        "Split-val",
    ]
    return Ingestion.load(Path(ingestion.uri, INGESTION_FILE))


def read_split(out: Path, split: str) -> dict[str, dict[str, Any]]:
    """Examples of a split by file name, each a dict of plain values, or of lists where there are several."""
    files = sorted(str(path) for path in (out / f"examples/Split-{split}").iterdir())
    examples = {}
    for record in chain(*map(tf.compat.v1.io.tf_record_iterator, files)):
        features = tf.train.Example.FromString(record).features.feature
        values: dict[str, Any] = {
            name: held[0] if len(held) == 1 else [*held]
            for name, feature in features.items()
            for held in [feature.bytes_list.value or feature.int64_list.value]
        }
        examples[values[IMAGE_FILENAME].decode()] = values
    return examples


def names_of(out: Path) -> dict[str, set[str]]:
    """Image names of each split, as they stand in the Examples."""
    return {split: set(read_split(out, split)) for split in SPLITS}
