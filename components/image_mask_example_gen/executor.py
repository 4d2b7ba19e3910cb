"""Runs the ingestion: plan, write the shards with Beam, account for every file."""

import json
import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import apache_beam as beam
from tfx.components.util import examples_utils
from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
from tfx.dsl.io import fileio
from tfx.proto import example_gen_pb2
from tfx.types import Artifact, artifact_utils

from components.dataset.features import SPLITS
from components.dataset.labels import LabelSet
from components.errors import StageError
from components.image_mask_example_gen.accounting import check_filled, check_rejected, log_plan
from components.image_mask_example_gen.config import DatasetConfig
from components.image_mask_example_gen.driver import dataset_config
from components.image_mask_example_gen.layouts.registry import check_root
from components.image_mask_example_gen.masks import LabelMapping
from components.image_mask_example_gen.plan import Plan, plan_ingestion
from components.image_mask_example_gen.rejections import Reason, Rejection
from components.image_mask_example_gen.report import REPORT_FILE
from components.image_mask_example_gen.shapes import draw_dataset
from components.image_mask_example_gen.shards import ShardOutcome, WriteShard

logger = logging.getLogger(__name__)


class Executor(BaseBeamExecutor):
    """Executor of ImageMaskExampleGen."""

    def Do(
        self,
        input_dict: dict[str, list[Artifact]],
        output_dict: dict[str, list[Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes the artifacts ``examples`` and ``ingestion``.

        Raises:
          StageError: the input cannot be used as it is; the message says what to mend.
        """
        config = dataset_config(exec_properties)
        labels = LabelSet.model_validate_json(exec_properties["labels"])
        examples = artifact_utils.get_single_instance(output_dict["examples"])
        examples.split_names = artifact_utils.encode_split_names(list(SPLITS))
        examples_utils.set_payload_format(examples, example_gen_pb2.FORMAT_TF_EXAMPLE)
        ingestion = artifact_utils.get_single_instance(output_dict["ingestion"])

        with _dataset_root(config) as root:
            plan = plan_ingestion(config, root)
            log_plan(plan)
            try:
                names, ignored = config.raw_labels()
            except ValueError as error:
                raise StageError(str(error)) from error
            mapping = LabelMapping(names, ignored, labels.names)
            outcomes = self._write_shards(plan, root, mapping, config.max_pixels, examples)

        rejected = [*plan.rejected, *(item for outcome in outcomes for item in outcome.rejected)]
        rejected.sort(key=lambda rejection: rejection.file)
        counts = {
            split: sum(outcome.num_examples for outcome in outcomes if outcome.split == split)
            for split in SPLITS
        }
        check_rejected(rejected, sum(counts.values()), config.max_rejected_fraction)
        check_filled(plan, counts, rejected)
        report = {"examples": counts, "rejected": [asdict(rejection) for rejection in rejected]}
        with fileio.open(f"{ingestion.uri}/{REPORT_FILE}", "w") as file:
            file.write(json.dumps(report, indent=1))

    def _write_shards(
        self, plan: Plan, root: Path, mapping: LabelMapping, max_pixels: int, examples: Artifact
    ) -> list[ShardOutcome]:
        split_dirs = {split: artifact_utils.get_split_uri([examples], split) for split in SPLITS}
        scratch = f"{examples.uri}/.partial"
        for folder in (*split_dirs.values(), scratch):
            fileio.makedirs(folder)
        outcome_file = f"{scratch}/outcomes"
        try:
            with self._make_beam_pipeline() as pipeline:
                _ = (
                    pipeline
                    | "Shards" >> beam.Create(plan.shards)
                    | "WriteShards" >> beam.ParDo(WriteShard(root, mapping, max_pixels, split_dirs, scratch))
                    | "Gather" >> beam.combiners.ToList()
                    | "KeepOutcomes" >> beam.Map(_dump_outcomes, outcome_file)
                )
            return _load_outcomes(outcome_file)
        finally:
            fileio.rmtree(scratch)


def _dump_outcomes(outcomes: Sequence[ShardOutcome], path: str) -> None:
    """Beam hands no values back to the program that built the pipeline, so they go through a file."""
    with fileio.open(path, "w") as file:
        file.write(json.dumps([asdict(outcome) for outcome in outcomes]))


def _load_outcomes(path: str) -> list[ShardOutcome]:
    with fileio.open(path, "r") as file:
        outcomes = json.loads(file.read())
    return [
        ShardOutcome(
            outcome["split"],
            outcome["num_examples"],
            tuple(
                Rejection(item["file"], Reason(item["reason"]), item["found"]) for item in outcome["rejected"]
            ),
        )
        for outcome in outcomes
    ]


@contextmanager
def _dataset_root(config: DatasetConfig) -> Iterator[Path]:
    """The folder to read from; the drawn dataset has one only as long as it is needed."""
    if config.root is None:
        with tempfile.TemporaryDirectory() as temporary:
            draw_dataset(Path(temporary), config.shapes)
            logger.info("%d images and masks drawn", config.shapes.num_images)
            yield Path(temporary)
        return
    try:
        check_root(config)
    except ValueError as error:
        raise StageError(str(error)) from error
    yield Path(config.root)
