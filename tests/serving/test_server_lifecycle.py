"""How a server comes up, follows its models, and goes: what it waits for, refuses, and finishes first."""

import datetime
import functools
import ipaddress
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
import tensorflow as tf
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from grpc_health.v1 import health_pb2, health_pb2_grpc
from running_server import channel_to, encoded, image, running
from saved_models import write_model
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from components.serving.server.config_files import read_ssl_config
from components.serving.server.options import OptionsError, ServerOptions
from components.serving.server.server import ModelServer, StartError

_SECONDS = 20
_PETS = (
    'config {{ name: "pets" base_path: "BASE" model_platform: "tensorflow" '
    "model_version_policy {{ specific {{ versions: {version} }} }} }}"
)


def _request() -> predict_pb2.PredictRequest:
    inputs = {"image_bytes": tf.make_tensor_proto([encoded(image())])}
    return predict_pb2.PredictRequest(model_spec={"name": "pets"}, inputs=inputs)


def _version(channel: grpc.Channel) -> int:
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    return stub.Predict(_request(), timeout=_SECONDS).model_spec.version.value


def _server(base: Path, announce: Callable[[str], None] = lambda line: None, **flags: Any) -> ModelServer:
    return ModelServer(
        ServerOptions(
            port=flags.pop("port", 0),
            model_name="pets",
            model_base_path=str(base),
            file_system_poll_wait_seconds=0.1,
            **flags,
        ),
        announce,
    )


def _models(configs: str, base: Path) -> str:
    return f"model_config_list {{ {configs.replace('BASE', str(base))} }}"


def _until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + _SECONDS
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def _seen_lately(seen: list[int], number: int) -> bool:
    return number in seen[-5:]


def test_a_server_without_a_version_waits_with_its_port_closed(tmp_path: Path) -> None:
    said: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = _server(tmp_path, said.append, port=port)
    starting = threading.Thread(target=server.start)
    starting.start()
    _until(lambda: bool(said))
    assert said == [f"Waiting for a version of pets under {tmp_path}"]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    write_model(tmp_path / "3")
    starting.join(_SECONDS)
    with channel_to(server) as channel:
        assert _version(channel) == 3
    assert server.stop(grace=5)
    assert said[1:] == ["Loaded pets version 3", f"gRPC API at 127.0.0.1:{port}", "pets version 3 unloaded"]


def test_a_server_that_waits_can_be_stopped(tmp_path: Path) -> None:
    server = _server(tmp_path)
    starting = threading.Thread(target=server.start)
    starting.start()
    assert server.stop(grace=1)
    starting.join(_SECONDS)
    assert not starting.is_alive()


def test_a_model_that_cannot_be_loaded_ends_the_start(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "saved_model.pb").write_bytes(b"no model")
    server = _server(tmp_path)
    with pytest.raises(StartError, match=r"pets version 1 cannot be served: \S"):
        server.start()
    assert server.stop(grace=1)


@pytest.mark.parametrize("which", ["port", "rest_api_port"])
def test_a_port_that_is_taken_ends_the_start(tmp_path: Path, which: str) -> None:
    write_model(tmp_path / "1")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = _server(tmp_path, **{which: port})
        with pytest.raises(StartError, match=f"port {port} cannot be opened: Address already in use"):
            server.start()
        server.stop(grace=0)


def test_a_base_path_that_can_never_serve_is_refused_at_once(tmp_path: Path) -> None:
    write_model(tmp_path / "1")
    with pytest.raises(OptionsError, match="is a SavedModel"):
        _server(tmp_path / "1")


def test_new_versions_take_over_without_a_failed_request(tmp_path: Path) -> None:
    write_model(tmp_path / "1")
    seen: list[int] = []
    done = threading.Event()
    with running(tmp_path) as server, channel_to(server) as channel:

        def ask() -> None:
            while not done.is_set():
                seen.append(_version(channel))

        asking = [threading.Thread(target=ask) for _ in range(2)]
        for thread in asking:
            thread.start()
        for number in (2, 3):
            write_model(tmp_path / str(number), offset=number)
            _until(functools.partial(_seen_lately, seen, number))
        done.set()
        for thread in asking:
            thread.join(_SECONDS)
            assert not thread.is_alive()
    assert set(seen) == {1, 2, 3}


