"""What docs/serving.md shows is run against a server: commands, programs, files, the table of refusals."""

import http.client
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from conftest import png_bytes
from documented import DOCS, REPOSITORY, blocks
from guide_requests import ANSWERED, REFUSED, Asked
from running_server import channel_to, decoded, running
from tiny_export import LABELS, export_tiny_model

from components.serving.config import ServingLimits
from components.serving.server.server import ModelServer

_PAGE = DOCS / "serving.md"
_GUIDE = _PAGE.read_text()
_PICTURE = np.full((16, 24, 3), 20, np.uint8)
_PICTURE[:, 12:] = 230
_MASK = np.zeros((16, 24), np.uint8)
_MASK[:, 12:] = 1


def _localized(text: str, server: ModelServer) -> str:
    """The guide's text with this test's addresses: all that is changed before it is run."""
    replaced = {
        "localhost:8500": f"127.0.0.1:{server.port}",
        "localhost:8501": f"127.0.0.1:{server.rest_port}",
    }
    for shown, real in replaced.items():
        text = text.replace(shown, real)
    return text


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of two versions."""
    root = tmp_path_factory.mktemp("guide")
    first = export_tiny_model(root / "pets" / "3", ServingLimits())
    shutil.copytree(first, root / "pets" / "4")
    return root


@pytest.fixture(scope="module")
def server(models: Path) -> Iterator[ModelServer]:
    with running(models / "pets", enable_batching=True) as started:
        yield started


@pytest.fixture
def workdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the guide's reader sits: an image and photographs."""
    (tmp_path / "photos").mkdir()
    for name in ("image.jpg", "photos/a.jpg", "photos/b.png"):
        (tmp_path / name).write_bytes(png_bytes(_PICTURE))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")
    return tmp_path


def _run(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-euxo", "pipefail", "-c", script], capture_output=True, text=True, timeout=60, check=False
    )


def _run_python(index: int, server: ModelServer) -> None:
    code = _localized(blocks(_PAGE, "python")[index], server)
    exec(compile(code, f"docs/serving.md, program {index + 1}", "exec"), {"__name__": "__main__"})


def test_the_clients_program_segments_and_names_what_is_refused(
    server: ModelServer, workdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (workdir / "photos" / "broken.jpg").write_bytes(b"text")
    _run_python(0, server)
    np.testing.assert_array_equal(decoded((workdir / "mask.png").read_bytes()), _MASK)
    said = capsys.readouterr().out.splitlines()
    assert said[:2] == [f"{name}: 50.0% (version 4)" for name in LABELS.names]
    assert said[2].startswith("photos/broken.jpg: INVALID_ARGUMENT: ")
    assert said[3].startswith("(1, 16, 24) ")


def test_the_plain_grpc_program_segments(
    server: ModelServer, workdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _run_python(1, server)
    np.testing.assert_array_equal(decoded((workdir / "mask.png").read_bytes()), _MASK)
    assert capsys.readouterr().out == "[[0.5 0.5]] by version 4\n"


def test_every_curl_command_is_answered(server: ModelServer, workdir: Path) -> None:
    if not shutil.which("curl"):
        pytest.skip("curl is not installed")
    asking = [block for block in blocks(_PAGE, "sh") if "curl -sf " in block]
    assert len(asking) == 3
    # -f makes curl fail where the server answers an error.
    done = _run(_localized("\n".join(asking), server))
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(decoded((workdir / "mask.png").read_bytes()), _MASK)
    for answer in ('"model_version_status"', '"signature_def"', '"names"'):
        assert answer in done.stdout


def test_every_predict_command_writes_what_the_guide_says(server: ModelServer, workdir: Path) -> None:
    [block] = [block for block in blocks(_PAGE, "sh") if block.startswith("python -m pipeline.predict")]
    done = _run(_localized(block, server))
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(decoded(Path("masks/image.jpg.png").read_bytes()), _MASK)
    assert {str(path) for path in Path("segmented").iterdir()} == {
        f"segmented/{name}"
        for name in ("a.jpg.png", "a.jpg.overlay.jpg", "b.png.png", "b.png.overlay.jpg", "fractions.jsonl")
    }
    record = json.loads(Path("segmented/fractions.jsonl").read_text().splitlines()[0])
    [shown] = re.findall(r"`\{(\"file\", \"mask\".*?)\}`", _GUIDE)
    assert list(record) == re.findall(r'"(\w+)"', shown)


def _table(head: str) -> list[list[str]]:
    """The cells of the table with this first row, row by row."""
    rows = _GUIDE.partition(head)[2].partition("\n\n")[0].splitlines()[2:]
    assert rows, head
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows]


def _grpc_code(asked: Asked, server: ModelServer) -> str:
    with channel_to(server) as channel:
        try:
            asked.over_grpc(channel)
        except grpc.RpcError as refusal:
            code, details = refusal.code().name, refusal.details()
        else:
            return "OK"
    assert details and "\n" not in details
    return str(code)


def _rest_status(asked: Asked, server: ModelServer) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=30)
    connection.request("POST", asked.path, asked.body())
    response = connection.getresponse()
    answer = json.loads(response.read())
    assert response.status == 200 or list(answer) == ["error"]
    return response.status


@pytest.mark.parametrize(
    ("what", "code", "status"), [pytest.param(*row, id=row[0]) for row in _table("| request | gRPC | REST |")]
)
def test_what_is_refused_has_the_codes_of_the_table(
    server: ModelServer, what: str, code: str, status: str
) -> None:
    for asked in REFUSED[what]:
        assert (_grpc_code(asked, server), _rest_status(asked, server)) == (code, int(status))


@pytest.mark.parametrize("what", ANSWERED)
def test_unusual_images_are_answered(server: ModelServer, what: str) -> None:
    assert what in _GUIDE
    for image in ANSWERED[what]:
        asked = Asked({"image_bytes": [image]})
        assert (_grpc_code(asked, server), _rest_status(asked, server)) == ("OK", 200)
