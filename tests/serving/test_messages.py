"""TensorFlow Serving's messages without TensorFlow: the same bytes, and no quarrel with the real ones."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from components.serving import messages
from components.serving.messages import (
    ModelSpec,
    State,
    data_types,
    from_tensor_proto,
    message_class,
    tensor_dtype,
    to_tensor_proto,
)

_REPOSITORY = Path(__file__).resolve().parents[2]
_NUMBERS = ("bool", "uint8", "int8", "uint16", "int16", "int32", "uint32", "int64", "uint64", "float16",
            "float32", "float64")  # fmt: skip
# What TensorFlow writes is read here, what is written here TensorFlow reads. It is imported last: other tests
# ask real servers in the process that has imported it first.
_BOTH_WORLDS = """
import sys
import numpy as np

from components.serving import messages
from components.serving.messages import from_tensor_proto, to_tensor_proto
messages.PREDICT.request_class, messages.GET_MODEL_METADATA.response_class
import tensorflow as tf
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, predict_pb2

theirs, ours = predict_pb2.PredictRequest, messages.PREDICT.request_class
assert theirs is not ours

for dtype in sys.argv[1:]:
    values = (np.arange(6).reshape(2, 3) - (3 if np.dtype(dtype).kind in "if" else 0)).astype(dtype)
    repeated = tf.make_tensor_proto(values[0, 1], values.dtype, [2, 3])
    for sent, made in (
        (values, tf.make_tensor_proto(values)),
        (np.full([2, 3], values[0, 1]), repeated),
    ):
        request = ours.FromString(theirs(inputs={"x": made}).SerializeToString())
        read = from_tensor_proto(request.inputs["x"])
        assert read.dtype == sent.dtype and np.array_equal(read, sent), (dtype, read)
        back = theirs.FromString(ours(inputs={"x": to_tensor_proto(sent)}).SerializeToString())
        assert np.array_equal(tf.make_ndarray(back.inputs["x"]), sent), dtype

strings = np.array([[b"a", b""], [b"\\xff", b"a"]], object)
request = theirs(inputs={"x": tf.make_tensor_proto(strings)})
assert (from_tensor_proto(ours.FromString(request.SerializeToString()).inputs["x"]) == strings).all()
back = theirs.FromString(ours(inputs={"x": to_tensor_proto(strings)}).SerializeToString())
assert (tf.make_ndarray(back.inputs["x"]) == strings).all()

built = messages.predict_request(messages.ModelSpec("pets", version=7), "labels", {"x": strings})
expected = predict_pb2.PredictRequest(inputs={"x": tf.make_tensor_proto(strings)})
expected.model_spec.name, expected.model_spec.signature_name = "pets", "labels"
expected.model_spec.version.value = 7
assert predict_pb2.PredictRequest.FromString(built.SerializeToString()) == expected

metadata = get_model_metadata_pb2.GetModelMetadataResponse()
metadata.model_spec.version.value = 3
signatures = get_model_metadata_pb2.SignatureDefMap()
output = signatures.signature_def["serving_default"].outputs["class_fraction"]
output.dtype = tf.float32.as_datatype_enum
output.tensor_shape.CopyFrom(tf.TensorShape([None, 5]).as_proto())
metadata.metadata["signature_def"].Pack(signatures)
read = messages.read_metadata_response(
    messages.GET_MODEL_METADATA.response_class.FromString(metadata.SerializeToString())
)
assert read.version == 3
assert read.signatures["serving_default"]["class_fraction"] == (-1, 5)