def test_a_changed_model_config_file_is_taken_over(tmp_path: Path) -> None:
    write_model(tmp_path / "pets" / "1")
    write_model(tmp_path / "pets" / "2")
    config = tmp_path / "models.config"

    def write(version: int) -> None:
        config.write_text(
            f'model_config_list {{ config {{ name: "pets" base_path: "{tmp_path / "pets"}" '
            f'model_platform: "tensorflow" '
            f"model_version_policy {{ specific {{ versions: {version} }} }} }} }}"
        )

    write(1)
    flags: dict[str, Any] = {"model_config_file": str(config), "model_config_file_poll_wait_seconds": 1}
    with running(tmp_path, **flags) as server, channel_to(server) as channel:
        assert _version(channel) == 1
        config.write_text("nonsense {")
        time.sleep(1.5)
        assert _version(channel) == 1
        write(2)
        _until(lambda: _version(channel) == 2)


@pytest.mark.parametrize("meanwhile", [_PETS.format(version=2), "nonsense {"])
def test_a_model_config_file_that_changes_during_the_start_is_followed(
    tmp_path: Path, meanwhile: str
) -> None:
    base = tmp_path / "pets"
    for version in (1, 2):
        write_model(base / str(version))
    config = tmp_path / "models.config"
    config.write_text(_models(_PETS.format(version=1), base))
    flags: dict[str, Any] = {"model_config_file": str(config), "model_config_file_poll_wait_seconds": 1}
    server = _server(base, **flags)
    config.write_text(_models(meanwhile, base))
    server.start()
    try:
        if meanwhile == "nonsense {":
            time.sleep(1.2)
            config.write_text(_models(_PETS.format(version=2), base))
        with channel_to(server) as channel:
            _until(lambda: _version(channel) == 2)
    finally:
        server.stop(grace=5)


def test_a_model_added_without_a_version_is_expected_by_health(tmp_path: Path) -> None:
    base = tmp_path / "pets"
    write_model(base / "1")
    config = tmp_path / "models.config"
    config.write_text(_models(_PETS.format(version=1), base))
    flags: dict[str, Any] = {"model_config_file": str(config), "model_config_file_poll_wait_seconds": 1}
    with running(tmp_path, **flags) as server, channel_to(server) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        assert health.Check(health_pb2.HealthCheckRequest()).status == health_pb2.HealthCheckResponse.SERVING
        cars = 'config {{ name: "cars" base_path: "{base}/none" model_platform: "tensorflow" }}'
        config.write_text(_models(f"{_PETS.format(version=1)} {cars.format(base=tmp_path)}", base))

        def is_ready() -> bool:
            status: int = health.Check(health_pb2.HealthCheckRequest()).status
            return status == health_pb2.HealthCheckResponse.SERVING

        _until(lambda: not is_ready())
        assert _version(channel) == 1


def test_requests_unanswered_at_the_deadline_are_dropped_and_said_to_be(tmp_path: Path) -> None:
    write_model(tmp_path / "1", seconds=2.0)
    server = _server(tmp_path, enable_model_warmup=False, grpc_max_threads=1)
    server.start()
    with channel_to(server) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        # Both arrive; the first computes and the second holds no model yet.
        first = stub.Predict.future(_request(), timeout=_SECONDS)
        time.sleep(0.2)
        second = stub.Predict.future(_request(), timeout=_SECONDS)
        time.sleep(0.2)
        assert not server.stop(grace=0.3)
        assert grpc.StatusCode.OK not in {first.code(), second.code()}


def test_a_load_that_outlasts_the_drain_is_no_dropped_request(tmp_path: Path) -> None:
    write_model(tmp_path / "1")
    server = _server(tmp_path)
    server.start()
    # Its warm-up takes two requests of two seconds.
    write_model(tmp_path / "2", seconds=2.0)
    with channel_to(server) as channel:
        models = model_service_pb2_grpc.ModelServiceStub(channel)
        request = get_model_status_pb2.GetModelStatusRequest(model_spec={"name": "pets"})
        loading = get_model_status_pb2.ModelVersionStatus.LOADING
        _until(
            lambda: (
                loading in {status.state for status in models.GetModelStatus(request).model_version_status}
            )
        )
    assert server.stop(grace=0.5)


