"""What StatisticsGen reads of the Examples, as the pipeline sets it."""

from pathlib import Path

import apache_beam as beam
import pytest
import tensorflow as tf
import tensorflow_data_validation as tfdv
from apache_beam.testing.util import assert_that, equal_to
from tensorflow_metadata.proto.v0 import statistics_pb2
from tfx.components.statistics_gen.executor import Executor
from tfx.components.util import examples_utils
from tfx.proto import example_gen_pb2
from tfx.types import standard_artifacts
from tfx.types import standard_component_specs as keys

from components.dataset import features
from components.dataset.contracts import STATISTICS_ENVIRONMENT
from components.schema.curated import curated_schema
from pipeline.beam_config import BeamConfig
from pipeline.config import load_recipe
from pipeline.create_pipeline import create_pipeline

Values = dict[str, list[bytes] | list[int]]

SPECIES, BREED = "attribute/species", "attribute/breed"
SCALARS: Values = {
    features.IMAGE_FORMAT: [b"jpeg"],
    features.IMAGE_HEIGHT: [300],
    features.IMAGE_WIDTH: [400],
    features.MASK_FORMAT: [b"png"],
}
REST: Values = {
    features.IMAGE_ENCODED: [b"an image"],
    features.IMAGE_FILENAME: [b"a.jpg"],
    features.MASK_ENCODED: [b"a mask"],
    features.CLASS_PIXELS: [1, 2],
}


def example(values: Values) -> bytes:
    """A serialised Example."""
    made = tf.train.Example()
    for name, items in values.items():
        feature = made.features.feature[name]
        held = feature.bytes_list if isinstance(items[0], bytes) else feature.int64_list
        held.value.extend(items)
    return made.SerializeToString()


def statistics(directory: Path, *examples: bytes) -> statistics_pb2.DatasetFeatureStatisticsList:
    """Runs TFX's executor over one split with the options of the pipeline."""
    recipe = load_recipe("pets_unet", "/pets")
    pipeline = create_pipeline(
        recipe,
        recipe.run_parameters(str(directory / "serving")),
        pipeline_name="pets",
        pipeline_root=str(directory),
        checkpoint_dir=None,
    )
    [stage] = [each for each in pipeline.components if each.id == "StatisticsGen"]
    read = standard_artifacts.Examples()
    read.uri = str(directory / "examples")
    read.split_names = '["train"]'
    examples_utils.set_payload_format(read, example_gen_pb2.PayloadFormat.FORMAT_TF_EXAMPLE)
    (directory / "examples/Split-train").mkdir(parents=True)
    with tf.io.TFRecordWriter(str(directory / "examples/Split-train/data")) as writer:
        for each in examples:
            writer.write(each)
    written = standard_artifacts.ExampleStatistics()
    written.uri = str(directory / "statistics")
    context = Executor.Context(
        beam_pipeline_args=BeamConfig(workers=1).pipeline_args(),
        tmp_dir=str(directory / "tmp"),
        unique_id="1",
    )
    Executor(context).Do({keys.EXAMPLES_KEY: [read]}, {keys.STATISTICS_KEY: [written]}, stage.exec_properties)
    return tfdv.load_stats_binary(str(directory / "statistics/Split-train/FeatureStats.pb"))


def test_no_image_and_no_mask_is_read_for_statistics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even to be left out later: what is kept of a batch would keep all of it."""
    expand = tfdv.GenerateStatistics.expand

    def spied(self: tfdv.GenerateStatistics, batches: beam.PCollection) -> beam.PCollection:
        columns = batches | "Columns" >> beam.Map(lambda batch: sorted(batch.schema.names))
        assert_that(columns, equal_to([sorted([*SCALARS, BREED, SPECIES])]))
        return expand(self, batches)

    monkeypatch.setattr(tfdv.GenerateStatistics, "expand", spied)
    whole: Values = {**SCALARS, **REST, SPECIES: [b"cat"], BREED: [b"sphynx"]}
    [found] = statistics(tmp_path, example(whole)).datasets
    assert {feature.path.step[0] for feature in found.features} == {*SCALARS, SPECIES, BREED}


def test_a_feature_that_is_missing_altogether_is_still_an_anomaly(tmp_path: Path) -> None:
    """Although it is read as a column all the same, an empty one."""
    found = statistics(tmp_path, example({**SCALARS, **REST, BREED: [b"sphynx"]}))
    curated = curated_schema([SPECIES, BREED], max_pixels=1000, num_classes=2)
    anomalies = tfdv.validate_statistics(found, curated, environment=STATISTICS_ENVIRONMENT)
    assert set(anomalies.anomaly_info) == {SPECIES}


def test_one_unexpected_value_among_thousands_is_an_anomaly(tmp_path: Path) -> None:
    """Although values are counted in a sketch."""
    whole: Values = {**SCALARS, **REST, SPECIES: [b"cat"], BREED: [b"sphynx"]}
    odd = example({**whole, features.IMAGE_FORMAT: [b"gif"]})
    found = statistics(tmp_path, *[example(whole)] * 1500, odd, *[example(whole)] * 1500)
    curated = curated_schema([SPECIES, BREED], max_pixels=1000, num_classes=2)
    anomalies = tfdv.validate_statistics(found, curated, environment=STATISTICS_ENVIRONMENT)
    assert set(anomalies.anomaly_info) == {features.IMAGE_FORMAT}
    assert "gif" in anomalies.anomaly_info[features.IMAGE_FORMAT].description
