"""Verdicts in words."""

import pytest

from components.evaluation.gate import Threshold, explain


def message(
    threshold: Threshold, value: float | None, baseline: float | None = None, version: str = "3"
) -> str:
    return explain(threshold, value, baseline, version).message


def test_numbers_that_three_digits_cannot_tell_apart_get_more() -> None:
    threshold = Threshold("", "mean_iou", is_change=False, bound=0.8, passed=False)
    assert message(threshold, 0.79996) == "mean IoU 0.799960 is under evaluation.min_mean_iou 0.800000"


def test_a_value_on_the_threshold_reads_plainly() -> None:
    threshold = Threshold("", "mean_iou", is_change=False, bound=0.8, passed=True)
    assert message(threshold, 0.8) == "mean IoU 0.800 reaches evaluation.min_mean_iou 0.800"


@pytest.mark.parametrize(("version", "served"), [("3", "the served version 3's"), ("", "the served model's")])
def test_a_regression_names_both_numbers(version: str, served: str) -> None:
    threshold = Threshold("", "mean_iou", is_change=True, bound=-0.01, passed=False)
    check = explain(threshold, 0.31, 0.74, version)
    assert check.message == f"mean IoU 0.310 falls more than 0.01 below {served} 0.740"
    assert (check.threshold, check.value, check.baseline) == (0.01, 0.31, 0.74)
