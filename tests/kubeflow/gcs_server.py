"""Google Cloud Storage by its own names, for every client in a network and with mounts of its own.

go install github.com/fsouza/fake-gcs-server@v1.56.1

The names of Google's servers lead to this machine, where a proxy with a certificate that clients are told to
trust stands before fake-gcs-server. It hands out tokens for a service account's key, asks for them with every
request, and takes out of TensorFlow's a header that Go's servers refuse (``Transfer-Encoding: identity``).

Left out: who may do what, generations, listings that come late, and all other limits of the real one.
"""

import http.client
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from email import message_from_bytes, message_from_string
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from emulator.stores import ObjectStore

_HOSTS: Final = ("www", "storage", "oauth2", "iamcredentials", "cloudresourcemanager")
_NAMES: Final = tuple(f"{host}.googleapis.com" for host in _HOSTS)
_TOKEN: Final = "a-token-for-the-test"
_SIGNED: Final = "Bearer ey"
"""Begins what a client has signed with the account's key, which Google takes in a token's place."""

SERVER: Final = shutil.which(
    "fake-gcs-server", path=os.pathsep.join((os.environ["PATH"], os.path.expanduser("~/go/bin")))
)


@contextmanager
def serving(directory: Path, buckets: Path, seen_at: str) -> Iterator[dict[str, str]]:
    """Serves buckets, and yields what a client's environment must say; changes this process' mounts.

    Args:
        directory: for the account's key and the certificate.
        buckets: folders with the objects that there are at first.
        seen_at: where clients find the directory.
    """
    from waiting import until_open  # Which the proxy does not find, and does not need.

    _make_certificate(directory)
    (directory / "hosts").write_text(Path("/etc/hosts").read_text() + f"127.0.0.1 {' '.join(_NAMES)}\n")
    subprocess.run(["mount", "--bind", str(directory / "hosts"), "/etc/hosts"], check=True)
    account = {
        "type": "service_account",
        "project_id": "project",
        "private_key_id": "1",
        "private_key": (directory / "key.pem").read_text(),
        "client_email": "tester@project.iam.gserviceaccount.com",
        "client_id": "1",
        "token_uri": "https://oauth2.googleapis.com/token",
    }
    (directory / "account.json").write_text(json.dumps(account))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    listening = [
        "-scheme=http",
        "-host=127.0.0.1",
        f"-port={port}",
        "-external-url=https://www.googleapis.com",
    ]
    command = [str(SERVER), *listening, "-backend=memory", f"-data={buckets}", "-log-level=error"]
    # A process of its own, too: Arrow's client holds Python's lock while it waits.
    proxy = [sys.executable, __file__, str(port), str(directory)]
    with subprocess.Popen(command) as server, subprocess.Popen(proxy) as before:
        try:
            until_open(port)
            until_open(443)
            # Arrow's, Python's and TensorFlow's clients.
            trusting = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
            yield {
                "GOOGLE_APPLICATION_CREDENTIALS": f"{seen_at}/account.json",
                **dict.fromkeys(trusting, f"{seen_at}/certificate.pem"),
            }
        finally:
            before.kill()
            server.kill()


def _make_certificate(directory: Path) -> None:
    names = ",".join(f"DNS:{name}" for name in _NAMES)
    files = [f"-keyout={directory / 'key.pem'}", f"-out={directory / 'certificate.pem'}"]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=test"]
        + [part for file in files for part in file.split("=")]
        + ["-addext", f"subjectAltName={names}"],
        check=True,
        capture_output=True,
    )


