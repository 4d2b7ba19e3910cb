"""The image, built by podman from the committed Dockerfile: what is in it, and what is not."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from emulator import engine as engines
from emulator import image as images
from emulator.engine import Engine, Image
from emulator.image import USER, base_images
from emulator.pod import REPOSITORY

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3600),  # the first build installs everything
]


@pytest.fixture(scope="module", autouse=True)
def possible() -> None:
    """Asks for an engine and an index, which takes seconds, in the one process that needs them."""
    if engines.missing():
        pytest.skip(engines.missing())


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return images.engine(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    return images.built(tmp_path_factory.getbasetemp())


def _run(image: Image, *command: str, options: tuple[str, ...] = ()) -> str:
    done = image.engine.run(image.name, command, "--tmpfs=/tmp", *options)
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_a_container_has_no_rights_and_needs_none(image: Image) -> None:
    seen = _run(
        image,
        "sh",
        "-c",
        "id -u; grep CapEff /proc/self/status; ls /sys/class/net; touch /opt/venv/x || true",
    )
    assert seen.split()[:3] == [str(USER), "CapEff:", "0" * 16]
    assert "Read-only file system" in seen


def test_a_command_finds_bytecode_for_all_that_it_imports(image: Image) -> None:
    program = """
import importlib.util, os, sys, pipeline.run_local
sources = {str(getattr(module, "__file__", None)) for module in sys.modules.values()}
sources = [source for source in sources if source.endswith(".py")]
print(len(sources), [each for each in sources if not os.path.exists(importlib.util.cache_from_source(each))])
"""
    count, _, without = _run(image, "python", "-c", program).partition(" ")
    assert int(count) > 200 and without == "[]\n"


def test_every_library_that_was_stripped_still_loads(image: Image) -> None:
    """What a wheel's tools have rearranged may not survive it; TensorFlow's are loaded by the stages."""
    program = """
import ctypes, os, pathlib, sysconfig
site = pathlib.Path(sysconfig.get_path("purelib"))
libraries = [path for path in site.rglob("*.so*") if path.parent.suffix != ".libs"]
libraries = [path for path in libraries if site / "tensorflow" not in path.parents]
failed = []
for path in libraries:
    # Each in a process of its own: some register the same names.
    if not (child := os.fork()):
        ctypes.CDLL(str(path))
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        failed.append(str(path))
print(len(libraries), failed)
"""
    count, _, failed = _run(image, "python", "-c", program).splitlines()[-1].partition(" ")
    assert int(count) > 300 and failed == "[]"


def test_beam_reaches_google_without_the_apis_that_were_left_out(image: Image) -> None:
    program = """
from apache_beam.io.filesystems import FileSystems
from apache_beam.runners.dataflow.dataflow_runner import DataflowRunner
from apache_beam.runners.dataflow.internal.apiclient import DataflowApplicationClient
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.io.gcp import bigquery, pubsub
print(FileSystems.get_filesystem("gs://bucket/file").scheme(), DataflowRunner().__class__.__name__)
"""
    assert _run(image, "python", "-c", program).splitlines()[-1] == "gs DataflowRunner"


def _listed(document: str) -> dict[str, str]:
    """Packages and versions of a CycloneDX document."""
    listed = json.loads(document)
    assert listed["bomFormat"] == "CycloneDX"
    return {_normalised(each["name"]): each["version"] for each in listed["components"]}


def _normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _locked(folder: Path, *names: str) -> dict[str, str]:
    text = "".join((folder / f"requirements/{name}.lock").read_text() for name in names)
    return dict(re.findall(r"^([a-z0-9][^=\s]*)==(\S+)", text, flags=re.MULTILINE))


def test_the_image_lists_all_that_the_locks_have_put_into_it_and_no_more(image: Image) -> None:
    listed = _listed(_run(image, "cat", "/opt/venv/sbom.cdx.json"))
    assert listed == _locked(REPOSITORY, "cpu", "signing")


def test_the_image_says_which_commit_it_is_of(image: Image) -> None:
    [described] = json.loads(image.engine.do("image", "inspect", image.name))
    revision = described["Labels"]["org.opencontainers.image.revision"]
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout.strip()
    assert revision.removesuffix("-dirty") == head
    assert _run(image, "sh", "-c", "echo $SEGMENTATION_REVISION").strip() == revision


def test_the_server_and_its_library_came_along(image: Image) -> None:
    assert _run(image, "tensorflow_model_server", "--version").startswith(
        "TensorFlow ModelServer: 2.21.0-stand-in"
    )
    ours = _run(image, "sh", "-c", "ls /usr/local/lib/*.so*").split()
    assert "/usr/local/lib/libstandin.so" in ours
    assert not [path for path in ours if "libc." in path], "the C library must be the image's own"


def test_beams_boot_came_along_and_finds_what_it_asks_for(image: Image) -> None:
    """As ``isPackageInstalled`` in Beam's ``sdks/python/container/piputil.go`` asks, or no worker starts."""
    assert _run(image, "/opt/apache/beam/boot", "--worker_pool") == "boot --worker_pool\n"
    assert (
        _run(image, "sh", "-c", "cat /opt/apache/beam/LICENSE /opt/apache/beam/NOTICE") == "license\nnotice\n"
    )
    assert "Version: " in _run(image, "python", "-m", "pip", "show", "apache-beam")
    assert _run(image, "sh", "-c", "echo $RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT; pwd") == "1\n/tmp\n"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of this one's Dockerfile that installs little, one package of it from source."""
    source = tmp_path_factory.mktemp("small")
    for name in ("Dockerfile", "Makefile", ".dockerignore", "README.md", "pyproject.toml"):
        shutil.copy(REPOSITORY / name, source)
    for name in ("components", "models", "pipeline"):
        (source / name).mkdir()
        (source / name / "__init__.py").write_text("ANSWER = 42\n")
    (source / "requirements").mkdir()
    lock = (REPOSITORY / "requirements/cpu.lock").read_text()
    wanted = r"^(?:setuptools|wheel|rouge-score)==.*\n(?: .*\n)+"
    (source / "requirements/cpu.lock").write_text("".join(re.findall(wanted, lock, flags=re.MULTILINE)))
    (source / "requirements/signing.lock").write_text("# Nothing.\n")
    shutil.copy(REPOSITORY / "requirements/tools.lock", source / "requirements")
    return source


