"""Peak memory between two moments."""

from pathlib import Path

import pytest

from pipeline import memory


def test_the_peak_counts_from_the_moment_it_was_forgotten() -> None:
    if not memory.forget_peak_memory():
        pytest.skip("this system cannot reset the peak")
    before = memory.peak_memory_mb()
    assert before is not None
    block = bytearray(b"x") * 80_000_000
    del block
    peak = memory.peak_memory_mb()
    assert peak is not None and peak >= before + 70
    memory.forget_peak_memory()
    after = memory.peak_memory_mb()
    assert after is not None and after <= peak - 70


def test_a_system_that_does_not_count_gives_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_PROCESS", tmp_path / "nowhere")
    assert memory.forget_peak_memory() is False
    assert memory.peak_memory_mb() is None
    monkeypatch.setattr(memory, "_PROCESS", tmp_path)
    (tmp_path / "status").write_text("Name:\tpython\nVmRSS:\t  1000 kB\n")
    assert memory.peak_memory_mb() is None
