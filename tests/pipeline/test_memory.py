"""Peak memory between two moments."""

from pathlib import Path

import pytest

from pipeline.local import stages


def test_the_peak_counts_from_the_moment_it_was_forgotten() -> None:
    if not stages.forget_peak_memory():
        pytest.skip("this system cannot reset the peak")
    before = stages.peak_memory_mb()
    assert before is not None
    block = bytearray(b"x") * 80_000_000
    del block
    peak = stages.peak_memory_mb()
    assert peak is not None and peak >= before + 70
    stages.forget_peak_memory()
    after = stages.peak_memory_mb()
    assert after is not None and after <= peak - 70


def test_a_system_that_does_not_count_gives_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "_PROCESS", tmp_path / "nowhere")
    assert stages.forget_peak_memory() is False
    assert stages.peak_memory_mb() is None
    monkeypatch.setattr(stages, "_PROCESS", tmp_path)
    (tmp_path / "status").write_text("Name:\tpython\nVmRSS:\t  1000 kB\n")
    assert stages.peak_memory_mb() is None
