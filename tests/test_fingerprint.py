"""The fingerprint: what invalidates a stage's cache and what does not."""

import ast
import shutil
import subprocess
import sys
from importlib.metadata import packages_distributions, version
from pathlib import Path
from types import ModuleType

import pytest
from documented import REPOSITORY

from components import fingerprint
from components.fingerprint import source_fingerprint


def package(path: Path) -> ModuleType:
    module = ModuleType("stage")
    module.__path__ = [str(path)]
    return module


def test_another_version_of_a_library_that_reads_pictures_is_another_fingerprint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever ingestion and the graph import of what does not come with Python."""
    imported = {
        name.split(".")[0]
        for room in ("image_mask_example_gen", "imaging", "dataset")
        for path in (REPOSITORY / "components" / room).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        for name in _imported(node)
    }
    without_effect = {"components", "google", "matplotlib", "pydantic"}
    foreign = imported - sys.stdlib_module_names - without_effect
    assert {"PIL", "tifffile", "imagecodecs", "pycocotools", "numpy", "tensorflow"} <= foreign
    before = source_fingerprint(package(tmp_path))
    for module in sorted(foreign):
        versions = dict.fromkeys(packages_distributions()[module], "another")
        with monkeypatch.context() as patched:
            patched.setattr(fingerprint, "version", lambda name, new=versions: new.get(name) or version(name))
            assert source_fingerprint(package(tmp_path)) != before, module


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [each.name for each in node.names]
    return [node.module or ""] if isinstance(node, ast.ImportFrom) else []


def test_it_follows_the_sources_and_nothing_else(tmp_path: Path) -> None:
    source = tmp_path / "stage"
    (source / "inner").mkdir(parents=True)
    (source / "inner" / "code.py").write_text("x = 1")
    first = source_fingerprint(package(source))

    (source / "__pycache__").mkdir()
    (source / "__pycache__" / "code.pyc").write_bytes(b"1")
    (source / "notes.md").write_text("no code")
    # An Emacs lock, which names who edits and leads nowhere; copies by Jupyter and macOS.
    (source / ".#code.py").symlink_to("somebody@here.1234")
    (source / "gone.py").symlink_to("nowhere.py")
    (source / ".ipynb_checkpoints").mkdir()
    for hidden in (".ipynb_checkpoints/code-checkpoint.py", "inner/._code.py"):
        (source / hidden).write_text("x = 0")
    assert source_fingerprint(package(source)) == first

    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(source, elsewhere, symlinks=True)
    assert source_fingerprint(package(elsewhere)) == first

    seen = {first}
    (source / "inner" / "code.py").write_text("x = 2")
    seen.add(source_fingerprint(package(source)))
    (source / "inner" / "code.py").rename(source / "inner" / "moved.py")
    seen.add(source_fingerprint(package(source)))
    assert len(seen) == 3


def test_it_follows_single_modules_and_what_all_stages_share(tmp_path: Path) -> None:
    """In copies of the code, by interpreters of their own: which of them is imported is decided once."""
    program = (
        "import components.image_mask_example_gen as stage, components.durations as one\n"
        "from components.fingerprint import source_fingerprint as of\n"
        "print(of(stage), of(one), of())"
    )

    def fingerprints(**changed: str) -> list[str]:
        copy = tmp_path / ("-".join(changed) or "first")
        shutil.copytree(REPOSITORY / "components", copy / "components")
        for name, text in changed.items():
            path = copy / "components" / f"{name}.py"
            path.write_text(path.read_text() + text)
        done = subprocess.run([sys.executable, "-c", program], cwd=copy, capture_output=True, check=True)
        return done.stdout.decode().split()

    first = fingerprints()
    assert len(set(first)) == 3
    assert fingerprints(folders="") == first
    changed = fingerprints(folders="# new\n", durations="# new\n")
    assert not set(changed) & set(first)
