"""Runs the ingestion: plan, write the shards with Beam, account for every file."""

import csv
import io
import logging
import pickle
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import asdict
from itertools import chain, repeat
from pathlib import Path
from threading import Event
from typing import Any, Final, NamedTuple

import apache_beam as beam
import tensorflow as tf
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions
from pydantic import TypeAdapter
from tfx.components.util import examples_utils
from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
from tfx.dsl.io import fileio
from tfx.proto import example_gen_pb2
from tfx.types import Artifact, artifact_utils

from components.bucket import BucketPath, reading_ahead
from components.dataset.contracts import INGESTION_FILE, SPLITS_FILE, Ingestion
from components.dataset.features import SPLITS
from components.dataset.labels import LabelSet
from components.image_mask_example_gen.checks import (
    PairFacts,
    WrittenPair,
    check_pairs,
    check_shared,
    find_shared_pictures,
)
from components.image_mask_example_gen.class_mask import MaskReader, ReadMask
from components.image_mask_example_gen.config import DatasetConfig
from components.image_mask_example_gen.example import ExampleReader
from components.image_mask_example_gen.in_process import OneInProcess
from components.image_mask_example_gen.inputs import (
    FINGERPRINT_KEY,
    InputFiles,
    fingerprint_before,
    ingestion_settings,
    opened_root,
)
from components.image_mask_example_gen.label_mapping import LabelMapping
from components.image_mask_example_gen.masks_beside import MaskProcess, MasksBeside
from components.image_mask_example_gen.plan import Plan, Shard, plan_ingestion
from components.image_mask_example_gen.report import (
    Rejection,
    check_filled,
    check_rejected,
    log_planned,
)
from components.image_mask_example_gen.shapes import draw_dataset

_FEWEST_BESIDE: Final = 256
"""Pairs whose masks pay for the processes that read them: one starts in 0.4 s, and two cores save about a
millisecond a pair with pictures as small as the Oxford-IIIT Pets. With larger ones fewer would do."""

logger = logging.getLogger(__name__)


Outcome = list[PairFacts | Rejection]
"""What became of a shard's pairs, in its order."""
_OUTCOME = TypeAdapter(Outcome)


class ShardPlace(NamedTuple):
    """A shard's file, and where its entries are in the file of all."""

    split: str
    file: str
    offset: int
    size: int
    """Bytes."""


class Failure(OneInProcess):
    """Tells all workers of this process that one of them has failed.

    Beam hears of it when those before that one have written all of their shards.
    """

    def __init__(self) -> None:
        super().__init__()
        self._happened = Event()

    def unless_happened(self, work: Callable[[], None]) -> None:
        """Does a worker's work, and tells if it fails; does nothing where another's has failed."""
        if self._happened.is_set():
            return
        try:
            work()
        except BaseException:
            self._happened.set()
            raise


