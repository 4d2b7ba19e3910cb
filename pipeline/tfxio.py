"""Sets how TFX reads Examples, wherever its executors run."""

from collections.abc import Sequence
from typing import Final

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems
from tfx_bsl.coders import batch_util
from tfx_bsl.tfxio import record_based_tfxio

_ONE_IS_ENOUGH: Final = [1]
_BATCH_BYTES: Final = 20 << 20
"""Of the records of a batch, as TFX has it where it counts bytes."""
_BATCH_RECORDS: Final = 1000
"""At most, as TFX has it where it counts records."""
_EVALUATOR_BATCH_BYTES: Final = 4 << 20
"""Of one that the Evaluator reads. It predicts few images at once anyhow, and each of its threads has a batch
several times over: as records, as their features, as a column and as an array."""


def configure_tfxio() -> None:
    """Has TFX read Examples in batches of some megabytes, and the files of a split on all workers.

    By itself it takes up to 1,000 images at once, and leaves all files to one worker of Flink or Spark
    (github.com/apache/beam/issues/21222).
    """
    batch_util.BatchRecords = batch_records
    record_based_tfxio.ReadTfRecord = read_tf_records


@beam.ptransform_fn
@beam.typehints.with_input_types(bytes)
@beam.typehints.with_output_types(list[bytes])
def batch_records(
    records: beam.PCollection, batch_size: int | None, telemetry_descriptors: Sequence[str] | None
) -> beam.PCollection:
    """Batches records to some megabytes, a thousand at most, and one that is larger by itself.

    Args:
        records: serialised Examples.
        batch_size: not read; no stage asks for a number of records.
        telemetry_descriptors: of the stage that reads.
    """
    size = _EVALUATOR_BATCH_BYTES if "Evaluator" in (telemetry_descriptors or ()) else _BATCH_BYTES
    return records | "BatchElements" >> beam.BatchElements(
        min_batch_size=size,
        max_batch_size=size,
        # Before one larger than a batch Beam would hand on a batch of none.
        element_size_fn=lambda record: min(max(len(record), size // _BATCH_RECORDS), size),
    )


@beam.ptransform_fn
@beam.typehints.with_input_types(beam.Pipeline)
@beam.typehints.with_output_types(bytes)
def read_tf_records(pipeline: beam.Pipeline, file_pattern: Sequence[str]) -> beam.PCollection:
    """Reads the records of all files that match, one worker a file; only names of files are shuffled.

    Raises:
        FileNotFoundError: a pattern matches nothing, where ``ReadAllFromTFRecord`` would read nothing.
    """
    for pattern in file_pattern:
        [match] = FileSystems.match([pattern], limits=_ONE_IS_ENOUGH)
        if not match.metadata_list:
            raise FileNotFoundError(f"no file of Examples matches {pattern}")
    return (
        pipeline
        | "Patterns" >> beam.Create(list(file_pattern))
        | "ReadRecords" >> beam.io.ReadAllFromTFRecord(coder=beam.coders.BytesCoder())
    )
