"""A dataset that changes while it is ingested: nothing is made of a mixture, or under another one's key."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ingested import ingest

from components.errors import StageError
from components.image_mask_example_gen import executor as ingestion
from components.image_mask_example_gen.config import DatasetConfig
from components.image_mask_example_gen.inputs import (
    InputFiles,
    fingerprint_before,
    fingerprint_contents,
    fingerprint_inputs,
)


@pytest.fixture
def config(tmp_path: Path) -> DatasetConfig:
    for path in (f"set/{folder}/{name}.png" for folder in "im" for name in "abcde"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(path)
    return DatasetConfig(
        layout="folder", root=str(tmp_path / "set"), images="i/*", masks="m/*", classes=("a", "b")
    )


def rewrite(root: Path) -> None:
    (root / "m/b.png").write_text("another mask")


def remove(root: Path) -> None:
    (root / "m/b.png").unlink()


def lead_elsewhere(root: Path) -> None:
    other = root.with_name("other")
    shutil.copytree(root, other)
    rewrite(other)
    root.rename(root.with_name("first"))
    root.symlink_to(other)


@pytest.mark.parametrize("change", [rewrite, remove, lead_elsewhere])
@pytest.mark.parametrize("read_before_by", [None, fingerprint_inputs, fingerprint_contents])
def test_what_changes_while_it_is_read_is_refused(
    config: DatasetConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Path], None],
    read_before_by: Callable[[DatasetConfig], str] | None,
) -> None:
    def change_and_write_nothing(*_: Any) -> Any:
        change(tmp_path / "set")
        return [], []

    monkeypatch.setattr(ingestion.Executor, "_write_shards", change_and_write_nothing)
    key = read_before_by(config) if read_before_by else ""
    with pytest.raises(StageError, match=r"dataset changed while it was read: .*set/m/b\.png; run again"):
        ingest(config, tmp_path / "out", fingerprint=key)


@pytest.mark.parametrize("change", [rewrite, remove, lambda root: (root / "i/f.png").touch()])
def test_what_changed_after_the_cache_was_asked_is_refused_before_anything_is_read(
    config: DatasetConfig, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    key = fingerprint_inputs(config)
    change(tmp_path / "set")
    with pytest.raises(StageError, match=r"dataset changed while it was read: below .*set files came"):
        ingest(config, tmp_path / "out", fingerprint=key)


def test_a_list_that_changes_while_the_plan_is_made_is_refused(
    config: DatasetConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = ingestion.plan_ingestion

    def plan_and_change(*args: Any) -> Any:
        planned = plan(*args)
        rewrite(tmp_path / "set")
        return planned

    executor = ingestion.Executor.__init__
    monkeypatch.setattr(
        ingestion.Executor, "__init__", lambda self, context: executor(self, context, plan_and_change)
    )
    with pytest.raises(StageError, match="dataset changed while it was read"):
        ingest(config, tmp_path / "out")


def test_files_that_come_after_the_plan_are_in_no_example_and_no_change(
    config: DatasetConfig, tmp_path: Path
) -> None:
    files = InputFiles(config, tmp_path / "set", ["i/a.png", "m/a.png"])
    (tmp_path / "set/i/f.png").touch()
    files.check_unchanged()


def test_contents_are_compared_with_no_times(config: DatasetConfig, tmp_path: Path) -> None:
    contents = fingerprint_contents(config)
    os.utime(tmp_path / "set/m/b.png", (1, 1))
    assert fingerprint_contents(config) == contents
    assert fingerprint_before(config, contents) == fingerprint_inputs(config)


def test_drawn_data_cannot_change() -> None:
    drawn = DatasetConfig(layout="shapes")
    for key in (fingerprint_inputs(drawn), fingerprint_contents(drawn), ""):
        files = InputFiles(drawn, Path("gone"), ["i/a.png"])
        files.check_same(fingerprint_before(drawn, key))
        files.check_unchanged()