class _Handler(BaseHTTPRequestHandler):
    server: "_Proxy"
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = self._body()
        # The second is TensorFlow's, whatever the key says.
        if self.headers["Host"].startswith("oauth2.") or self.path.startswith("/oauth2/"):
            token = {"access_token": _TOKEN, "expires_in": 3600, "token_type": "Bearer"}
            self._answer(200, [("Content-Type", "application/json")], json.dumps(token).encode())
        elif self.headers["Host"].startswith(("iamcredentials.", "cloudresourcemanager.")):
            # Where an account may be used, and who owns a bucket: clients go on without an answer.
            self._answer(404, [], b"")
        elif not self.headers.get("Authorization", "").startswith((f"Bearer {_TOKEN}", _SIGNED)):
            self._answer(401, [], b"")
        else:
            self._hand_on(body)

    do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_GET

    def _body(self) -> bytes:
        """What TensorFlow sends says its length, and is cut into chunks all the same."""
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _hand_on(self, body: bytes) -> None:
        if self.path != "/batch/storage/v1":
            self._answer(*self._ask(self.command, self.path, dict(self.headers), body))
            return
        head = f"Content-Type: {self.headers['Content-Type']}\n\n"
        answers = "".join(map(self._part, message_from_bytes(head.encode() + body).get_payload()))
        self._answer(
            200, [("Content-Type", 'multipart/mixed; boundary="next"')], f"{answers}--next--\n".encode()
        )

    def _part(self, part: Message) -> str:
        """Of a batch, whose requests the server does not find in what Google's client sends."""
        first, _, rest = str(part.get_payload()).partition("\n")
        method, uri, _ = first.split()
        url, inner = urlsplit(uri), message_from_string(rest)
        status, _, content = self._ask(
            method, f"{url.path}?{url.query}", {}, str(inner.get_payload()).encode()
        )
        answer = f"HTTP/1.1 {status} -\nContent-Type: application/json\n\n{content.decode()}"
        return f"--next\nContent-Type: application/http\n\n{answer}\n"

    def _ask(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        upstream = http.client.HTTPConnection("127.0.0.1", self.server.upstream)
        upstream.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in headers.items():
            if name.lower() not in ("transfer-encoding", "content-length"):
                upstream.putheader(name, value)
        if "Host" not in headers:
            upstream.putheader("Host", self.headers["Host"])
        upstream.putheader("Content-Length", str(len(body)))
        upstream.endheaders(body)
        answer = upstream.getresponse()
        content = answer.read()
        if (answer.getheader("Content-Type") or "").startswith("application/json"):
            # Where an object's content is: the server knows nothing of TLS.
            content = content.replace(b'"http://', b'"https://')
        ours = ("transfer-encoding", "date")
        return (
            answer.status,
            [header for header in answer.getheaders() if header[0].lower() not in ours],
            content,
        )

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers:
            if name.lower() != "content-length" or self.command == "HEAD":
                # Where an upload goes on.
                self.send_header(name, value.replace("http://", "https://") if name == "Location" else value)
        if self.command != "HEAD":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


class _Proxy(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, upstream: int, directory: Path):
        super().__init__(("127.0.0.1", 443), _Handler)
        self.upstream = upstream
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(directory / "certificate.pem", directory / "key.pem")
        self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)


class BucketStore(ObjectStore):
    """What the launcher does with objects of ``gs://`` (``objectstore/object_store.go``)."""

    def upload(self, local: Path, uri: str) -> None:
        """UploadBlob."""
        files = [local] if local.is_file() else sorted(file for file in local.rglob("*") if file.is_file())
        bucket, key = self._place(uri)
        for file in files:
            below = "" if file == local else f"/{file.relative_to(local)}"
            bucket.blob(f"{key}{below}").upload_from_filename(str(file))

    def download(self, uri: str, local: Path) -> None:
        """DownloadBlob: an object that stands for a folder becomes a file, in the way of what lies below."""
        bucket, key = self._place(uri)
        for blob in bucket.list_blobs(prefix=key):
            if blob.name == key or blob.name.startswith(f"{key}/"):
                target = local / blob.name[len(key) + 1 :] if blob.name != key else local
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(blob.download_as_bytes())

    def path(self, uri: str) -> Path:
        """A copy of the objects below a URI."""
        copy = self.root / uri.removeprefix("gs://")
        self.download(uri, copy)
        return copy

    def names(self, uri: str) -> list[str]:
        """What there is below a URI, relative to it."""
        bucket, key = self._place(uri)
        return sorted(blob.name[len(key) + 1 :] for blob in bucket.list_blobs(prefix=f"{key}/"))

    def _place(self, uri: str):  # type: ignore[no-untyped-def]  # The client has no types.
        from google.cloud import storage

        name, _, key = uri.removeprefix("gs://").partition("/")
        return storage.Client().bucket(name), key


if __name__ == "__main__":
    _Proxy(int(sys.argv[1]), Path(sys.argv[2])).serve_forever()
