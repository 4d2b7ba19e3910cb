"""Versions that come, go, and do not load, and the server around them: what it waits for and what ends it."""

import errno
import gc
import shutil
import socket
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from conftest import png_bytes
from running_server import channel_to, image
from saved_models import write_model
from signing_keys import needs_signing, write_keys
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_status_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_log_pb2,
    prediction_service_pb2_grpc,
)
from waiting import until

from components.model_store import signing
from components.model_store.publishing import publish
from components.saved_model import WARMUP_FILE
from components.serving.server import __main__ as server_main
from components.serving.server.errors import ServingError, one_line
from components.serving.server.options import OptionsError, ServerOptions
from components.serving.server.servable import Servable
from components.serving.server.server import ModelServer, StartError
from components.serving.server.versions import ServedModel, find_versions
from components.streams import end_process

_SECONDS = 20
_PETS = model_pb2.ModelSpec(name="pets")
_STATE = get_model_status_pb2.ModelVersionStatus.State


class _Loaded:
    """Stands in for a Servable."""

    def __init__(self, version: int):
        self.version = version
        self.is_closed = False

    def close(self) -> None:
        self.is_closed = True


class _Models:
    """A base path, the model that is served from it, and a loader that fails where it is told to."""

    def __init__(self, base: Path):
        self.base = base
        self.broken: dict[int, Exception] = {}
        self.loads: list[int] = []
        self.said: list[str] = []
        self.model = ServedModel("pets", base, self._load, self.said.append)

    def _load(self, version: int, path: Path) -> Any:
        assert path == self.base / str(version)
        self.loads.append(version)
        if version in self.broken:
            raise self.broken[version]
        return _Loaded(version)

    def push(self, *versions: int) -> None:
        for version in versions:
            (self.base / str(version)).mkdir()
            self.model.poll()

    def withdraw(self, version: int) -> None:
        (self.base / str(version)).rename(self.base / f".withdrawn-{version}")
        self.model.poll()

    def states(self) -> dict[int, str]:
        statuses = self.model.statuses(_PETS)
        assert [status.version for status in statuses] == sorted((s.version for s in statuses), reverse=True)
        return {status.version: _STATE.Name(status.state) for status in statuses}


@pytest.fixture
def models(tmp_path: Path) -> _Models:
    return _Models(tmp_path)


def _refused(call: Callable[[], Any], code: grpc.StatusCode) -> str:
    with pytest.raises(ServingError) as caught:
        call()
    assert caught.value.code is code
    return caught.value.message


def test_versions_are_directories_with_numbers_for_names(tmp_path: Path) -> None:
    highest = str(2**63 - 1)
    for name in ("1", "0002", highest, str(2**63), "-3", "4.tmp", "v5", ".6", " 7", "9" * 30, "٣"):
        (tmp_path / name).mkdir()
    (tmp_path / "8").write_text("a file")
    assert find_versions(tmp_path) == {
        1: tmp_path / "1",
        2: tmp_path / "0002",
        2**63 - 1: tmp_path / highest,
    }


def test_the_newest_version_answers_and_after_a_rollback_the_next_lower_one(models: _Models) -> None:
    models.push(1, 10)
    assert models.states() == {10: "AVAILABLE", 1: "END"}
    models.push(2)
    assert models.loads == [1, 10]
    models.withdraw(10)
    assert models.states() == {10: "END", 2: "AVAILABLE", 1: "END"}
    models.withdraw(2)
    models.withdraw(1)
    assert models.states() == {10: "END", 2: "END", 1: "END"}
    models.push(11)
    assert models.states()[11] == "AVAILABLE"
    assert models.said[:3] == ["Loaded pets version 1", "Loaded pets version 10", "pets version 1 unloaded"]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ServingError(grpc.StatusCode.DATA_LOSS, "half of it"), grpc.StatusCode.DATA_LOSS),
        (RuntimeError("half of it"), grpc.StatusCode.UNKNOWN),
    ],
)
def test_a_version_that_does_not_load_leaves_the_old_one_and_is_tried_once(
    models: _Models, error: Exception, code: grpc.StatusCode
) -> None:
    models.broken[2] = error
    models.push(1, 2)
    models.model.poll()
    assert models.loads == [1, 2]
    assert models.states() == {2: "END", 1: "AVAILABLE"}
    failed = models.model.statuses(_PETS)[0].status
    assert failed.error_code == code.value[0] and "half of it" in failed.error_message
    assert models.said[-1] == f"pets version 2 cannot be served: {failed.error_message}"
    # Another one in its place is tried, even if nobody has seen it away.
    (models.base / "2").rename(models.base / ".damaged-2")
    models.push(2)
    models.model.poll()
    assert models.loads == [1, 2, 2] and models.states() == {2: "END", 1: "AVAILABLE"}
    # Not before its directory has been away, and the old one need not be there any more.
    shutil.rmtree(models.base / "1")
    models.withdraw(2)
    del models.broken[2]
    assert not models.model.is_available
    models.push(2)
    assert models.states() == {2: "AVAILABLE", 1: "END"}