def test_batching_without_parameters_warns_of_batches_that_models_refuse(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _server(tmp_path, enable_batching=True)
    (warning,) = caplog.messages
    assert "merges up to 1000 images" in warning and "assets.extra/labels.json" in warning


def _certificate(name: str, issuer: tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None) -> Any:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[0].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.IPv4Address("127.0.0.1"))]), critical=False
        )
        .sign(issuer[1] if issuer else key, hashes.SHA256())
    )
    return certificate, key


def _pem(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> tuple[bytes, bytes]:
    return (
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
        certificate.public_bytes(serialization.Encoding.PEM),
    )


def _text_proto(pem: bytes) -> str:
    return '"' + pem.decode().replace("\n", "\\n") + '"'


def test_tls_lets_in_only_clients_whose_certificate_is_signed(tmp_path: Path) -> None:
    write_model(tmp_path / "pets" / "1")
    authority = _certificate("authority", None)
    root = _pem(*authority)[1]
    server_key, server_certificate = _pem(*_certificate("server", authority))
    client_key, client_certificate = _pem(*_certificate("client", authority))
    bundle = "# Főtanúsítvány\n".encode() + root
    config = tmp_path / "ssl.config"
    config.write_text(
        f"server_key: {_text_proto(server_key)} server_cert: {_text_proto(server_certificate)} "
        f"custom_ca: {_text_proto(bundle)} client_verify: true"
    )
    with running(tmp_path / "pets", ssl_config_file=str(config)) as server:

        def ask(credentials: grpc.ChannelCredentials) -> int:
            with grpc.secure_channel(f"127.0.0.1:{server.port}", credentials) as channel:
                return _version(channel)

        assert ask(grpc.ssl_channel_credentials(root, client_key, client_certificate)) == 1
        with pytest.raises(grpc.RpcError) as refusal:
            ask(grpc.ssl_channel_credentials(root))
        assert refusal.value.code() is grpc.StatusCode.UNAVAILABLE
        with channel_to(server) as plain, pytest.raises(grpc.RpcError):
            _version(plain)


def test_tls_that_grpc_cannot_use_is_refused_before_anything_is_served(tmp_path: Path) -> None:
    certificate, key = _certificate("server", None)
    unlocked, pem = _pem(certificate, key)
    locked = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    config = tmp_path / "ssl.config"
    config.write_text(f"server_key: {_text_proto(locked)} server_cert: {_text_proto(pem)}")
    with pytest.raises(OptionsError, match=r"do not load together .* pass phrase is one"):
        read_ssl_config(str(config))
    config.write_text(
        f"server_key: {_text_proto(unlocked)} server_cert: {_text_proto(pem)} "
        'custom_ca: "/etc/ca.pem" client_verify: true'
    )
    with pytest.raises(OptionsError, match="custom_ca must hold the PEM text of a certificate itself"):
        read_ssl_config(str(config))


def test_grpc_is_served_on_a_unix_socket_as_well(tmp_path: Path) -> None:
    write_model(tmp_path / "pets" / "1")
    path = tmp_path / "grpc.sock"
    with (
        running(tmp_path / "pets", grpc_socket_path=str(path)),
        grpc.insecure_channel(f"unix:{path}") as channel,
    ):
        assert _version(channel) == 1


def test_channel_arguments_reach_grpc(tmp_path: Path) -> None:
    write_model(tmp_path / "1")
    arguments = "grpc.max_receive_message_length=100,grpc.primary_user_agent=x"
    with running(tmp_path, grpc_channel_arguments=arguments) as server, channel_to(server) as channel:
        with pytest.raises(grpc.RpcError) as refusal:
            _version(channel)
        assert refusal.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        health = health_pb2_grpc.HealthStub(channel)
        assert health.Check(health_pb2.HealthCheckRequest(), timeout=_SECONDS).status == 1


def test_batching_answers_as_without(tmp_path: Path) -> None:
    write_model(tmp_path / "pets" / "1")
    parameters = tmp_path / "batching.config"
    parameters.write_text("max_batch_size { value: 8 } batch_timeout_micros { value: 20000 }")
    flags: dict[str, Any] = {"enable_batching": True, "batching_parameters_file": str(parameters)}
    with running(tmp_path / "pets", **flags) as server, channel_to(server) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        calls = [stub.Predict.future(_request(), timeout=_SECONDS) for _ in range(6)]
        masks = {call.result().outputs["mask_bytes"].string_val[0] for call in calls}
        assert len(masks) == 1
