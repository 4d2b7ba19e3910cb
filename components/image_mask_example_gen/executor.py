"""Runs the ingestion: plan, write the shards with Beam, account for every file."""

import csv
import io
import logging
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import apache_beam as beam
import tensorflow as tf
from pydantic import TypeAdapter
from tfx.components.util import examples_utils
from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
from tfx.dsl.io import fileio
from tfx.proto import example_gen_pb2
from tfx.types import Artifact, artifact_utils

from components.dataset.contracts import INGESTION_FILE, SPLITS_FILE, Ingestion
from components.dataset.features import SPLITS
from components.dataset.labels import LabelSet
from components.errors import StageError
from components.image_mask_example_gen.config import DatasetConfig
from components.image_mask_example_gen.driver import dataset_config
from components.image_mask_example_gen.example import read_example
from components.image_mask_example_gen.image import read_image
from components.image_mask_example_gen.label_mapping import LabelMapping
from components.image_mask_example_gen.layouts.layout import Layout
from components.image_mask_example_gen.mask_tally import MaskTally
from components.image_mask_example_gen.plan import Plan, Shard, plan_ingestion
from components.image_mask_example_gen.report import (
    Rejection,
    check_filled,
    check_levels,
    check_rejected,
    check_shared,
    log_planned,
)
from components.image_mask_example_gen.shapes import draw_dataset
from components.image_mask_example_gen.shared_pictures import Written, find_shared_pictures
from components.imaging.deep import joined
from components.imaging.reading import Exif

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ShardOutcome:
    """What became of a shard's pairs."""

    split: str
    file: str
    sketches: tuple[str | None, ...]
    """Of the image of each pair, in the shard's order; None for one that was rejected."""
    rejected: tuple[Rejection, ...]
    tally: MaskTally
    used_range: tuple[int, int] | None
    """Of all its images together, see `EncodedImage`."""
    with_more_bands: int
    """Images of which some bands are not read."""


class WriteShard(beam.DoFn):
    """Writes one TFRecord file per shard; a file appears under its name when it is complete.

    Only names go in and counts come out, so image bytes never pass a shuffle and memory stays flat.

    Args:
      layout: How the dataset's files are read.
      root: The dataset's folder, reachable from every worker.
      mapping: Raw labels to class ids.
      max_pixels: Pictures with more are rejected before they are decoded.
      exif: See `read_example`.
      split_dirs: Output folder of each split.
      partial_dir: Folder for files in the making.
    """

    def __init__(
        self,
        layout: Layout,
        root: Path,
        mapping: LabelMapping,
        max_pixels: int,
        exif: Exif | None,
        split_dirs: dict[str, str],
        partial_dir: str,
    ):
        self._layout = layout
        self._root = root
        self._mapping = mapping
        self._max_pixels = max_pixels
        self._exif = exif
        self._split_dirs = split_dirs
        self._partial_dir = partial_dir

    def process(self, shard: Shard) -> Iterator[ShardOutcome]:
        """Yields the outcome of one shard."""
        # A runner may try a shard twice, even at the same time: each try has a file of its own.
        partial = f"{self._partial_dir}/{shard.split}-{shard.file}-{uuid.uuid4().hex}"
        rejected, tally = [], MaskTally()
        sketches: list[str | None] = []
        ranges, with_more_bands = [], 0
        with tf.io.TFRecordWriter(partial) as writer:
            for entry in shard.entries:
                result = read_example(
                    self._layout,
                    self._root,
                    entry,
                    self._mapping,
                    self._max_pixels,
                    self._exif,
                    tally,
                )
                if isinstance(result, Rejection):
                    rejected.append(result)
                    sketches.append(None)
                else:
                    writer.write(result.serialized)
                    sketches.append(result.sketch)
                    ranges.append(result.used_range)
                    with_more_bands += result.bands_left_out > 0
        fileio.rename(partial, f"{self._split_dirs[shard.split]}/{shard.file}", overwrite=True)
        yield ShardOutcome(
            shard.split, shard.file, tuple(sketches), tuple(rejected), tally, joined(ranges), with_more_bands
        )


