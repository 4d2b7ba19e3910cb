"""What the client says when there is no answer, and when it asks again."""

import datetime
import io
import socket
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from fake_server import NAMES, FakeServer, asked, picture, running, two_versions
from PIL import Image
from waiting import until

from components.serving.client import SegmentationClient
from components.serving.connection import Tls
from components.serving.failures import ModelUnavailableError, ServingClientError, one_line

server = two_versions


def refusal(client: SegmentationClient) -> str:
    with client, pytest.raises(ModelUnavailableError) as caught:
        client.labels()
    return str(caught.value)


@pytest.mark.parametrize(
    ("code", "details"),
    [
        (grpc.StatusCode.UNAVAILABLE, "The batch scheduling queue to which this task was submitted is full"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "the queue is full"),
        (grpc.StatusCode.ABORTED, "try again"),
        (grpc.StatusCode.CANCELLED, "shutting down"),
    ],
)
def test_what_passes_is_asked_for_again(server: FakeServer, code: grpc.StatusCode, details: str) -> None:
    server.failures = [(code, details)] * 3
    # Of which the three pauses are a quarter.
    with asked(server, patience=2) as client:
        assert len(client.predict([picture(1)])) == 1
    assert len(server.requests) == 4


@pytest.mark.parametrize(
    "code", [grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.INTERNAL, grpc.StatusCode.FAILED_PRECONDITION]
)
def test_a_refusal_is_not_asked_for_again(server: FakeServer, code: grpc.StatusCode) -> None:
    server.failures = [(code, "no")]
    with asked(server, patience=10) as client, pytest.raises(ServingClientError, match=f"^{code.name}: no$"):
        client.predict([picture(1)])
    assert len(server.requests) == 1


def test_patience_ends(server: FakeServer) -> None:
    server.failures = [(grpc.StatusCode.UNAVAILABLE, "warming up")] * 100
    started = time.monotonic()
    with asked(server, patience=0.5) as client, pytest.raises(ModelUnavailableError, match="warming up"):
        client.predict([picture(1)])
    assert time.monotonic() - started < 2
    assert len(server.requests) > 1


def test_a_connection_refused_says_where_and_what_to_check() -> None:
    with socket.socket() as bound:
        # Bound, but not listening: nobody else can take the port meanwhile.
        bound.bind(("localhost", 0))
        address = f"localhost:{bound.getsockname()[1]}"
        said = refusal(SegmentationClient(address, "pets", patience=0))
    assert said == (
        f"cannot reach {address}: it refuses connections: is the server running, and is this its gRPC port?"
    )


def test_waiting_for_a_server_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    server = FakeServer()
    server.start()
    server.stop()
    with asked(server, patience=20) as client:
        starting = threading.Timer(0.6, server.start)
        starting.start()
        assert client.labels().names == NAMES
    server.stop()
    assert [record.getMessage() for record in caplog.records] == [
        f"cannot reach {server.address}: it refuses connections: is the server running, and is this its gRPC "
        "port?; trying again for up to 20 s"
    ]