def test_a_version_that_was_seen_half_copied_is_tried_when_it_is_whole(models: _Models) -> None:
    models.broken[1] = ServingError(grpc.StatusCode.DATA_LOSS, "half of it")
    (part := models.base / "1" / "variables" / "variables.index").parent.mkdir(parents=True)
    part.write_text("in")
    models.model.poll()
    models.model.poll()
    assert models.loads == [1]
    del models.broken[1]
    # A file system's clock need not tell moments apart.
    time.sleep(0.05)
    part.write_text("index")
    models.model.poll()
    assert models.loads == [1, 1] and models.states() == {1: "AVAILABLE"}


def test_the_old_version_stays_where_its_directory_is_gone_and_the_new_one_does_not_load(
    models: _Models,
) -> None:
    models.push(1)
    models.broken[2] = ServingError(grpc.StatusCode.UNKNOWN, "no")
    shutil.rmtree(models.base / "1")
    models.push(2)
    assert models.states() == {2: "END", 1: "AVAILABLE"}


def test_a_version_in_use_is_unloaded_when_it_comes_back(models: _Models) -> None:
    models.push(1)
    with models.model.lend(_PETS) as old:
        pushing = threading.Thread(target=models.push, args=[2])
        pushing.start()
        until(lambda: models.states() == {2: "AVAILABLE", 1: "UNLOADING"})
        with models.model.lend(_PETS) as new:
            assert new.version == 2
        named = model_pb2.ModelSpec(name="pets", version={"value": 1})
        _refused(lambda: models.model.lend(named).__enter__(), grpc.StatusCode.NOT_FOUND)
        assert pushing.is_alive() and not vars(old)["is_closed"]
    pushing.join(_SECONDS)
    assert vars(old)["is_closed"] and models.states()[1] == "END"


