"""One loaded version of a model: a PredictRequest goes in, a PredictResponse comes out."""

import functools
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import grpc
import numpy as np
from google.protobuf.message import DecodeError
from tensorflow.core.framework import tensor_pb2
from tensorflow.core.protobuf import config_pb2, meta_graph_pb2

# A session, not tf.saved_model.load: that rebuilds the objects which Python saved, while TensorFlow Serving
# runs the graph. A model can work in the one and fail in the other, and what fails there has to fail here.
# These modules, not ``tensorflow`` with all of its API: `__main__` imports them without it, in a third of the
# time.
from tensorflow.python.client.session import Session
from tensorflow.python.framework import dtypes, errors, ops, tensor_util
from tensorflow.python.framework.tensor_shape import TensorShape
from tensorflow.python.lib.io._pywrap_record_io import RecordIterator
from tensorflow.python.saved_model import signature_constants, tag_constants
from tensorflow.python.saved_model.loader_impl import SavedModelLoader, contains_saved_model
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from components.model_store.store import damage
from components.saved_model import WARMUP_FILE
from components.serving.messages import from_tensor_proto
from components.serving.server.batching import BATCHES_AT_ONCE, Batcher, Tensors
from components.serving.server.errors import ServingError, from_tensorflow, invalid, one_line

DEFAULT_SIGNATURE: Final = signature_constants.DEFAULT_SERVING_SIGNATURE_DEF_KEY
MAX_MESSAGE_BYTES: Final = 64 * 1024 * 1024
"""The largest request, and the most that one of its tensors may take in memory.

TensorFlow Serving takes up to 2 GiB. A server that shares a developer's machine must not be brought down by
one request; 64 MiB hold a batch of some hundred photographs, or 21 megapixels decoded.
"""

_MAX_WARMUP_RECORDS: Final = 1000
"""Source: ``WarmupConsts::kMaxNumRecords`` of TensorFlow Serving."""

logger = logging.getLogger(__name__)


class Servable:
    """One version of a model in memory.

    Attributes:
        name: the model's name.
        version: the version's number.
        signatures: what the SavedModel's ``serve`` graph declares, by name; among them
            ``__saved_model_init_op``, which TensorFlow Serving lists, too, and nobody can run.
    """

    def __init__(self, name: str, version: int, path: Path, *, batching: bool, warmup: bool):
        """Loads the SavedModel in ``path`` and has it answer the warm-up requests that lie in it.

        Args:
            name: the model's name.
            version: the version's number.
            path: the SavedModel's directory.
            batching: whether requests are run together.
            warmup: whether the warm-up requests are replayed.

        Raises:
            ServingError: there is no SavedModel, it cannot be loaded, or it does not answer its warm-up
                requests; TensorFlow Serving refuses such a model, too. Or it is not what was pushed.
        """
        if what := damage(path):
            raise ServingError(grpc.StatusCode.DATA_LOSS, what)
        self.name = name
        self.version = version
        self._graph = ops.Graph()
        # One that waits for its operation's parts does nothing else meanwhile, and TensorFlow would have one
        # a core: two batches left cores idle for a twentieth of the time.
        threads = BATCHES_AT_ONCE * len(os.sched_getaffinity(0))
        config = config_pb2.ConfigProto(inter_op_parallelism_threads=threads)
        self._session = Session(graph=self._graph, config=config)
        self._batcher: Batcher | None = None
        try:
            self.signatures: Mapping[str, meta_graph_pb2.SignatureDef] = _load(self._session, path)
            self._calls = {
                signature: self._session.make_callable(
                    {output: info.name for output, info in definition.outputs.items()},
                    feed_list=[info.name for info in definition.inputs.values()],
                )
                for signature, definition in self.signatures.items()
                if definition.method_name
            }
            if batching:
                self._batcher = Batcher()
            if warmup:
                self._replay(path / WARMUP_FILE)
        except BaseException:
            self.close()
            raise

    def predict(self, request: predict_pb2.PredictRequest) -> predict_pb2.PredictResponse:
        """Answers a request, whichever model it names; the answer says which version and signature it was.

        Raises:
            ServingError: as `run`, or INVALID_ARGUMENT for a tensor that cannot be read.
        """
        signature = request.model_spec.signature_name or DEFAULT_SIGNATURE
        inputs = {name: read_tensor(name, proto) for name, proto in request.inputs.items()}
        outputs = self.run(signature, inputs, request.output_filter)
        response = predict_pb2.PredictResponse()
        response.model_spec.name = self.name
        response.model_spec.version.value = self.version
        response.model_spec.signature_name = signature
        for name, values in outputs.items():
            _encode(values, response.outputs[name])
        return response

    def run(self, signature: str, inputs: Tensors, outputs: Sequence[str] = ()) -> Tensors:
        """Runs a signature.

        Args:
            signature: its name.
            inputs: arrays by input name; strings are ``object`` arrays of bytes.
            outputs: names of the outputs to return, all if empty.

        Raises:
            ServingError: FAILED_PRECONDITION, there is no such signature; INVALID_ARGUMENT, the inputs or
                outputs are not the signature's; or the model's own error, under TensorFlow's code.
        """
        if signature not in self._calls:
            known = ", ".join(sorted(self._calls))
            raise ServingError(
                grpc.StatusCode.FAILED_PRECONDITION,
                f'Serving signature key "{signature}" not found. Signatures: {known}.',
            )
        definition = self.signatures[signature]
        _check_inputs(signature, definition, inputs)
        if unknown := set(outputs) - set(definition.outputs):
            raise invalid(
                f"output tensor alias not found in signature: {', '.join(sorted(unknown))}. "
                f"Outputs expected to be in the set {{{','.join(sorted(definition.outputs))}}}."
            )
        execute = functools.partial(self._execute, signature)
        answer = self._batcher.run(signature, inputs, execute) if self._batcher else execute(inputs)
        return {name: answer[name] for name in outputs or answer}

    def close(self) -> None:
        """Frees all that the model holds; no request may be running or come later."""
        if self._batcher:
            self._batcher.close()
        self._session.close()
        # Python's graph refers to itself: without this it stays until the garbage collector's next full
        # pass, which in a process with TensorFlow stops every thread for a good part of a second.
        ops.dismantle_graph(self._graph)

    def _execute(self, signature: str, inputs: Tensors) -> Tensors:
        definition = self.signatures[signature]
        try:
            values = self._calls[signature](*(inputs[name] for name in definition.inputs))
        except errors.OpError as error:
            raise from_tensorflow(error) from error
        except UnicodeDecodeError as error:
            # TensorFlow quotes bytes of the input in some messages, and Python then loses the error's code.
            raise invalid(one_line(error.object.decode(errors="backslashreplace"))) from error
        # A session returns a scalar as a bare value.
        return {
            name: np.asarray(value, dtypes.as_dtype(definition.outputs[name].dtype).as_numpy_dtype)
            for name, value in values.items()
        }

    def _replay(self, path: Path) -> None:
        """Has the model answer its recorded requests, so that no client pays for TensorFlow's first run."""
        number = 0
        try:
            for number, record in enumerate(_records(path), start=1):
                if number > _MAX_WARMUP_RECORDS:
                    raise invalid(f"there are more than {_MAX_WARMUP_RECORDS}")
                log = prediction_log_pb2.PredictionLog.FromString(record)
                if log.WhichOneof("log_type") != "predict_log":
                    logger.warning("%s, record %d is no Predict request: skipped", path, number)
                    continue
                self.predict(log.predict_log.request)
        except DecodeError as error:
            raise invalid(f"{path}, record {number}: it is no PredictionLog") from error
        except errors.OpError as error:
            raise ServingError(grpc.StatusCode.DATA_LOSS, f"{path}: {one_line(error.message)}") from error
        except ServingError as error:
            raise ServingError(error.code, f"{path}, record {number}: {error.message}") from error


