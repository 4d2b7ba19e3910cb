"""How TFX's executors read Examples: on all workers, and without an image in a shuffle."""

from collections.abc import Callable
from pathlib import Path

import apache_beam as beam
import pytest
import tensorflow as tf
from apache_beam.portability import common_urns
from apache_beam.testing.util import assert_that, equal_to
from tfx.components.util import examples_utils, tfxio_utils
from tfx.proto import example_gen_pb2
from tfx.types import Artifact, artifact_utils, standard_artifacts
from tfx_bsl.coders import batch_util
from tfx_bsl.tfxio import record_based_tfxio
from tfx_bsl.tfxio.tfxio import TFXIO

from pipeline.beam_config import BeamConfig
from pipeline.tfxio import configure_tfxio

PAR_DO = common_urns.primitives.PAR_DO.urn
GROUP_BY_KEY = common_urns.primitives.GROUP_BY_KEY.urn


@pytest.fixture(autouse=True)
def configured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_based_tfxio, "ReadTfRecord", record_based_tfxio.ReadTfRecord)
    monkeypatch.setattr(batch_util, "BatchRecords", batch_util.BatchRecords)
    configure_tfxio()


@pytest.fixture
def examples(tmp_path: Path) -> Artifact:
    """Two shards of three and two Examples, and one without any."""
    artifact = standard_artifacts.Examples()
    artifact.uri = str(tmp_path)
    artifact.split_names = artifact_utils.encode_split_names(["train"])
    examples_utils.set_payload_format(artifact, example_gen_pb2.PayloadFormat.FORMAT_TF_EXAMPLE)
    folder = tmp_path / "Split-train"
    folder.mkdir()
    for shard, keys in enumerate((range(3), range(3, 5), ())):
        with tf.io.TFRecordWriter(str(folder / f"data_tfrecord-0000{shard}-of-00003")) as writer:
            for key in keys:
                feature = tf.train.Feature(int64_list=tf.train.Int64List(value=[key]))
                example = tf.train.Example(features=tf.train.Features(feature={"key": feature}))
                writer.write(example.SerializeToString())
    return artifact


def as_statistics_gen(examples: Artifact) -> TFXIO:
    return tfxio_utils.get_split_tfxio([examples], "train", telemetry_descriptors=["test"])


def as_transform(examples: Artifact) -> TFXIO:
    return tfxio_utils.make_tfxio(
        [f"{examples.uri}/Split-train/*"],
        ["test"],
        example_gen_pb2.PayloadFormat.FORMAT_TF_EXAMPLE,
        file_format=["tfrecords_gzip"],
    )


def as_evaluator(examples: Artifact) -> TFXIO:
    factory = tfxio_utils.get_tfxio_factory_from_artifact(
        [examples], telemetry_descriptors=["test"], raw_record_column_name="raw"
    )
    return factory(f"{examples.uri}/Split-train/*")


@pytest.mark.parametrize("reader", [as_statistics_gen, as_transform, as_evaluator])
def test_names_of_files_are_shuffled_and_their_records_are_not(
    reader: Callable[[Artifact], TFXIO], examples: Artifact
) -> None:
    """A reader in front of the only shuffle would be one worker's alone; one behind another would fill it."""
    pipeline = beam.Pipeline()
    batches = pipeline | reader(examples).BeamSource()
    names = [name for name, urn in _path_to(batches, pipeline) if urn in (PAR_DO, GROUP_BY_KEY)]
    [shuffle] = [place for place, name in enumerate(names) if name.endswith("GroupByKey")]
    [lists_files] = [place for place, name in enumerate(names) if name.endswith("ExpandIntoRanges")]
    [reads_files] = [place for place, name in enumerate(names) if name.endswith("ReadRange")]
    assert lists_files < shuffle < reads_files


@pytest.mark.parametrize("workers", [1, 2])
def test_every_record_of_every_file_is_read_once(workers: int, examples: Artifact) -> None:
    mode = "in_memory" if workers == 1 else "multi_threading"
    arguments = [
        "--runner=FnApiRunner",
        f"--direct_running_mode={mode}",
        f"--direct_num_workers={workers}",
    ]
    with beam.Pipeline(argv=arguments) as pipeline:
        keys = (
            pipeline
            | as_evaluator(examples).BeamSource()
            | beam.FlatMap(lambda batch: [key for [key] in batch.column(0).to_pylist()])
        )
        assert_that(keys, equal_to([0, 1, 2, 3, 4]))


@pytest.mark.parametrize(("stage", "batches"), [("StatisticsGen", [2]), ("Evaluator", [1, 1])])
def test_the_evaluator_has_images_of_some_megabytes_one_by_one(
    stage: str, batches: list[int], examples: Artifact
) -> None:
    feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[bytes(5_000_000)]))
    record = tf.train.Example(features=tf.train.Features(feature={"image": feature})).SerializeToString()
    for shard in range(2):
        with tf.io.TFRecordWriter(f"{examples.uri}/Split-train/data_tfrecord-0000{shard}-of-00003") as writer:
            writer.write(record)
    source = tfxio_utils.get_split_tfxio([examples], "train", telemetry_descriptors=[stage])
    with beam.Pipeline(argv=BeamConfig(workers=1).pipeline_args()) as pipeline:
        rows = pipeline | source.BeamSource() | beam.Map(lambda batch: batch.num_rows)
        assert_that(rows, equal_to(batches))


def test_small_records_come_a_thousand_at_most(examples: Artifact) -> None:
    feature = tf.train.Feature(int64_list=tf.train.Int64List(value=[7]))
    record = tf.train.Example(features=tf.train.Features(feature={"key": feature})).SerializeToString()
    with tf.io.TFRecordWriter(f"{examples.uri}/Split-train/data_tfrecord-00000-of-00003") as writer:
        for _ in range(1200):
            writer.write(record)
    source = tfxio_utils.get_split_tfxio([examples], "train", telemetry_descriptors=["Transform"])
    with beam.Pipeline(argv=BeamConfig(workers=1).pipeline_args()) as pipeline:
        rows = pipeline | source.BeamSource() | beam.Map(lambda batch: batch.num_rows)
        assert_that(rows | beam.CombineGlobally(max), equal_to([1000]))


def test_a_pattern_that_matches_nothing_is_named(examples: Artifact) -> None:
    examples.split_names = artifact_utils.encode_split_names(["val"])
    source = tfxio_utils.get_split_tfxio([examples], "val", telemetry_descriptors=["test"])
    with pytest.raises(FileNotFoundError, match=r"no file of Examples matches .*/Split-val/"):
        beam.Pipeline() | source.BeamSource()


def _path_to(collection: beam.PCollection, pipeline: beam.Pipeline) -> list[tuple[str, str]]:
    """Names and kinds of the transforms from the beginning to a collection."""
    proto, context = pipeline.to_runner_api(return_context=True)
    producers = {
        output: transform
        for transform in proto.components.transforms.values()
        # Not what is made of others, nor what hands on what it was given: that is produced elsewhere.
        if not transform.subtransforms
        for output in transform.outputs.values()
        if output not in transform.inputs.values()
    }
    path, key = [], context.pcollections.get_id(collection)
    while True:
        transform = producers[key]
        path.append((transform.unique_name, transform.spec.urn))
        if not transform.inputs:
            return path[::-1]
        [key] = transform.inputs.values()
