"""One loaded version of a model, run the way TensorFlow Serving runs it: by a session of its own."""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import grpc
import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_shape_pb2
from tensorflow.core.protobuf import meta_graph_pb2

# A session, not tf.saved_model.load: that rebuilds the objects which Python saved, while TensorFlow Serving
# runs the graph. A model can work in the one and fail in the other, and what fails there has to fail here.
# SavedModelLoader is tf.compat.v1.saved_model.load without its advice, in the log, to do otherwise.
from tensorflow.python.framework import ops
from tensorflow.python.saved_model.loader_impl import SavedModelLoader

from components.serving.server.batching import BatchScheduler
from components.serving.server.errors import ServingError, from_tensorflow, invalid, one_line

DEFAULT_SIGNATURE: Final = tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY

Tensors = dict[str, np.ndarray]


class Servable:
    """One version of a model in memory.

    Attributes:
        name: the model's name.
        version: the version's number.
        signatures: what the SavedModel's ``serve`` graph declares, by name; among them
            ``__saved_model_init_op``, which TensorFlow Serving lists, too, and nobody can run.
    """

    def __init__(self, name: str, version: int, path: Path, scheduler: BatchScheduler | None = None):
        """Loads the SavedModel in ``path``; with a scheduler, its requests are batched.

        Raises:
            ServingError: there is no SavedModel, or it cannot be loaded.
        """
        self.name = name
        self.version = version
        self._scheduler = scheduler
        self._graph = tf.Graph()
        self._session = tf.compat.v1.Session(graph=self._graph)
        try:
            self.signatures: Mapping[str, meta_graph_pb2.SignatureDef] = _load(self._session, path)
            self._calls = {
                signature_name: self._session.make_callable(
                    {output: info.name for output, info in signature.outputs.items()},
                    feed_list=[info.name for info in signature.inputs.values()],
                )
                for signature_name, signature in self.signatures.items()
                if signature.method_name
            }
        except BaseException:
            self.close()
            raise

    def run(
        self, signature: str, inputs: Mapping[str, np.ndarray | tf.Tensor], outputs: Sequence[str] = ()
    ) -> Tensors:
        """Answers one request.

        Args:
            signature: the signature's name; empty is ``serving_default``.
            inputs: arrays or tensors by input name; strings are ``object`` arrays of bytes.
            outputs: names of the outputs to return, all if empty.

        Raises:
            ServingError: FAILED_PRECONDITION, there is no such signature; INVALID_ARGUMENT, the inputs or
                outputs are not the signature's; or the model's own error, under TensorFlow's code.
        """
        signature = signature or DEFAULT_SIGNATURE
        if signature not in self._calls:
            raise ServingError(
                grpc.StatusCode.FAILED_PRECONDITION,
                f'Serving signature key "{signature}" not found. '
                f"Signatures: {', '.join(sorted(self._calls))}.",
            )
        definition = self.signatures[signature]
        _check_outputs(definition, outputs)
        arrays = _checked_inputs(signature, definition, inputs)
        execute = functools.partial(self._execute, signature)
        if self._scheduler is None:
            answer = execute(arrays)
        else:
            answer = self._scheduler.run((self.name, self.version, signature), arrays, execute)
        return {name: answer[name] for name in outputs} if outputs else answer

    def close(self) -> None:
        """Frees all that the model holds; no request may be running or come later."""
        self._session.close()
        # Python's graph refers to itself: without this it stays until the garbage collector's next full
        # pass, which in a process with TensorFlow stops every thread for a good part of a second.
        ops.dismantle_graph(self._graph)

    def _execute(self, signature: str, inputs: Mapping[str, np.ndarray]) -> Tensors:
        definition = self.signatures[signature]
        try:
            values = self._calls[signature](*(inputs[name] for name in definition.inputs))
        except tf.errors.OpError as error:
            raise from_tensorflow(error) from error
        except UnicodeDecodeError as error:
            # TensorFlow quotes bytes of the input in some messages, and Python then loses the error's code.
            message = error.object.decode(errors="backslashreplace")
            raise invalid(one_line(message)) from error
        return {
            # A session returns a scalar as a bare value.
            name: value if isinstance(value, np.ndarray) else np.array(value, _numpy_dtype(definition, name))
            for name, value in values.items()
        }


