"""Who asks, and a backend that is down, refuses, hangs, or is none."""

import json
import os
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fake_kfp
import kfp
import pytest
from command import PUSHED, Command, fake_backend, in_this_process, submission
from fake_kfp import FakeKfp, Step
from werkzeug import Request

from pipeline.kubeflow.client import backend, transport

fake, command = fake_backend, in_this_process


def one_line(text: str) -> str:
    assert text.endswith("\n") and text.count("\n") == 1, text
    return text


def test_a_token_is_sent_from_its_file(command: Command, fake: FakeKfp, tmp_path: Path) -> None:
    fake.token = "secret"
    token = tmp_path / "token"
    token.write_text("secret\n")

    assert command(*submission(fake, "--token-file", token)).code == 0


def test_a_token_that_is_renewed_while_waiting_is_used(
    command: Command, fake: FakeKfp, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text("old")
    fake.token, fake.script = "old", [Step("RUNNING"), PUSHED]

    def renew() -> None:
        fake.token = "new"
        token.write_text("new")

    fake.at_first_fetch = renew

    finished = command(*submission(fake, "--token-file", token, "--wait"))

    assert finished.code == 0
    assert fake.token == "new" and "trying again" not in finished.out


@pytest.mark.parametrize("given", ["--token-file", "--cookies-file"])
def test_what_is_not_accepted_is_named(command: Command, fake: FakeKfp, tmp_path: Path, given: str) -> None:
    fake.token = "secret"
    file = tmp_path / "credentials"
    file.write_text("session=wrong")

    finished = command(*submission(fake, given, file))

    assert finished.code == 2
    assert f"{file} are not accepted" in one_line(finished.err) or f"{file} is not accepted" in finished.err
    assert "session=wrong" not in finished.err


def test_cookies_are_sent_from_their_file(command: Command, fake: FakeKfp, tmp_path: Path) -> None:
    fake.cookie = "authservice_session=abc; other=1"
    cookies = tmp_path / "cookies"
    cookies.write_text("authservice_session=abc; other=1\n")

    assert command(*submission(fake, "--cookies-file", cookies)).code == 0


def test_kfps_own_context_is_used(
    command: Command, fake: FakeKfp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.cookie, fake.multi_user = "session=1", True
    context = tmp_path / "context.json"
    context.write_text(json.dumps({"namespace": "team", "client_authentication_cookie": "session=1"}))
    monkeypatch.setattr(kfp.Client, "_LOCAL_KFP_CONTEXT", str(context))

    assert command(*submission(fake)).code == 0
    assert [experiment.namespace for experiment in fake.experiments.values()] == ["team"]


@pytest.mark.parametrize("text", ["{", '{"client_authentication_cookie": "a"}'])
def test_a_broken_context_is_one_line(
    command: Command, fake: FakeKfp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    context = tmp_path / "context.json"
    context.write_text(text)
    monkeypatch.setattr(kfp.Client, "_LOCAL_KFP_CONTEXT", str(context))

    finished = command(*submission(fake))

    assert finished.code == 2 and str(context) in one_line(finished.err)


def test_in_a_pod_the_service_accounts_token_is_used(
    command: Command, fake: FakeKfp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = tmp_path / "projected"
    token.write_text("from-kubelet")
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(token))
    fake.token = "from-kubelet"

    assert command(*submission(fake)).code == 0


def test_the_projected_token_is_found_where_kubernetes_puts_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KF_PIPELINES_SA_TOKEN_PATH", raising=False)
    token = tmp_path / "token"
    monkeypatch.setattr(transport, "KF_PIPELINES_SA_TOKEN_PATH", str(token))

    assert transport.credentials(transport.Access()) is None
    token.write_text("from-kubelet")
    assert transport.credentials(transport.Access()) is not None


def test_the_host_may_come_from_the_environment(
    command: Command, fake: FakeKfp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", fake.host)

    finished = command(*submission(fake)[:-2])

    assert finished.code == 0
    assert f"{fake.host}/#/runs/details/run-1" in finished.out


def test_without_any_host_the_way_to_one_is_said(command: Command, fake: FakeKfp) -> None:
    finished = command(*submission(fake)[:-2])

    assert finished.code == 2
    assert "--host" in one_line(finished.err) and "KF_PIPELINES_ENDPOINT" in finished.err


def test_in_a_pod_its_namespace_is_used(
    command: Command, fake: FakeKfp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.multi_user = True
    namespace = tmp_path / "namespace"
    namespace.write_text("the-pods")
    monkeypatch.setattr(kfp.Client, "_NAMESPACE_PATH", str(namespace))

    assert command(*submission(fake)).code == 0
    assert [experiment.namespace for experiment in fake.experiments.values()] == ["the-pods"]


def test_several_users_need_a_namespace(command: Command, fake: FakeKfp) -> None:
    fake.multi_user = True

    without = command(*submission(fake))
    given = command(*submission(fake, "--namespace", "team"))

    assert without.code == 2 and "--namespace" in one_line(without.err)
    assert given.code == 0
    assert [pipeline.namespace for pipeline in fake.pipelines.values()] == ["team"]


@pytest.mark.parametrize(
    ("trouble", "says"),
    [
        (401, "does not know who asks (401 Unauthorized); give --token-file or --cookies-file"),
        (403, "does not allow this (403 Forbidden): trouble 403"),
        (404, "not as Kubeflow Pipelines 2"),
        (500, "cannot answer (500 Internal Server Error): trouble 500"),
        (503, "cannot answer (503 Service Unavailable): trouble 503"),
        (fake_kfp.LOGIN_PAGE, "is a web page, not the API"),
        (fake_kfp.LOGIN_REDIRECT, "sends us on to https://dex.example.org/auth"),
    ],
)
def test_trouble_when_connecting_is_one_line(
    command: Command, fake: FakeKfp, trouble: int | str, says: str
) -> None:
    fake.troubles = [trouble]

    finished = command(*submission(fake))

    assert (finished.code, finished.out) == (2, "")
    assert finished.err.startswith(fake.host) and says in one_line(finished.err)


def test_a_backend_that_never_answers_is_one_line(
    command: Command, fake: FakeKfp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "TIMEOUT", (10.0, 0.5))
    fake.troubles = [fake_kfp.HANG]

    finished = command(*submission(fake))

    assert (finished.code, finished.out) == (2, "")
    assert one_line(finished.err) == f"{fake.host} does not answer within 0.5 s\n"


@pytest.mark.parametrize("requests_before", range(1, 8))
def test_trouble_at_any_later_request_is_one_line(
    command: Command, fake: FakeKfp, requests_before: int
) -> None:
    fake.troubles = [*[None] * requests_before, fake_kfp.Refusal(400, "this\nwill not do")]

    finished = command(*submission(fake))

    assert finished.code == 2
    assert one_line(finished.err) == f"{fake.host} refuses (400 Bad Request): this will not do\n"
    assert not fake.runs


def test_nobody_listening_is_one_line(command: Command, fake: FakeKfp) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    finished = command(*submission(fake)[:-1], f"http://127.0.0.1:{port}")

    assert finished.code == 2
    assert finished.err == f"http://127.0.0.1:{port} cannot be reached: Connection refused\n"


def test_a_server_that_speaks_no_tls_is_one_line(command: Command, fake: FakeKfp) -> None:
    finished = command(*submission(fake)[:-1], fake.host.replace("http:", "https:"))

    assert finished.code == 2
    assert "does it speak http://?" in one_line(finished.err)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--host", "localhost:8080"], "must begin with http:// or https://"),
        (["--token-file", "absent"], "--token-file absent: No such file or directory"),
        (["--cookies-file", "absent"], "--cookies-file absent: No such file or directory"),
        (["--cookies-file", os.devnull], "must hold one line"),
        (["--ssl-ca-cert", "absent"], "--ssl-ca-cert absent: there is no such file"),
    ],
)
def test_options_that_lead_nowhere_are_told_before_anybody_is_asked(
    command: Command, fake: FakeKfp, options: list[str], says: str
) -> None:
    finished = command(*submission(fake, *options))

    assert finished.code == 2 and says in one_line(finished.err)
    assert not fake.requests


@pytest.mark.parametrize(
    "address",
    [
        "https://evil.example/steal?x.googleusercontent.com",
        "https://evil.example/x.googleusercontent.com/",
        "https://evil.example\\@x.googleusercontent.com",
        "https://evilgoogleusercontent.com",
        "http://x.googleusercontent.com",
        "https://evil.example/x.googleusercontent-com",
        "https://x.googleusercontent_com",
        "https://evil.example/.googleusercontent.com\n",
    ],
)
def test_a_google_token_is_sent_to_googles_proxy_alone(
    command: Command, fake: FakeKfp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    """By itself kfp looks at the end alone, any character a dot there, and drops the token given."""
    monkeypatch.setattr("kfp.client.auth.get_gcp_access_token", lambda: pytest.fail("asked for a token"))
    token = tmp_path / "token"
    token.write_text("secret")

    finished = command(*submission(fake)[:-1], address, "--token-file", token)

    assert finished.code == 2
    assert "kfp would send a Google access token there" in one_line(finished.err)


@pytest.mark.parametrize("ending", ["", "/"])
def test_googles_proxy_gets_its_token(monkeypatch: pytest.MonkeyPatch, ending: str) -> None:
    class Asked(Exception):
        pass

    def ask() -> None:
        raise Asked

    monkeypatch.setattr("kfp.client.auth.get_gcp_access_token", ask)
    host = f"https://x-dot-europe.pipelines.googleusercontent.com{ending}"
    with pytest.raises(Asked):
        backend.connect(transport.Access(host=host))


def test_a_token_with_a_byte_order_mark_is_refused(command: Command, fake: FakeKfp, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("\ufeffTOKEN\n", encoding="utf-8")

    finished = command(*submission(fake, "--token-file", token))

    assert finished.code == 2 and "without a byte order mark" in one_line(finished.err)
    assert not fake.requests


def test_a_token_that_is_none_any_more_is_one_line(
    command: Command, fake: FakeKfp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = tmp_path / "token"
    token.write_text("TOKEN")
    answer = fake._healthz

    def spoil_token(request: Request) -> Any:
        token.write_bytes(b"\x92")
        return answer(request)

    monkeypatch.setattr(fake, "_healthz", spoil_token)

    finished = command(*submission(fake, "--token-file", token))

    assert finished.code == 2 and "is not ASCII" in one_line(finished.err)


class TestTls:
    @pytest.fixture
    def certificate(self, tmp_path: Path) -> tuple[Path, Path]:
        return _self_signed(tmp_path)

    @pytest.fixture
    def secure(self, certificate: tuple[Path, Path]) -> Iterator[FakeKfp]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        with fake_kfp.running(context) as backend:
            yield backend

    def test_an_unknown_signer_is_one_line(self, command: Command, secure: FakeKfp) -> None:
        finished = command(*submission(secure))

        assert finished.code == 2
        assert "is not trusted" in one_line(finished.err) and "--ssl-ca-cert" in finished.err

    def test_its_own_certificate_makes_it_known(
        self, command: Command, secure: FakeKfp, certificate: tuple[Path, Path]
    ) -> None:
        assert command(*submission(secure, "--ssl-ca-cert", certificate[0])).code == 0

    def test_any_certificate_may_do(self, command: Command, secure: FakeKfp) -> None:
        assert command(*submission(secure, "--no-verify-ssl")).code == 0


def _self_signed(folder: Path) -> tuple[Path, Path]:
    """Returns the PEM files of a certificate for 127.0.0.1 and of its key."""
    from datetime import UTC, datetime, timedelta
    from ipaddress import ip_address

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "fake-kfp")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate_file, key_file = folder / "certificate.pem", folder / "key.pem"
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return certificate_file, key_file
