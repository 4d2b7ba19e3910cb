"""The schema of the Examples, written by hand: inferred from the data, it would find no fault with it."""

from collections.abc import Sequence

from tensorflow_metadata.proto.v0 import schema_pb2

from components.dataset import features
from components.dataset.contracts import STATISTICS_ENVIRONMENT

_IMAGE_FORMATS = ("jpeg", "png", "bmp")


def curated_schema(attributes: Sequence[str], max_pixels: int, num_classes: int) -> schema_pb2.Schema:
    """Returns the schema of a recipe's Examples.

    Args:
        attributes: names of the dataset's own attributes, ``attribute/species`` for example.
        max_pixels: the most pixels an image may have, and so the most a side may have.
        num_classes: those whose pixels are counted.
    """
    schema = schema_pb2.Schema(default_environment=[STATISTICS_ENVIRONMENT])
    # No statistics over bytes and their pixels, which ingestion has checked, nor over names, all different.
    for name in (features.IMAGE_ENCODED, features.MASK_ENCODED, features.IMAGE_FILENAME):
        _required(schema, name, schema_pb2.BYTES).not_in_environment.append(STATISTICS_ENVIRONMENT)
    counts = _required(schema, features.CLASS_PIXELS, schema_pb2.INT)
    counts.shape.dim.add(size=num_classes)
    counts.not_in_environment.append(STATISTICS_ENVIRONMENT)
    for name in attributes:
        _required(schema, name, schema_pb2.BYTES)
    for name, values in ((features.IMAGE_FORMAT, _IMAGE_FORMATS), (features.MASK_FORMAT, ("png",))):
        feature = _required(schema, name, schema_pb2.BYTES)
        feature.string_domain.value.extend(values)
    for name in (features.IMAGE_HEIGHT, features.IMAGE_WIDTH):
        feature = _required(schema, name, schema_pb2.INT)
        feature.int_domain.min, feature.int_domain.max = 1, max_pixels
    return schema


def statistics_schema(curated: schema_pb2.Schema) -> schema_pb2.Schema:
    """Returns the features of a curated schema that are worth statistics, by name and type alone.

    Read by it, Examples become Arrow without their images: any column holds on to the memory of all that were
    read with it, and TensorFlow Data Validation keeps columns until it has those of a thousand Examples.
    """
    schema = schema_pb2.Schema()
    for feature in curated.feature:
        if STATISTICS_ENVIRONMENT not in feature.not_in_environment:
            schema.feature.add(name=feature.name, type=feature.type)
    return schema


def _required(
    schema: schema_pb2.Schema, name: str, feature_type: "schema_pb2.FeatureType"
) -> schema_pb2.Feature:
    """Adds a feature of one value that every Example holds."""
    feature = schema.feature.add(name=name, type=feature_type)
    feature.presence.min_fraction = 1.0
    feature.presence.min_count = 1
    feature.shape.SetInParent()
    return feature
