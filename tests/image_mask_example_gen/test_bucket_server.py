"""A dataset in the bucket of an S3 server, whose pages, signatures and errors are its own."""

import http.client
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import s3_server
from ingested import ingest
from test_bucket import FOLDER, ROOT, pairs, planned

from components import bucket
from components.errors import StageError
from components.image_mask_example_gen.config import DatasetConfig

MANY = 1200
"""Names; a page has a thousand at most."""


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Where the server listens, with eight pairs as `ROOT` and many names as ``s3://data/many``."""
    root = tmp_path_factory.mktemp("gateway")
    pairs(root / "data/set")
    pairs(root / "data/many", ["0000"])
    for number in range(1, MANY // 2):
        for kind, suffix in (("images", ".jpg"), ("masks", ".png")):
            os.link(root / f"data/many/{kind}/0000{suffix}", root / f"data/many/{kind}/{number:04}{suffix}")
    with s3_server.serving(root) as port:
        yield port


@pytest.fixture(autouse=True)
def client(port: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a user's environment says, and clients that have not read another one."""
    for name, value in s3_server.environment(port).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(bucket, "_ATTEMPTS", 3)
    bucket._connect.cache_clear()
    yield
    bucket._connect.cache_clear()


def folder_config(root: str) -> DatasetConfig:
    return DatasetConfig.model_validate(FOLDER | {"root": root})


def content(out: Path) -> dict[Path, bytes]:
    return {file.relative_to(out): file.read_bytes() for file in out.rglob("*") if file.is_file()}


@pytest.mark.parametrize("scheme", ["s3", "minio"])
def test_examples_are_byte_for_byte_those_of_the_folder(tmp_path: Path, scheme: str) -> None:
    pairs(tmp_path / "folder")
    ingest(folder_config(str(tmp_path / "folder")), tmp_path / "here", workers=2)
    ingest(folder_config(ROOT.replace("s3", scheme, 1)), tmp_path / "there", workers=2)
    assert content(tmp_path / "here") == content(tmp_path / "there")


def test_every_page_of_a_listing_counts() -> None:
    assert sum(planned(folder_config("s3://data/many")).pairs.values()) == MANY // 2


class _Failing(BaseHTTPRequestHandler):
    """Hands requests on, but for those that its server lets fail."""

    server: "Proxy"

    def do_GET(self) -> None:
        if self.server.fails(self.path):
            self.send_error(self.server.code)
            return
        upstream = http.client.HTTPConnection("127.0.0.1", self.server.upstream)
        upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for header in self.headers.items():
            upstream.putheader(*header)
        upstream.endheaders()
        answer = upstream.getresponse()
        body = answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("transfer-encoding", "connection", "date", "server"):
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, *args: object) -> None:
        pass


class Proxy(ThreadingHTTPServer):
    """Stands before the server."""

    def __init__(self, upstream: int, failing: str, code: int, times: int):
        super().__init__(("127.0.0.1", 0), _Failing)
        self.upstream = upstream
        self.failing = failing
        self.code = code
        self.times = times

    def fails(self, path: str) -> bool:
        self.times -= self.failing in path
        return self.failing in path and self.times >= 0

    def __enter__(self) -> "Proxy":
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *args: object) -> None:
        self.shutdown()
        self.server_close()


@pytest.mark.parametrize(("code", "times"), [(500, 1), (500, 1000), (404, 1000), (403, 1000)])
def test_a_page_that_fails_is_asked_for_again_and_never_the_end(
    port: int, monkeypatch: pytest.MonkeyPatch, code: int, times: int
) -> None:
    config = folder_config("s3://data/many")
    with Proxy(port, "continuation-token", code, times) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{proxy.server_address[1]}")
        if times == 1:
            assert sum(planned(config).pairs.values()) == MANY // 2
        else:
            with pytest.raises(StageError, match=r"s3://data/many cannot be read: When listing objects"):
                planned(config)
        assert proxy.times < times


@pytest.mark.parametrize(
    ("variable", "value", "root", "said"),
    [
        ("AWS_SECRET_ACCESS_KEY", "another", ROOT, "SIGNATURE_DOES_NOT_MATCH"),
        ("AWS_SECRET_ACCESS_KEY", "", ROOT, "ACCESS_DENIED"),
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:9", ROOT, "Couldn't connect"),
        ("AWS_REGION", "", "s3://nowhere/set", "NO_SUCH_BUCKET"),
        ("AWS_REGION", "", "s3://data/nothing", "no folder 's3://data/nothing'"),
    ],
)
def test_what_is_wrong_is_one_line_with_the_uri(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, root: str, said: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(StageError) as refusal:
        planned(folder_config(root))
    assert said in str(refusal.value) and root in str(refusal.value) and "\n" not in str(refusal.value)