def _load(session: tf.compat.v1.Session, path: Path) -> Mapping[str, meta_graph_pb2.SignatureDef]:
    try:
        with session.graph.as_default():
            loaded = SavedModelLoader(str(path)).load(session, [tf.saved_model.SERVING])
    except tf.errors.OpError as error:
        raise from_tensorflow(error) from error
    except (KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
        # The loader tells kinds of trouble apart in its words only.
        is_there = tf.saved_model.contains_saved_model(str(path))
        code = grpc.StatusCode.INVALID_ARGUMENT if is_there else grpc.StatusCode.NOT_FOUND
        raise ServingError(code, f"{path} cannot be loaded: {one_line(str(error))}") from error
    return dict(loaded.signature_def)


def _checked_inputs(
    signature: str, definition: meta_graph_pb2.SignatureDef, inputs: Mapping[str, np.ndarray | tf.Tensor]
) -> Tensors:
    missing, extra = set(definition.inputs) - set(inputs), set(inputs) - set(definition.inputs)
    if missing or extra:
        needed = ", ".join(f"{name}: {_spec(definition.inputs[name])}" for name in sorted(missing))
        raise invalid(
            f'The inputs are not those of signature "{signature}". '
            f"Sent extra: {{{', '.join(sorted(extra))}}}. Missing but required: {{{needed}}}."
        )
    arrays = {}
    for name, info in definition.inputs.items():
        array = np.asarray(inputs[name])
        if not _dtype_fits(info.dtype, array.dtype) or not _shape_fits(info.tensor_shape, array.shape):
            raise invalid(
                f'Input "{name}" is {_kind(array.dtype)} {list(array.shape)}, '
                f'but signature "{signature}" takes {_spec(info)}.'
            )
        # Sessions take strings of variable length only.
        arrays[name] = array.astype(object) if array.dtype.kind in "SU" else array
    return arrays


def _check_outputs(definition: meta_graph_pb2.SignatureDef, outputs: Sequence[str]) -> None:
    for position, name in enumerate(outputs):
        if name not in definition.outputs:
            raise invalid(
                f"output tensor alias not found in signature: {name} "
                f"Outputs expected to be in the set {{{','.join(sorted(definition.outputs))}}}."
            )
        if name in outputs[:position]:
            raise invalid(f"duplicate output tensor alias: {name}")


def _dtype_fits(expected: int, given: np.dtype) -> bool:
    if expected == tf.string.as_datatype_enum:
        return given.kind in "OSU"
    return given == tf.as_dtype(expected).as_numpy_dtype


def _shape_fits(expected: tensor_shape_pb2.TensorShapeProto, given: Sequence[int]) -> bool:
    if expected.unknown_rank:
        return True
    return len(expected.dim) == len(given) and all(
        dim.size in (-1, size) for dim, size in zip(expected.dim, given, strict=True)
    )


def _kind(dtype: np.dtype) -> str:
    return "string" if dtype.kind in "OSU" else str(dtype)


def _spec(info: meta_graph_pb2.TensorInfo) -> str:
    shape = info.tensor_shape
    sizes = ", ".join("?" if dim.size < 0 else str(dim.size) for dim in shape.dim)
    return f"{tf.as_dtype(info.dtype).name} {'of any shape' if shape.unknown_rank else f'[{sizes}]'}"


def _numpy_dtype(definition: meta_graph_pb2.SignatureDef, output: str) -> Any:
    return tf.as_dtype(definition.outputs[output].dtype).as_numpy_dtype
