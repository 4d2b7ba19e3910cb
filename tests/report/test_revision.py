"""Which commit a report names: that of the code which wrote it, wherever that is."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from components.report import revision


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.com"]
    return subprocess.run(
        ["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


def commit_of(folder: Path, **environment: str) -> str:
    """Asks the copy of the module that lies in a folder."""
    program = "import revision; print(revision.git_commit(), end='')"
    environment = {"PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1", **environment}
    command = [sys.executable, "-c", program]
    return subprocess.run(
        command, cwd=folder, env=environment, check=True, capture_output=True, text=True
    ).stdout


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """An installed package: the module, and no repository."""
    shutil.copy(revision.__file__, tmp_path / "revision.py")
    return tmp_path


@pytest.mark.parametrize("code_file", ["other.py", "templates/page.html.j2"])
def test_a_checkout_names_its_commit_and_whether_code_differs_from_it(code: Path, code_file: str) -> None:
    git(code, "init", "--quiet")
    git(code, "add", "revision.py")
    git(code, "commit", "--quiet", "--message=code")
    head = git(code, "rev-parse", "HEAD")
    for result in ("my.yaml", "comparison.html", "evaluation/index.html", "data/images/a.png"):
        (code / result).parent.mkdir(parents=True, exist_ok=True)
        (code / result).touch()
    assert commit_of(code) == head
    (code / code_file).parent.mkdir(exist_ok=True)
    (code / code_file).touch()
    assert commit_of(code) == f"{head} and changes"


def test_code_in_no_repository_of_its_own_names_none(code: Path) -> None:
    assert commit_of(code) == ""
    git(code, "init", "--quiet")
    assert commit_of(code) == "", "the repository around it is somebody else's"


def test_in_an_image_it_is_what_was_baked_in(code: Path) -> None:
    assert commit_of(code, SEGMENTATION_REVISION="1f2e3d and changes") == "1f2e3d and changes"


def test_an_image_says_to_the_code_what_its_label_says_to_people() -> None:
    dockerfile = (Path(__file__).resolve().parents[2] / "Dockerfile").read_text()
    labels = dockerfile.count('org.opencontainers.image.revision="${REVISION}"')
    assert labels == dockerfile.count(f"{revision._BAKED_IN}=${{REVISION}}") > 0