def test_a_request_that_a_server_takes_down_with_it_is_answered_by_the_next_and_the_loss_is_said(
    server: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    def restart() -> None:
        until(lambda: server.requests)
        server.stop()
        server.seconds = 0
        time.sleep(0.5)
        server.start()

    server.seconds = 30
    with asked(server, patience=20) as client:
        restarting = threading.Thread(target=restart)
        restarting.start()
        # Beyond the 256 KiB that gRPC would keep by itself.
        assert len(client.predict([picture(1, 400, 500)])) == 1
        restarting.join()
    assert server.requests == [1, 1]
    assert [record.getMessage() for record in caplog.records] == [
        f"lost {server.address}; trying again for up to 20 s"
    ]


def test_an_unknown_model_and_an_unknown_version_say_what_there_is(server: FakeServer) -> None:
    assert refusal(SegmentationClient(server.address, "dogs", patience=60)) == (
        f"{server.address} does not serve model 'dogs'; it knows no model of that name"
    )
    assert refusal(asked(server, version=9)) == (
        f"{server.address} does not serve model 'pets' version 9; its versions: 3 AVAILABLE, 2 AVAILABLE"
    )
    assert refusal(asked(server, label="canary")) == (
        "INVALID_ARGUMENT: Unrecognized servable version label: canary"
    )


@pytest.mark.parametrize(("patience", "said"), [(0, "1 s"), (0.2, "1.2 s")])
def test_a_late_answer_is_an_error_that_names_the_seconds_it_had(
    server: FakeServer, patience: float, said: str
) -> None:
    # So long that no busy machine is mistaken for one that waits for it; nobody does.
    server.seconds = 60
    # Hung as a whole, it does not answer the greeting either, which comes out of the same time.
    server.status_seconds = 60 if not patience else 0
    started = time.monotonic()
    with (
        asked(server, patience, timeout=1) as client,
        pytest.raises(ServingClientError, match=rf"within {said} \(timeout and patience\)"),
    ):
        client.predict([picture(1)])
    assert time.monotonic() - started < 15
    if not patience:
        assert max(server.seconds_left, default=0) < 0.5, "the greeting had had all the time"


def test_a_message_too_big_says_both_sizes_and_whose_limit_it_is(server: FakeServer) -> None:
    image = picture(1, 100, 100)
    started = time.monotonic()
    # Neither is worth repeating.
    with asked(server, patience=60, max_message_bytes=1000) as client:
        with pytest.raises(
            ServingClientError, match=r"the request has 30,\d+ bytes, and the client's limit is 1,000"
        ):
            client.predict([image])
        # A pixel takes less as GIF than its mask as PNG.
        with pytest.raises(
            ServingClientError, match=r"the answer has 1,\d+ bytes, and the client's limit is 1,000"
        ):
            client.predict([tiny_gif()] * 15)
    assert time.monotonic() - started < 10
    server.stop()
    server.max_receive_bytes = 2000
    server.start()
    with (
        asked(server) as client,
        pytest.raises(ServingClientError, match=r"bytes, and the server takes 2,000"),
    ):
        client.predict([image])


def test_waiting_ends_when_the_client_closes() -> None:
    with socket.socket() as bound:
        bound.bind(("localhost", 0))
        client = SegmentationClient(f"localhost:{bound.getsockname()[1]}", "pets", patience=60)
        closing = threading.Timer(0.3, client.close)
        closing.start()
        started = time.monotonic()
        with pytest.raises(ModelUnavailableError, match="it refuses connections"):
            client.labels()
    assert time.monotonic() - started < 5


def test_a_servers_message_becomes_one_line() -> None:
    assert one_line("{{function_node f}} bad\n\t [[{{node a}}]]  image") == "bad image"
    assert one_line('{{node f}} assertion failed: [image 3 claims "9"]\n\t [[{{node A}}]]') == (
        'image 3 claims "9"'
    )
    assert one_line(r"assertion failed: [no \"a\": ] [x =] [5]") == 'no "a": x = 5'
    assert one_line("assertion failed: [cut o") == "cut o"
    assert len(one_line("x" * 1000)) == 300
    assert one_line("") == "no reason given"


@pytest.mark.parametrize(
    "address",
    [
        "localhost",
        "localhost:",
        ":8500",
        "localhost:0",
        "localhost:65536",
        "http://h:1",
        "dns:///h",
        "dns://h:1",
    ],
)
def test_what_is_no_address_is_refused_before_anything_is_sent(address: str) -> None:
    with pytest.raises(ValueError, match="give HOST:PORT, such as localhost:8500"):
        SegmentationClient(address, "pets")


def test_a_message_limit_beyond_protobufs_own_is_refused() -> None:
    with pytest.raises(ValueError, match="max_message_bytes is 2147483648"):
        SegmentationClient("[::1]:8500", "pets", max_message_bytes=2**31)


@dataclass(frozen=True)
class Certificate:
    """A self-signed certificate and its key, as files."""

    certificate: Path
    key: Path

    def credentials(self, *clients: "Certificate") -> grpc.ServerCredentials:
        pair = (self.key.read_bytes(), self.certificate.read_bytes())
        if not clients:
            return grpc.ssl_server_credentials([pair])
        roots = b"".join(client.certificate.read_bytes() for client in clients)
        return grpc.ssl_server_credentials([pair], roots, require_client_auth=True)


def new_certificate(folder: Path, host: str) -> Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"{host} {folder.name}")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    made = Certificate(folder / f"{host}.crt", folder / f"{host}.key")
    pem = serialization.Encoding.PEM
    made.certificate.write_bytes(certificate.public_bytes(pem))
    made.key.write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return made


@pytest.fixture
def localhost(tmp_path: Path) -> Certificate:
    return new_certificate(tmp_path, "localhost")


@pytest.fixture
def elsewhere(tmp_path: Path) -> Certificate:
    return new_certificate(tmp_path, "elsewhere")


def test_tls_with_a_client_certificate(localhost: Certificate, elsewhere: Certificate) -> None:
    with running(FakeServer(credentials=localhost.credentials(elsewhere))) as server:
        tls = Tls(localhost.certificate, elsewhere.certificate, elsewhere.key)
        with asked(server, tls=tls) as client:
            assert client.labels().names == NAMES
        without = asked(server, tls=Tls(localhost.certificate))
        assert "does it want TLS, or a client certificate" in refusal(without)


def test_a_server_reached_under_another_name_is_known_by_the_one_in_its_certificate(
    elsewhere: Certificate,
) -> None:
    with running(FakeServer(credentials=elsewhere.credentials())) as server:
        with asked(server, tls=Tls(elsewhere.certificate, server_name="elsewhere")) as client:
            assert client.labels().names == NAMES
        unnamed = asked(server, patience=60, tls=Tls(elsewhere.certificate))
        assert "its certificate is for another host name" in refusal(unnamed)


def test_tls_that_cannot_work_fails_at_once_and_says_why(
    localhost: Certificate, elsewhere: Certificate
) -> None:
    with running(FakeServer(credentials=localhost.credentials())) as server:
        stranger = asked(server, patience=60, tls=Tls(elsewhere.certificate))
        assert "not signed by the CA given" in refusal(stranger)
        assert "does it want TLS" in refusal(asked(server))
    with running(FakeServer()) as server:
        encrypted = asked(server, patience=60, tls=Tls(localhost.certificate))
        assert "does not speak TLS; leave the CA out" in refusal(encrypted)


def test_tls_files_that_cannot_be_right_are_refused(
    tmp_path: Path, localhost: Certificate, elsewhere: Certificate
) -> None:
    (tmp_path / "text").write_text("no certificate")
    for tls, message in (
        (Tls(tmp_path / "none"), "none: No such file or directory"),
        (Tls(tmp_path / "text"), "text: no certificate or crl found"),
        (Tls(localhost.certificate, localhost.certificate), "give both or neither"),
        (Tls(localhost.certificate, localhost.certificate, elsewhere.key), "key values mismatch"),
    ):
        with pytest.raises(ValueError, match=message):
            SegmentationClient("localhost:8500", "pets", tls=tls)


def tiny_gif() -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (1, 1)).save(buffer, "GIF")
    return buffer.getvalue()
