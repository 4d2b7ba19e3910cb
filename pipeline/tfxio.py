"""Sets how TFX reads Examples, wherever its executors run."""

from collections.abc import Sequence
from typing import Final

import apache_beam as beam
from absl import flags
from apache_beam.io.filesystems import FileSystems
from tfx_bsl.coders import batch_util  # noqa: F401  (defines the flag set below)
from tfx_bsl.tfxio import record_based_tfxio

_ONE_IS_ENOUGH: Final = [1]


def configure_tfxio() -> None:
    """Has TFX read Examples in batches of some megabytes, and the files of a split on all workers.

    By itself it takes up to 1,000 images at once, and leaves all files to one worker of Flink or Spark
    (github.com/apache/beam/issues/21222).
    """
    flags.FLAGS.mark_as_parsed()
    flags.FLAGS.tfxio_use_byte_size_batching = True
    record_based_tfxio.ReadTfRecord = read_tf_records


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