class Executor(BaseBeamExecutor):
    """Executor of ImageMaskExampleGen.

    Args:
      context: TFX's.
      plan: Decides which pairs of a folder go into which split.
    """

    def __init__(
        self,
        context: BaseBeamExecutor.Context | None = None,
        plan: Callable[[DatasetConfig, Path], Plan] = plan_ingestion,
    ):
        super().__init__(context)
        self._plan = plan

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
            plan = self._plan(config, root)
            log_planned(plan.pairs, plan.origins, plan.rejected, plan.notes)
            try:
                names, ignored = config.raw_labels()
            except ValueError as error:
                raise StageError(str(error)) from error
            mapping = LabelMapping(names, ignored, labels.names, config.label_tolerance)
            outcomes = self._write_shards(plan, config, root, mapping, examples)
            written = _written(plan, outcomes)
            shared = find_shared_pictures(
                written,
                lambda entry: read_image(
                    config.source.image_file(root, entry), config.max_pixels
                ).pixel_digest(),
            )

        rejected = [*plan.rejected, *(item for outcome in outcomes for item in outcome.rejected)]
        rejected.sort(key=lambda rejection: rejection.file)
        counts = {split: sum(each == split for each, _, _ in written) for split in SPLITS}
        check_rejected(rejected, sum(counts.values()), config.max_rejected_fraction)
        check_filled(plan.pairs, counts, rejected)
        tally = MaskTally()
        tally.merge(outcome.tally for outcome in outcomes)
        tally.check(config.label_tolerance)
        check_shared(shared, config.max_shared_pictures)
        if more := sum(outcome.with_more_bands for outcome in outcomes):
            logger.warning("%d images have more bands than are read; only their first ones are kept", more)
        of_train = [outcome.used_range for outcome in outcomes if outcome.split == SPLITS[0]]
        check_levels(
            joined(of_train) or joined(outcome.used_range for outcome in outcomes), config.value_range
        )
        report = Ingestion(
            examples=counts,
            split_origins=plan.origins,
            rejected=[asdict(item) for item in rejected],
            shared_pictures=shared,
        )
        with fileio.open(f"{ingestion.uri}/{SPLITS_FILE}", "wb") as file:
            file.write(_splits_csv(written))
        with fileio.open(f"{ingestion.uri}/{INGESTION_FILE}", "w") as file:
            file.write(report.model_dump_json(indent=1))

    def _write_shards(
        self, plan: Plan, config: DatasetConfig, root: Path, mapping: LabelMapping, examples: Artifact
    ) -> list[ShardOutcome]:
        split_dirs = {split: artifact_utils.get_split_uri([examples], split) for split in SPLITS}
        scratch = f"{examples.uri}/.partial"
        for folder in (*split_dirs.values(), scratch):
            fileio.makedirs(folder)
        outcome_file = f"{scratch}/outcomes"
        write_shard = WriteShard(
            config.source, root, mapping, config.max_pixels, config.exif, split_dirs, scratch
        )
        try:
            with self._make_beam_pipeline() as pipeline:
                _ = (
                    pipeline
                    | "Shards" >> beam.Create(plan.shards)
                    | "WriteShards" >> beam.ParDo(write_shard)
                    | "Gather" >> beam.combiners.ToList()
                    | "KeepOutcomes" >> beam.Map(_dump_outcomes, outcome_file)
                )
            return _load_outcomes(outcome_file)
        finally:
            fileio.rmtree(scratch)


def _written(plan: Plan, outcomes: Sequence[ShardOutcome]) -> list[Written]:
    shards = {(shard.split, shard.file): shard.entries for shard in plan.shards}
    return [
        (outcome.split, entry, sketch)
        for outcome in outcomes
        for entry, sketch in zip(shards[outcome.split, outcome.file], outcome.sketches, strict=True)
        if sketch is not None
    ]


def _splits_csv(written: Sequence[Written]) -> bytes:
    """A row an Example, sorted by file; names are the bytes that the file system has."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(("file", "split"))
    writer.writerows(sorted((entry.image, split) for split, entry, _ in written))
    return table.getvalue().encode("utf-8", "surrogateescape")


_OUTCOMES = TypeAdapter(list[ShardOutcome])


def _dump_outcomes(outcomes: Sequence[ShardOutcome], path: str) -> None:
    """Beam hands no values back to the program that built the pipeline, so they go through a file."""
    with fileio.open(path, "wb") as file:
        file.write(_OUTCOMES.dump_json(list(outcomes)))


def _load_outcomes(path: str) -> list[ShardOutcome]:
    with fileio.open(path, "rb") as file:
        return _OUTCOMES.validate_json(file.read())


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
        config.check_root()
    except ValueError as error:
        raise StageError(str(error)) from error
    yield Path(config.root)