@pytest.fixture(scope="module")
def twice(engine: Engine, small: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """The names of the small project's images: of layers that may be of another day, and built anew."""
    anew = tmp_path_factory.mktemp("engine") / "podman-anew"
    anew.write_text(
        '#!/bin/sh\ncase "$1" in build) shift; set -- build --no-cache "$@";; esac\nexec podman "$@"\n'
    )
    anew.chmod(0o755)
    names = [f"{engines.NAME}/small:{when}" for when in ("before", "anew")]
    for name, program in zip(names, ("podman", anew), strict=True):
        done = engine.make_image(small, f"ENGINE={program}", f"IMAGE={name}", base_images("builder"))
        assert done.returncode == 0, done.stdout
    yield names
    # The other one keeps its layers for the next session.
    engine.do("image", "rm", names[1])


def test_two_builds_give_equal_images(engine: Engine, twice: list[str]) -> None:
    before, anew = (json.loads(engine.do("image", "inspect", name))[0] for name in twice)
    assert before["RootFS"]["Layers"] == anew["RootFS"]["Layers"]
    assert before["Config"] == anew["Config"]
    # But for the comments, and with them the image's id: what the base was called when a layer was made.
    assert _steps(before) == _steps(anew)


def _steps(described: dict[str, Any]) -> list[tuple[str, str]]:
    return [(step["created"], step["created_by"]) for step in described["History"]]


def test_what_lists_the_packages_is_none_of_them(engine: Engine, small: Path, twice: list[str]) -> None:
    document = engine.run(twice[1], ["cat", "/opt/venv/sbom.cdx.json"]).stdout
    assert _listed(document) == _locked(small, "cpu") and len(_locked(small, "cpu")) == 3
    [setuptools] = [each for each in json.loads(document)["components"] if each["name"] == "setuptools"]
    assert setuptools["licenses"] == [{"license": {"acknowledgement": "declared", "id": "MIT"}}]
    assert engine.run(twice[1], ["ls", "/opt"]).stdout.split() == ["apache", "venv"]


def test_nothing_of_the_index_is_left_in_an_image(engine: Engine, twice: list[str]) -> None:
    name = twice[1]
    written = engine.do("history", "--no-trunc", name) + engine.do("image", "inspect", name)
    assert engines.MARK not in written
    root = engine.do("image", "mount", name).strip()
    try:
        found = subprocess.run(
            [
                "grep",
                "-rlF",
                engines.MARK,
                *(f"{root}/{folder}" for folder in ("etc", "opt", "root", "run", "usr")),
            ],
            capture_output=True,
            text=True,
            check=False,
        ).stdout
        pip = list(Path(root, "opt/venv").rglob("rouge_score-*"))
    finally:
        engine.do("image", "unmount", name)
    assert pip and found == ""


def test_an_image_can_do_without_a_server_but_not_by_accident(
    engine: Engine, small: Path, twice: list[str]
) -> None:
    answer = engine.run(twice[1], ["sh", "-c", "command -v tensorflow_model_server"])
    assert answer.returncode == 127 or answer.stdout == ""
    done = engine.make_image(small, f"IMAGE={engines.NAME}/small:3", base_images(engines.BASE))
    assert done.returncode != 0
    assert f"SERVING_IMAGE={engines.BASE} has no tensorflow_model_server" in done.stdout


def test_an_image_can_do_without_beams_boot_but_not_by_accident(
    engine: Engine, small: Path, twice: list[str]
) -> None:
    answer = engine.run(twice[1], ["sh", "-c", "ls -A /opt/apache/beam; python -m pip --version"])
    assert answer.returncode == 1 and "No module named pip" in answer.stdout.splitlines()[0]
    done = engine.make_image(small, f"IMAGE={engines.NAME}/small:3", base_images("builder", engines.BASE))
    assert done.returncode != 0
    assert f"BEAM_IMAGE={engines.BASE} has no /opt/apache/beam/boot" in done.stdout