def _load(session: Session, path: Path) -> Mapping[str, meta_graph_pb2.SignatureDef]:
    try:
        with session.graph.as_default():
            return dict(SavedModelLoader(str(path)).load(session, [tag_constants.SERVING]).signature_def)
    except errors.OpError as error:
        raise from_tensorflow(error) from error
    except (KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
        # The loader tells kinds of trouble apart in its words only.
        is_there = contains_saved_model(str(path))
        code = grpc.StatusCode.INVALID_ARGUMENT if is_there else grpc.StatusCode.NOT_FOUND
        raise ServingError(code, f"{path} cannot be loaded: {one_line(str(error))}") from error


def _records(path: Path) -> Any:
    return RecordIterator(str(path), "") if path.is_file() else ()


def _check_inputs(signature: str, definition: meta_graph_pb2.SignatureDef, inputs: Tensors) -> None:
    if inputs.keys() != definition.inputs.keys():
        needed = ", ".join(f"{name}: {_spec(info)}" for name, info in sorted(definition.inputs.items()))
        raise invalid(f'signature "{signature}" takes {{{needed}}}, not {{{", ".join(sorted(inputs))}}}')
    for name, info in definition.inputs.items():
        given = dtypes.as_dtype(inputs[name].dtype), inputs[name].shape
        if given[0] != info.dtype or not TensorShape(info.tensor_shape).is_compatible_with(given[1]):
            raise invalid(
                f'input "{name}" is {given[0].name} {list(given[1])}, '
                f'but signature "{signature}" takes {_spec(info)}'
            )


def _spec(info: meta_graph_pb2.TensorInfo) -> str:
    sizes = ", ".join("?" if dim.size < 0 else str(dim.size) for dim in info.tensor_shape.dim)
    shape = "of any shape" if info.tensor_shape.unknown_rank else f"[{sizes}]"
    return f"{dtypes.as_dtype(info.dtype).name} {shape}"


def read_tensor(name: str, proto: tensor_pb2.TensorProto) -> np.ndarray:
    """Returns an input's values, strings as ``object`` arrays of bytes.

    Raises:
        ServingError: INVALID_ARGUMENT, the tensor is malformed, of a type that no client sends, or too large.
    """
    try:
        return from_tensor_proto(proto, MAX_MESSAGE_BYTES)
    except (TypeError, ValueError, OverflowError) as error:
        raise invalid(f"input {name!r}: {error}") from None


def _encode(values: np.ndarray, proto: tensor_pb2.TensorProto) -> None:
    """Writes an output into the field of its type.

    That, not ``tensor_content`` as from tf.make_tensor_proto, is what TensorFlow Serving answers, and clients
    read such as ``float_val``.
    """
    proto.dtype = dtypes.as_dtype(values.dtype).as_datatype_enum
    proto.tensor_shape.CopyFrom(TensorShape(values.shape).as_proto())
    tensor_util.GetNumpyAppendFn(values.dtype)(proto, values.ravel())
