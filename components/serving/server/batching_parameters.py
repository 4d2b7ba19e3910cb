"""TensorFlow Serving's BatchingParameters: how requests are merged."""

import os
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, wrappers_pb2
from google.protobuf.message import Message

from components.serving.server.errors import ServingError, invalid
from components.serving.server.text_proto import read_text_proto

_Field = descriptor_pb2.FieldDescriptorProto
_INT64: Final = "google.protobuf.Int64Value"
_OPTIONAL: Final = {
    "max_batch_size": _INT64,
    "batch_timeout_micros": _INT64,
    "max_enqueued_batches": _INT64,
    "num_batch_threads": _INT64,
    "thread_pool_name": "google.protobuf.StringValue",
    "enable_large_batch_splitting": "google.protobuf.BoolValue",
    # Counts only where large batches are split.
    "max_execution_batch_size": _INT64,
}
"""Fields that are messages with one ``value``, so that they can be unset."""


@dataclass(frozen=True)
class BatchingParameters:
    """TensorFlow Serving's BatchingParameters and, where they are unset, its defaults.

    Sources: ``session_bundle_config.proto`` of TensorFlow Serving, ``SharedBatchScheduler`` of TensorFlow.
    """

    max_batch_size: int = 1000
    """Rows of a batch; a single request with more is refused."""
    batch_timeout_micros: int = 0
    """How long a batch waits to be filled; it leaves earlier when full."""
    max_enqueued_batches: int = 10
    """Batches that may wait for a thread, for each signature of each version."""
    num_batch_threads: int = field(default_factory=lambda: os.cpu_count() or 1)
    """Batches that run at the same time."""
    thread_pool_name: str = "model_server_batch_threads"
    allowed_batch_sizes: tuple[int, ...] = ()
    """Batches are padded to the next of these; empty allows every size."""

    def __post_init__(self) -> None:
        """Refuses impossible values: ServingError, INVALID_ARGUMENT."""
        for name in ("max_batch_size", "max_enqueued_batches", "num_batch_threads"):
            if (value := getattr(self, name)) < 1:
                raise invalid(f"{name} must be positive; was {value}")
        if self.batch_timeout_micros < 0:
            raise invalid(f"batch_timeout_micros must be non-negative; was {self.batch_timeout_micros}")
        sizes = self.allowed_batch_sizes
        if any(size < 1 for size in sizes) or any(first >= second for first, second in pairwise(sizes)):
            raise invalid(f"allowed_batch_sizes must be positive and increasing; were {list(sizes)}")
        if sizes and sizes[-1] != self.max_batch_size:
            raise invalid(
                "Last entry in allowed_batch_sizes must match max_batch_size; "
                f"last entry was {sizes[-1]}; expected {self.max_batch_size}"
            )

    def padded(self, rows: int) -> int:
        """Returns how many rows a batch of ``rows`` is run with."""
        return next((size for size in self.allowed_batch_sizes if size >= rows), rows)


def parse_batching_parameters_file(path: Path) -> BatchingParameters:
    """Reads BatchingParameters in text format, as ``--batching_parameters_file`` takes it.

    Raises:
        ServingError: INVALID_ARGUMENT, naming the file and what is wrong in it.
    """
    message: Any = read_text_proto(path, _message_class()())
    given = {name: getattr(message, name).value for name in _OPTIONAL if message.HasField(name)}
    given.pop("max_execution_batch_size", None)
    if message.pad_variable_length_inputs:
        raise _unsupported(path, "pad_variable_length_inputs")
    if given.pop("enable_large_batch_splitting", False):
        raise _unsupported(path, "enable_large_batch_splitting")
    try:
        return BatchingParameters(**given, allowed_batch_sizes=tuple(message.allowed_batch_sizes))
    except ServingError as error:
        raise ServingError(error.code, f"{path}: {error.message}") from error


@cache
def _message_class() -> type[Message]:
    """The message's text format; tensorflow-serving-api has no module for ``session_bundle_config.proto``."""
    file = descriptor_pb2.FileDescriptorProto(
        name="session_bundle_config.proto",
        package="tensorflow.serving",
        syntax="proto3",
        dependency=[wrappers_pb2.DESCRIPTOR.name],
    )
    message = file.message_type.add(name="BatchingParameters")
    # The text format knows fields by name; the numbers, which only bytes need, are free here.
    for number, (name, kind) in enumerate(_OPTIONAL.items(), start=1):
        message.field.add(
            name=name,
            number=number,
            label=_Field.LABEL_OPTIONAL,
            type=_Field.TYPE_MESSAGE,
            type_name=f".{kind}",
        )
    message.field.add(
        name="allowed_batch_sizes", number=101, label=_Field.LABEL_REPEATED, type=_Field.TYPE_INT64
    )
    message.field.add(
        name="pad_variable_length_inputs", number=102, label=_Field.LABEL_OPTIONAL, type=_Field.TYPE_BOOL
    )
    # A pool of its own: whoever brings the real file keeps the name in the default one.
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    return message_factory.GetMessageClass(
        pool.FindMessageTypeByName("tensorflow.serving.BatchingParameters")
    )


def _unsupported(path: Path, name: str) -> ServingError:
    return invalid(f"{path}: {name} is not supported by the embedded server; leave it out")
