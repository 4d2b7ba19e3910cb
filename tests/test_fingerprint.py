"""The fingerprint: what invalidates a stage's cache and what does not."""

import shutil
from pathlib import Path
from types import ModuleType

from components.fingerprint import source_fingerprint


def package(path: Path) -> ModuleType:
    module = ModuleType("stage")
    module.__path__ = [str(path)]
    return module


def test_it_follows_the_sources_and_nothing_else(tmp_path: Path) -> None:
    source = tmp_path / "stage"
    (source / "inner").mkdir(parents=True)
    (source / "inner" / "code.py").write_text("x = 1")
    first = source_fingerprint(package(source))

    (source / "__pycache__").mkdir()
    (source / "__pycache__" / "code.pyc").write_bytes(b"1")
    (source / "notes.md").write_text("no code")
    assert source_fingerprint(package(source)) == first

    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(source, elsewhere)
    assert source_fingerprint(package(elsewhere)) == first

    seen = {first}
    (source / "inner" / "code.py").write_text("x = 2")
    seen.add(source_fingerprint(package(source)))
    (source / "inner" / "code.py").rename(source / "inner" / "moved.py")
    seen.add(source_fingerprint(package(source)))
    assert len(seen) == 3