class WriteShard(beam.DoFn):
    """Writes one TFRecord file per shard; a file appears under its name when it is complete.

    Names come in and facts go out by files beside: Beam keeps what it is given several times over, and hands
    no values back to the program that built the pipeline. So next to nothing passes a shuffle.

    Args:
      reader: Reads the pairs.
      split_dirs: Output folder of each split.
      scratch: Folder for the entries, for files in the making and for outcomes.
      beside: Reads the masks, where all workers are in this process; None for the reader itself.
      failure: Ends the work of all, where all workers are in this process; None where a shard is tried again.
    """

    def __init__(
        self,
        reader: ExampleReader,
        split_dirs: dict[str, str],
        scratch: str,
        beside: MasksBeside | None = None,
        failure: Failure | None = None,
    ):
        self._reader = reader
        self._split_dirs = split_dirs
        self._scratch = scratch
        self._beside = beside
        self._failure = failure
        self._process: MaskProcess | None = None
        self._asked: tuple[Shard, Iterator[ReadMask]] | None = None

    def start_bundle(self) -> None:
        """Forgets what an error may have left of a bundle before."""
        self._process = self._asked = None

    def process(self, place: ShardPlace) -> None:
        """Writes one shard and its outcome, or, while its masks are read beside, those of the one before."""
        self._unless_another_failed(lambda: self._take_on(place))

    def _take_on(self, place: ShardPlace) -> None:
        with fileio.open(_entries_file(self._scratch), "rb") as file:
            file.seek(place.offset)
            shard = Shard(place.split, place.file, pickle.loads(file.read(place.size)))
        if self._beside is None:
            self.write(shard)
            return
        self._process = self._process or self._beside.take()
        masks = self._process.ask(shard.entries)
        self._write_asked()
        self._asked = shard, masks

    def finish_bundle(self) -> None:
        """Writes the last shard."""
        self._unless_another_failed(self._finish)

    def _finish(self) -> None:
        self._write_asked()
        if self._beside and self._process:
            self._beside.give_back(self._process)
            self._process = None

    def _unless_another_failed(self, work: Callable[[], None]) -> None:
        if self._failure is None:
            work()
        else:
            self._failure.unless_happened(work)

    def _write_asked(self) -> None:
        if self._asked:
            asked, self._asked = self._asked, None
            self.write(*asked)

    def write(self, shard: Shard, masks: Iterable[ReadMask | None] = repeat(None)) -> None:
        """Writes a shard whose entries are at hand, and its outcome.

        Args:
          shard: It.
          masks: Those of its entries; None for one that has not been read.
        """
        # A runner may try a shard twice, even at the same time: each try has files of its own.
        partial = f"{self._scratch}/{uuid.uuid4().hex}"
        outcome: Outcome = []
        in_bucket = isinstance(self._reader.masks.root, BucketPath)
        with (
            tf.io.TFRecordWriter(partial) as writer,
            # A local file is there at once, and to ask for it takes a tenth of what its image takes.
            closing(reading_ahead(shard.entries, self._reader.files))
            if in_bucket
            else nullcontext(shard.entries) as entries,
        ):
            # The entries first: where they end, no mask is waited for.
            for entry, mask in zip(entries, masks, strict=False):
                result = self._reader.read(entry, mask)
                if isinstance(result, Rejection):
                    outcome.append(result)
                else:
                    serialized, facts = result
                    writer.write(serialized)
                    outcome.append(facts)
        fileio.rename(partial, f"{self._split_dirs[shard.split]}/{shard.file}", overwrite=True)
        with fileio.open(partial, "wb") as file:
            file.write(_OUTCOME.dump_json(outcome))
        fileio.rename(partial, _outcome_file(self._scratch, shard), overwrite=True)


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
          StageError: the input cannot be used as it is, or changed meanwhile; the message says what to do.
        """
        settings = ingestion_settings(exec_properties)
        config, reading = settings.dataset, settings.reading
        labels = LabelSet.model_validate_json(exec_properties["labels"])
        examples = artifact_utils.get_single_instance(output_dict["examples"])
        examples.split_names = artifact_utils.encode_split_names(list(SPLITS))
        examples_utils.set_payload_format(examples, example_gen_pb2.FORMAT_TF_EXAMPLE)
        ingestion = artifact_utils.get_single_instance(output_dict["ingestion"])

        before = fingerprint_before(config, exec_properties.get(FINGERPRINT_KEY, ""))
        with _folder_to_read(config) as root:
            plan = self._plan(config, root)
            # After the plan: what it has read, and found, is then no older than what the key stands for.
            inputs = InputFiles(config, root, plan.files)
            inputs.check_same(before)
            log_planned(plan.pairs, plan.origins, plan.rejected, plan.notes)
            mapping = LabelMapping(*config.raw_labels(), labels.names, config.label_tolerance)
            reader = ExampleReader(MaskReader(config.source, root, mapping, config.max_pixels), reading)
            written, rejected = self._write_shards(plan, reader, examples)
            shared = find_shared_pictures(written, lambda entry: reader.image(entry).pixel_digest())
        # Outside: as long as a bucket is open, nothing newer is seen of it.
        inputs.check_unchanged()

        rejected = sorted([*plan.rejected, *rejected], key=lambda rejection: rejection.file)
        counts = {split: sum(pair.split == split for pair in written) for split in SPLITS}
        check_rejected(rejected, len(written), config.max_rejected_fraction)
        check_filled(plan.pairs, counts, rejected)
        check_pairs(written, config.label_tolerance, config.value_range)
        check_shared(shared, config.max_shared_pictures)
        report = Ingestion(
            examples=counts,
            split_origins=plan.origins,
            rejected=[asdict(item) for item in rejected],
            shared_pictures=shared,
        )
        with fileio.open(f"{ingestion.uri}/{SPLITS_FILE}", "wb") as file:
            for row in _splits_csv(written):
                file.write(row)
        with fileio.open(f"{ingestion.uri}/{INGESTION_FILE}", "w") as file:
            file.write(report.model_dump_json(indent=1))

    def _write_shards(
        self, plan: Plan, reader: ExampleReader, examples: Artifact
    ) -> tuple[list[WrittenPair], list[Rejection]]:
        split_dirs = {split: artifact_utils.get_split_uri([examples], split) for split in SPLITS}
        scratch = f"{examples.uri}/.partial"
        for folder in (*split_dirs.values(), scratch):
            fileio.makedirs(folder)
        try:
            pipeline = self._make_beam_pipeline()
            failure = Failure() if _are_threads(pipeline.options) else None
            with _masks_beside(plan, reader.masks, pipeline.options) as beside, pipeline:
                _ = (
                    pipeline
                    | "Shards" >> beam.Create(_write_entries(scratch, plan.shards))
                    | "WriteShards" >> beam.ParDo(WriteShard(reader, split_dirs, scratch, beside, failure))
                )
            outcomes = [_read_outcome(scratch, shard) for shard in plan.shards]
        finally:
            fileio.rmtree(scratch)
        written: list[WrittenPair] = []
        rejected: list[Rejection] = []
        for shard, outcome in zip(plan.shards, outcomes, strict=True):
            for entry, result in zip(shard.entries, outcome, strict=True):
                if isinstance(result, Rejection):
                    rejected.append(result)
                else:
                    written.append(WrittenPair(shard.split, entry, result))
        return written, rejected


def _are_threads(options: PipelineOptions) -> bool:
    """Whether several workers are in this process."""
    return bool(options.view_as(DirectOptions).direct_running_mode == "multi_threading")


@contextmanager
def _masks_beside(plan: Plan, masks: MaskReader, options: PipelineOptions) -> Iterator[MasksBeside | None]:
    """Processes for the masks; None where workers are processes by themselves, or none would be of use.

    Annotations of many masks, and what was asked of a bucket, are in this process's memory alone.
    """
    are_files = masks.layout.masks_are_files and not isinstance(masks.root, BucketPath)
    if not _are_threads(options) or not are_files or sum(plan.pairs.values()) < _FEWEST_BESIDE:
        yield None
        return
    with MasksBeside(masks) as beside:
        yield beside


def _splits_csv(written: Sequence[WrittenPair]) -> Iterator[bytes]:
    """A row an Example, sorted by file; names are the bytes that the file system has."""
    rows = sorted((pair.entry.image, pair.split) for pair in written)
    for row in chain([("file", "split")], rows):
        line = io.StringIO()
        csv.writer(line, lineterminator="\n").writerow(row)
        yield line.getvalue().encode("utf-8", "surrogateescape")


def _write_entries(scratch: str, shards: Sequence[Shard]) -> list[ShardPlace]:
    places, offset = [], 0
    with fileio.open(_entries_file(scratch), "wb") as file:
        for shard in shards:
            entries = pickle.dumps(shard.entries)
            file.write(entries)
            places.append(ShardPlace(shard.split, shard.file, offset, len(entries)))
            offset += len(entries)
    return places


def _entries_file(scratch: str) -> str:
    return f"{scratch}/entries"


def _outcome_file(scratch: str, shard: Shard) -> str:
    return f"{scratch}/{shard.split}-{shard.file}.json"


def _read_outcome(scratch: str, shard: Shard) -> Outcome:
    with fileio.open(_outcome_file(scratch, shard), "rb") as file:
        return _OUTCOME.validate_json(file.read())


@contextmanager
def _folder_to_read(config: DatasetConfig) -> Iterator[Path]:
    """The folder to read from; the drawn dataset has one only as long as it is needed."""
    if config.root is not None:
        with opened_root(config) as root:
            yield root
        return
    with tempfile.TemporaryDirectory() as temporary:
        draw_dataset(Path(temporary), config.shapes)
        logger.info("%d images and masks drawn", config.shapes.num_images)
        yield Path(temporary)
