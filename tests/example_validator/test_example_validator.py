"""Examples that are not what the curated schema says stop the pipeline, in words."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import tensorflow_data_validation as tfdv
from google.protobuf import text_format
from tfx.types import standard_artifacts
from tfx.types import standard_component_specs as keys

from components.dataset import features
from components.errors import StageError
from components.example_validator.component import Executor
from components.schema.curated import curated_schema

GOOD: dict[str, list[Any]] = {
    features.IMAGE_FORMAT: ["jpeg", "png"],
    features.IMAGE_HEIGHT: [1, 300],
    features.IMAGE_WIDTH: [400, 2],
    features.MASK_FORMAT: ["png", "png"],
    "attribute/species": ["cat", "dog"],
}


def validate(directory: Path, columns: dict[str, list[Any]]) -> None:
    """Runs the executor on the statistics of one split with these columns."""

    def artifact(kind: type, name: str) -> Any:
        made = kind()
        made.uri = str(directory / name)
        (directory / name).mkdir()
        return made

    statistics = artifact(standard_artifacts.ExampleStatistics, "statistics")
    statistics.split_names = '["train"]'
    split = directory / "statistics" / "Split-train"
    split.mkdir()
    options = tfdv.StatsOptions(num_histogram_buckets=2)
    generated = tfdv.generate_statistics_from_dataframe(pd.DataFrame(columns), options)
    (split / "FeatureStats.pb").write_bytes(generated.SerializeToString())
    schema = artifact(standard_artifacts.Schema, "schema")
    curated = curated_schema(["attribute/species"], max_pixels=1000, num_classes=2)
    (directory / "schema" / "schema.pbtxt").write_text(text_format.MessageToString(curated))
    anomalies = artifact(standard_artifacts.ExampleAnomalies, "anomalies")
    Executor().Do(
        {keys.STATISTICS_KEY: [statistics], keys.SCHEMA_KEY: [schema]}, {keys.ANOMALIES_KEY: [anomalies]}, {}
    )


def test_what_ingestion_writes_is_accepted_without_statistics_over_the_encoded_bytes(tmp_path: Path) -> None:
    validate(tmp_path, GOOD)


@pytest.mark.parametrize(
    ("feature", "values", "said"),
    [
        (features.IMAGE_FORMAT, ["jpeg", "gif"], "gif"),
        (features.IMAGE_HEIGHT, [0, 5], "unexpectedly"),
        (features.IMAGE_WIDTH, [1001, 5], "unexpectedly"),
        ("attribute/species", ["cat", None], "present"),
        ("attribute/stray", ["x", "y"], "not in schema"),
    ],
)
def test_an_anomaly_names_split_feature_and_finding(
    feature: str, values: list[Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(StageError) as raised:
        validate(tmp_path, {**GOOD, feature: values})
    message = str(raised.value)
    assert f"split train, feature {feature}: " in message
    assert said.lower() in message.lower()


def test_a_feature_that_is_missing_altogether_is_an_anomaly(tmp_path: Path) -> None:
    columns = {name: values for name, values in GOOD.items() if name != "attribute/species"}
    with pytest.raises(StageError, match=r"attribute/species: .*missing"):
        validate(tmp_path, columns)