states = dict(get_model_status_pb2.ModelVersionStatus.State.items())
assert states == {state.name: state.value for state in messages.State}
"""


def test_tensorflow_and_its_own_messages_read_the_same_bytes() -> None:
    command = [sys.executable, "-c", _BOTH_WORLDS, *_NUMBERS]
    run = subprocess.run(command, cwd=_REPOSITORY, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]


def _tensor(data_type: str, shape: tuple[int, ...], **values: object) -> object:
    proto = message_class("tensorflow.core.framework.tensor_pb2", "TensorProto")(
        dtype=data_types()[data_type], **values
    )
    for size in shape:
        proto.tensor_shape.dim.add(size=size)
    return proto


@settings(deadline=None)
@given(
    st.sampled_from(_NUMBERS).flatmap(
        lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_dims=0, max_dims=4, min_side=0))
    )
)
def test_numbers_come_back_as_they_were_sent(values: np.ndarray) -> None:
    read = from_tensor_proto(to_tensor_proto(values))
    assert read.dtype == values.dtype
    assert np.array_equal(read, values, equal_nan=values.dtype.kind == "f")


@given(st.lists(st.binary()))
def test_bytes_come_back_as_they_were_sent(values: list[bytes]) -> None:
    assert from_tensor_proto(to_tensor_proto(np.array(values, object))).tolist() == values


@pytest.mark.parametrize(
    ("data_type", "values", "expected"),
    [
        ("DT_UINT8", {"int_val": [1, 255, 3, 4]}, [1, 255, 3, 4]),
        ("DT_UINT8", {"int_val": [7]}, [7, 7, 7, 7]),
        ("DT_INT32", {"int_val": [-1, 2]}, [-1, 2, 2, 2]),
        ("DT_INT64", {"int64_val": [-(2**40)]}, [-(2**40)] * 4),
        ("DT_FLOAT", {"float_val": [0.5, 1.5]}, [0.5, 1.5, 1.5, 1.5]),
        ("DT_FLOAT", {}, [0, 0, 0, 0]),
        ("DT_HALF", {"half_val": [0x3C00, 0xC000]}, [1, -2, -2, -2]),
        ("DT_BOOL", {"bool_val": [True, False]}, [True, False, False, False]),
        ("DT_STRING", {"string_val": [b"a"]}, [b"a"] * 4),
        ("DT_STRING", {}, [b""] * 4),
    ],
)
def test_values_left_out_repeat_the_last_one(
    data_type: str, values: dict[str, object], expected: list[object]
) -> None:
    assert from_tensor_proto(_tensor(data_type, (2, 2), **values)).ravel().tolist() == expected


@pytest.mark.parametrize(
    ("proto", "message"),
    [
        (_tensor("DT_BFLOAT16", (1,)), "DT_BFLOAT16 cannot be read"),
        (_tensor("DT_INT32", (1,), int_val=[1, 2]), "2 values for a tensor that holds 1"),
        (_tensor("DT_INT32", (3,), tensor_content=b"\0" * 8), "2 values"),
        (_tensor("DT_INT32", (3,), tensor_content=b"\0" * 7), "buffer size"),
        (_tensor("DT_INT32", (-1,)), r"shape \[-1\] cannot be read"),
    ],
)
def test_a_tensor_that_contradicts_itself_is_an_error(proto: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_tensor_proto(proto)


def test_an_array_of_a_type_without_a_counterpart_is_an_error() -> None:
    with pytest.raises(ValueError, match="complex64 cannot be sent"):
        to_tensor_proto(np.zeros(1, np.complex64))


def test_an_unreadable_output_is_named() -> None:
    response = messages.PREDICT.response_class()
    response.outputs["mask_bytes"].dtype = 0
    with pytest.raises(ValueError, match=r"output 'mask_bytes'.*DT_INVALID"):
        messages.read_predict_response(response)


def test_a_type_that_is_not_read_is_named() -> None:
    with pytest.raises(ValueError, match="DT_RESOURCE"):
        tensor_dtype(data_types()["DT_RESOURCE"])


def test_a_model_is_asked_by_version_or_by_label_but_not_by_both() -> None:
    request = messages.predict_request(ModelSpec("pets", label="stable"), "", {})
    assert request.model_spec.version_label == "stable"
    assert not request.model_spec.HasField("version")
    with pytest.raises(ValueError, match="only one of them"):
        ModelSpec("pets", 3, "stable")
    with pytest.raises(ValueError, match="no version of a model"):
        ModelSpec("pets", 2**63)


def test_statuses_come_newest_first_with_their_errors() -> None:
    response = messages.GET_MODEL_STATUS.response_class()
    response.model_version_status.add(version=1, state=State.END)
    response.model_version_status.add(version=2, state=State.AVAILABLE)
    response.model_version_status[0].status.error_message = "no such op"
    newest, oldest = messages.read_status_response(response)
    assert (newest.version, newest.state, newest.error) == (2, State.AVAILABLE, "")
    assert (oldest.version, oldest.state, oldest.error) == (1, State.END, "no such op")


def test_a_missing_package_is_named_with_the_one_to_install() -> None:
    with pytest.raises(ModuleNotFoundError, match="tensorflow-serving-api"):
        message_class("tensorflow_serving.apis.no_such_pb2", "PredictRequest")


def test_a_file_without_a_descriptor_is_an_import_error() -> None:
    with pytest.raises(ImportError, match="no serialized file descriptor"):
        message_class("tensorflow_serving.apis.prediction_service_pb2_grpc", "PredictRequest")