def test_an_old_version_is_unloaded_also_where_nobody_can_be_told(
    models: _Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(line: str) -> None:
        raise OSError(errno.ENOSPC, line)

    models.push(1)
    with models.model.lend(_PETS) as old:
        pass
    monkeypatch.setattr(models.model, "_announce", fail)
    with pytest.raises(OSError, match="pets version"):
        models.push(2)
    assert vars(old)["is_closed"] and models.states() == {2: "AVAILABLE", 1: "END"}


def test_a_version_has_not_failed_before_there_is_a_reason(
    models: _Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    known, set_status = [], models.model._set

    def set_and_ask(*status: Any) -> None:
        known.append(models.model.failure)
        set_status(*status)

    monkeypatch.setattr(models.model, "_set", set_and_ask)
    models.broken[1] = ValueError("no graph")
    models.push(1)
    assert known == ["", ""]
    assert models.model.failure == "pets version 1 cannot be served: ValueError: no graph"
    models.withdraw(1)
    assert models.model.failure == ""


@pytest.mark.parametrize("closed", [False, True])
def test_what_cannot_be_printed_keeps_the_server_from_nothing(
    monkeypatch: pytest.MonkeyPatch, closed: bool
) -> None:
    ended: list[int] = []
    monkeypatch.setattr("os._exit", ended.append)
    with Path("/dev/full").open("w") as full:
        if closed:
            full.close()
        monkeypatch.setattr("sys.stdout", full)
        server_main._say("Stopping")
        end: Callable[[int], None] = end_process
        end(0)
        assert ended == [0]
        monkeypatch.undo()
        with suppress(OSError):
            # What it holds would be written once more.
            full.close()


def test_a_base_path_that_goes_away_takes_no_model_with_it_and_is_said_once(
    models: _Models, caplog: pytest.LogCaptureFixture
) -> None:
    models.push(1)
    elsewhere = models.base.rename(models.base.with_name("elsewhere"))
    for _ in range(3):
        models.model.poll()
    assert models.states() == {1: "AVAILABLE"}
    assert [record.getMessage() for record in caplog.records] == [
        f"pets: cannot read base path {models.base}: No such file or directory"
    ]
    elsewhere.rename(models.base)
    models.model.poll()
    assert models.loads == [1]


# ---- one version


def _write_warmup(path: Path, records: list[bytes]) -> Path:
    with tf.io.TFRecordWriter(str(path / WARMUP_FILE)) as writer:
        for record in records:
            writer.write(record)
    return path


def _log(signature: str = "serving_default") -> bytes:
    inputs = {"image_bytes": tf.make_tensor_proto([png_bytes(image())])}
    request = predict_pb2.PredictRequest(model_spec={"signature_name": signature}, inputs=inputs)
    log = prediction_log_pb2.PredictLog(request=request)
    return prediction_log_pb2.PredictionLog(predict_log=log).SerializeToString()


def _load(path: Path, warmup: bool = True) -> Servable:
    return Servable("pets", 1, path, batching=False, warmup=warmup)


def test_a_version_that_is_not_what_was_pushed_is_not_loaded(tmp_path: Path) -> None:
    version = tmp_path / str(publish(write_model(tmp_path / "model"), tmp_path, {}))
    _load(version, warmup=False).close()
    labels = version / "assets.extra" / "labels.json"
    labels.write_text(labels.read_text().replace("class_0", "class_O"))
    with pytest.raises(ServingError, match=f"{version} is damaged: ") as caught:
        _load(version, warmup=False)
    assert caught.value.code is grpc.StatusCode.DATA_LOSS


def test_warm_up_requests_are_replayed_and_other_kinds_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[str] = []
    run = Servable.run

    def noted(servable: Servable, signature: str, *given: Any) -> Any:
        asked.append(signature)
        return run(servable, signature, *given)

    monkeypatch.setattr(Servable, "run", noted)
    path = write_model(tmp_path / "1")
    _load(path).close()
    assert asked == ["serving_default", "serving_pixels"]
    other = prediction_log_pb2.PredictionLog(
        classify_log=prediction_log_pb2.ClassifyLog(request=classification_pb2.ClassificationRequest())
    )
    _load(_write_warmup(path, [other.SerializeToString(), _log()])).close()
    # TensorFlow's own words are heard or not, as other tests in this process have set its loudness.
    [told] = [each.getMessage() for each in caplog.records if each.name == Servable.__module__]
    assert asked[2:] == ["serving_default"] and "record 1 is no Predict request" in told
    (path / WARMUP_FILE).unlink()
    _load(path).close()
    assert len(asked) == 3


@pytest.mark.parametrize(
    ("records", "code", "told"),
    [
        (None, grpc.StatusCode.DATA_LOSS, "tf_serving_warmup_requests: "),
        ([b"\xff\xff\xff"], grpc.StatusCode.INVALID_ARGUMENT, "record 1: it is no PredictionLog"),
        (["nope"], grpc.StatusCode.FAILED_PRECONDITION, 'record 1: Serving signature key "nope" not found'),
        ([b""] * 1001, grpc.StatusCode.INVALID_ARGUMENT, "record 1001: there are more than 1000"),
    ],
)
def test_a_version_that_does_not_answer_its_warm_up_requests_is_not_served(
    tmp_path: Path, records: list[Any] | None, code: grpc.StatusCode, told: str
) -> None:
    path = write_model(tmp_path / "1")
    if records is None:
        (path / WARMUP_FILE).write_bytes(b"these are no records at all")
    else:
        _write_warmup(path, [_log(record) if isinstance(record, str) else record for record in records])
    assert told in _refused(lambda: _load(path), code)
    _load(path, warmup=False).close()


@pytest.mark.parametrize(
    "damaged", ["saved_model.pb", "variables/variables.data-00000-of-00001", "variables"]
)
def test_a_damaged_or_missing_model_does_not_load(tmp_path: Path, damaged: str) -> None:
    path = write_model(tmp_path / "1")
    if (path / damaged).is_dir():
        shutil.rmtree(path / damaged)
    else:
        content = (path / damaged).read_bytes()
        (path / damaged).write_bytes(content[: len(content) // 2])
    with pytest.raises(ServingError) as caught:
        _load(path)
    assert caught.value.message and "\n" not in caught.value.message
    assert str(tmp_path / "2") in _refused(lambda: _load(tmp_path / "2"), grpc.StatusCode.NOT_FOUND)


def test_a_model_that_has_gone_leaves_nothing_behind(tmp_path: Path) -> None:
    servable = _load(write_model(tmp_path / "1"))
    servable.run("serving_pixels", {"images": np.zeros((1, 2, 2, 3), np.uint8)})
    graph = weakref.ref(servable._graph)
    gc.disable()
    try:
        servable.close()
        del servable
        assert graph() is None
    finally:
        gc.enable()


def test_of_several_errors_the_first_cause_is_kept() -> None:
    message = (
        "Graph execution error:\n\n2 root error(s) found.\n"
        "  (0) INVALID_ARGUMENT: Input is empty.\n\t [[{{node map/while/DecodeImage}}]]\n"
        "\t [[map/while/LoopCond/_25]]\n  (1) INVALID_ARGUMENT: Input is empty.\n"
        "0 successful operations.\n\nOriginal stack trace for 'map/while':\n  File \"export.py\", line 3\n"
    )
    assert one_line(message) == "Input is empty."


@pytest.mark.parametrize("character", ["x", "\n", "\u2028", "\ud800", "猫", "😀"])
def test_a_message_is_one_line_that_fits_a_status_whatever_it_quotes(character: str) -> None:
    message = ServingError(grpc.StatusCode.NOT_FOUND, f"no {character * 100_000}").message
    assert message.startswith("no ") and message.endswith(" …")
    assert message.isprintable() and len(message.encode()) <= 1024


# ---- the server


def _server(base: Path, announce: Callable[[str], None] = lambda line: None, **flags: Any) -> ModelServer:
    flags = {"port": 0, "file_system_poll_wait_seconds": 0.1, **flags}
    return ModelServer(ServerOptions(model_name="pets", model_base_path=str(base), **flags), announce)


def _predict(channel: grpc.Channel, seconds: float = _SECONDS) -> Any:
    inputs = {"image_bytes": tf.make_tensor_proto([png_bytes(image())])}
    request = predict_pb2.PredictRequest(model_spec={"name": "pets"}, inputs=inputs)
    return prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict.future(request, timeout=seconds)


def test_a_server_without_a_version_waits_with_its_port_closed(tmp_path: Path) -> None:
    said: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = _server(tmp_path, said.append, port=port)
    starting = threading.Thread(target=server.start)
    starting.start()
    until(lambda: said)
    assert said == [f"Waiting for a version of pets under {tmp_path}"]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    write_model(tmp_path / "3")
    starting.join(_SECONDS)
    with channel_to(server) as channel:
        assert _predict(channel).result().model_spec.version.value == 3
    assert server.stop(grace=5)
    assert said[1:] == ["Loaded pets version 3", f"gRPC API at 127.0.0.1:{port}", "pets version 3 unloaded"]


def test_a_server_that_waits_can_be_stopped(tmp_path: Path) -> None:
    server = _server(tmp_path)
    starting = threading.Thread(target=server.start)
    starting.start()
    assert server.stop(grace=1)
    starting.join(_SECONDS)
    assert not starting.is_alive()


def test_a_model_that_cannot_be_loaded_a_taken_port_and_a_wrong_base_path_end_the_start(
    tmp_path: Path,
) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "saved_model.pb").write_bytes(b"no model")
    with pytest.raises(StartError, match=r"^pets version 1 cannot be served: \S"):
        _server(tmp_path).start()
    with pytest.raises(OptionsError, match="is a SavedModel"):
        _server(tmp_path / "1")
    shutil.rmtree(tmp_path / "1")
    with pytest.raises(StartError, match=f"^pets has no version under {tmp_path}"):
        _server(tmp_path, file_system_poll_wait_seconds=0).start()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for which in ("port", "rest_api_port"):
            with pytest.raises(StartError, match=f"^port {port} cannot be opened: Address already in use"):
                _server(tmp_path, **{which: port}).start()


@pytest.fixture
def computing(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Set once a request is computed, which ends with the test: no machine is too busy to stop before."""
    begun, over = threading.Event(), threading.Event()

    def predict(*_: Any) -> predict_pb2.PredictResponse:
        begun.set()
        over.wait(_SECONDS)
        return predict_pb2.PredictResponse()

    monkeypatch.setattr(Servable, "predict", predict)
    yield begun
    over.set()


def test_requests_unanswered_at_the_deadline_are_dropped_and_said_to_be(
    tmp_path: Path, computing: threading.Event
) -> None:
    write_model(tmp_path / "1")
    server = _server(tmp_path, enable_model_warmup=False, grpc_max_threads=1)
    server.start()
    with channel_to(server) as channel:
        # Both arrive; the first computes and the second holds no model yet.
        calls = [_predict(channel) for _ in range(2)]
        assert computing.wait(_SECONDS)
        assert not server.stop(grace=0.3)
        assert grpc.StatusCode.OK not in {call.code() for call in calls}


def test_a_request_that_its_client_gave_up_holds_no_server_up(
    tmp_path: Path, computing: threading.Event
) -> None:
    write_model(tmp_path / "1")
    server = _server(tmp_path, enable_model_warmup=False)
    server.start()
    with channel_to(server) as channel:
        call = _predict(channel)
        assert computing.wait(_SECONDS)
        call.cancel()
    started = time.monotonic()
    assert server.stop(grace=0.3)
    assert time.monotonic() - started < _SECONDS / 2


def test_a_load_that_outlasts_the_drain_is_no_dropped_request(tmp_path: Path) -> None:
    write_model(tmp_path / "1")
    server = _server(tmp_path)
    server.start()
    # Its warm-up takes two requests of two seconds.
    write_model(tmp_path / "2", seconds=2.0)
    with channel_to(server) as channel:
        ask = model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus
        request = get_model_status_pb2.GetModelStatusRequest(model_spec=_PETS)
        until(lambda: _STATE.LOADING in {status.state for status in ask(request).model_version_status})
    assert server.stop(grace=0.5)


@needs_signing
def test_with_a_key_a_version_that_it_has_not_signed_is_not_served(tmp_path: Path) -> None:
    private, public = write_keys(tmp_path / "keys")
    base, said = tmp_path / "pets", list[str]()
    signing.sign(write_model(base / "1"), private)
    flags: dict[str, Any] = {"model_name": "pets", "model_base_path": str(base), "verify_key": public}
    server = ModelServer(ServerOptions(port=0, file_system_poll_wait_seconds=0.05, **flags), said.append)
    server.start()
    try:
        write_model(base / "2", offset=1)
        until(lambda: any("version 2" in line for line in said))
        with channel_to(server) as channel:
            request = predict_pb2.PredictRequest(model_spec=_PETS)
            request.inputs["image_bytes"].CopyFrom(tf.make_tensor_proto([png_bytes(image())]))
            answer = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request)
        assert answer.model_spec.version.value == 1
    finally:
        assert server.stop(grace=5)
    assert f"pets version 2 cannot be served: {base / '2'} is not signed: it has no assets.extra/" in said[-2]
    again = ModelServer(ServerOptions(port=0, **flags), said.append)
    with pytest.raises(StartError, match=r"pets version 2 cannot be served: .* is not signed"):
        again.start()
    again.stop(grace=0)


def test_a_key_that_cannot_be_read_is_a_wrong_flag(tmp_path: Path) -> None:
    options = ServerOptions(model_base_path=str(tmp_path), verify_key="no.pub")
    with pytest.raises(OptionsError, match=r"--verify_key: public key no.pub cannot be read: No such file"):
        ModelServer(options)
