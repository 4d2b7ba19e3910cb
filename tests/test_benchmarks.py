"""Benchmarks that take no minutes where there is little to do."""

import re

import pytest

from benchmarks import init


def test_a_first_recipe_of_few_pairs_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    init.main(["--pairs", "30"])
    measured = re.fullmatch(
        r"30 pairs: ([\d.]+) s \(([\d.]+) s of processor time\), (\d+) MB\n", capsys.readouterr().out
    )
    assert measured and all(float(figure) > 0 for figure in measured.groups())
