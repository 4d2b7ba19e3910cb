"""TFMA's extractors: small batches, unread features dropped; the component names it as its user module."""

from collections.abc import Iterator
from typing import Final

import apache_beam as beam
import numpy as np
import pyarrow as pa
import tensorflow_model_analysis as tfma
from tensorflow_model_analysis.proto import config_pb2

from components.dataset.features import ATTRIBUTE_PREFIX, IMAGE_FILENAME

EQUALS: Final = "="
"""What an attribute's value begins with inside TFMA, whose thresholds take a text that looks like a number
for one: of ``1``, ``01`` and ``1.0`` they would make one slice, its metrics three."""

_MODEL_INPUT = "examples"
"""The input of signature ``evaluate``."""

_MAX_BATCH_SIZE = 32
"""Examples predicted at once. Beam alone would go up to 1,000, which no accelerator's memory survives."""


def custom_extractors(
    eval_shared_model: tfma.types.MaybeMultipleEvalSharedModels,
    eval_config: config_pb2.EvalConfig,
    tensor_adapter_config: object,
) -> list[tfma.extractors.Extractor]:
    """Returns TFMA's own extractors behind one that keeps batches small and drops unread features."""
    read = {tfma.ARROW_INPUT_COLUMN, IMAGE_FILENAME}
    read.update(spec.label_key for spec in eval_config.model_specs)
    read.update(key for spec in eval_config.slicing_specs for key in spec.feature_keys)
    small_batches = tfma.extractors.Extractor(
        stage_name="SmallBatches", ptransform=beam.FlatMap(_small_batches, frozenset(read))
    )
    return [
        small_batches,
        *tfma.default_extractors(
            eval_shared_model=eval_shared_model,
            eval_config=eval_config,
            tensor_adapter_config=tensor_adapter_config,
        ),
    ]


def _small_batches(extracts: tfma.Extracts, read: frozenset[str]) -> Iterator[tfma.Extracts]:
    batch: pa.RecordBatch = extracts[tfma.ARROW_RECORD_BATCH_KEY]
    # The model reads the serialised example, so the image's bytes need not travel a second time as a feature.
    batch = batch.select([name for name in batch.schema.names if name in read])
    for index, name in enumerate(batch.schema.names):
        if name.startswith(ATTRIBUTE_PREFIX):
            batch = batch.set_column(index, name, _marked(batch.column(index)))
    for start in range(0, batch.num_rows, _MAX_BATCH_SIZE):
        part = batch.slice(start, _MAX_BATCH_SIZE)
        serialized = np.asarray(part.column(tfma.ARROW_INPUT_COLUMN).flatten())
        yield {
            tfma.ARROW_RECORD_BATCH_KEY: part,
            # Under its input's name the model is called with a keyword. Called with a bare tensor,
            # TensorFlow first writes an error message with all of its bytes, and then throws it away.
            tfma.FEATURES_KEY: {_MODEL_INPUT: serialized},
        }


def _marked(attribute: pa.ListArray) -> pa.ListArray:
    rows = attribute.to_pylist()
    mark = EQUALS.encode()
    return pa.array([row and [mark + value for value in row] for row in rows], attribute.type)
