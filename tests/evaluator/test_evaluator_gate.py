"""Verdicts in words."""

import re
from decimal import Decimal

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from components.evaluator.gate import Threshold, explain
from components.metrics.table import SHOWN_MEAN_IOU


def message(
    threshold: Threshold, value: float | None, baseline: float | None = None, version: str = "3"
) -> str:
    return explain(threshold, value, baseline, version).message


@pytest.mark.parametrize("shown", ["0.7996", "0.79996", "0.7999999"])
def test_numbers_that_three_digits_cannot_tell_apart_get_more(shown: str) -> None:
    threshold = Threshold("", "mean_iou", is_change=False, bound=0.8, passed=False)
    bound = f"{0.8:.{len(shown) - 2}f}"
    assert message(threshold, float(shown)) == f"mean IoU {shown} is under evaluation.min_mean_iou {bound}"


def test_a_value_on_the_threshold_reads_plainly() -> None:
    threshold = Threshold("", "mean_iou", is_change=False, bound=0.8, passed=True)
    assert message(threshold, 0.8) == "mean IoU 0.800 reaches evaluation.min_mean_iou 0.800"


@pytest.mark.parametrize(
    ("ceiling", "passed", "told"),
    [
        (0.716, False, True),
        (0.80, False, False),
        (0.7999, False, False),
        (None, False, False),
        (0.5, True, False),
    ],
)
def test_only_a_threshold_that_is_missed_and_above_the_ceiling_is_said_to_be_out_of_reach(
    ceiling: float | None, passed: bool, told: bool
) -> None:
    threshold = Threshold("", "iou/vessel", is_change=False, bound=0.8, passed=passed)
    said = explain(threshold, 0.9 if passed else 0.53, None, "", ceiling).message
    assert ("at its input size even a network that reproduces its targets reaches 0.716: " in said) == told
    assert ("at its input size" in said) == told


@pytest.mark.parametrize(
    ("resize", "remedy"),
    [
        ("native", "enlarge transform.scale"),
        ("letterbox", "enlarge transform.height and transform.width, or set transform.resize to native"),
        (None, "enlarge transform.height and transform.width, or set transform.resize to native"),
    ],
)
def test_what_is_out_of_reach_comes_with_what_brings_it_there(resize: str | None, remedy: str) -> None:
    threshold = Threshold("", "mean_iou", is_change=False, bound=0.8, passed=False)
    assert explain(threshold, 0.5, None, "", 0.7, resize).message.endswith(f"reaches 0.700: {remedy}")


@pytest.mark.parametrize(("version", "served"), [("3", "the served version 3's"), ("", "the served model's")])
def test_a_regression_names_both_numbers(version: str, served: str) -> None:
    threshold = Threshold("", SHOWN_MEAN_IOU.name, is_change=True, bound=-0.01, passed=False)
    check = explain(threshold, 0.31, 0.74, version)
    what = "mean IoU of the test split's classes"
    assert check.what == what
    assert check.message == f"{what} 0.310 falls more than 0.01 below {served} 0.740"
    assert (check.threshold, check.value, check.baseline) == (0.01, 0.31, 0.74)


@given(st.floats(0, 1), st.floats(0, 1), st.sampled_from([0.0, 0.01, 0.025]))
# Three digits would print 0.860 and 0.850, which are no more apart than the margin.
@example(0.8596, 0.87, 0.01)
@example(0.8496, 0.87, 0.02)
@example(0.8446, 0.87, 0.025)
def test_a_verdict_on_a_regression_follows_from_the_printed_numbers(
    value: float, baseline: float, margin: float
) -> None:
    assume(abs(value - (baseline - margin)) > 1e-12)
    passed = value >= baseline - margin
    said = message(
        Threshold("", SHOWN_MEAN_IOU.name, is_change=True, bound=-margin, passed=passed), value, baseline
    )
    printed = [Decimal(number) for number in re.findall(r"\d\.\d{3,}", said)]
    assert (printed[0] >= printed[-1] - Decimal(str(margin))) == passed
    assert ("falls more than" in said) != passed


@given(st.floats(0, 1), st.integers(1, 9).flatmap(lambda n: st.floats(0, 1).map(lambda each: round(each, n))))
@example(0.5114, 0.5113)
def test_a_verdict_on_a_threshold_follows_from_the_value_beside_the_recipe_s_number(
    value: float, bound: float
) -> None:
    assume(abs(value - bound) > 1e-9)
    threshold = Threshold("", "mean_iou", is_change=False, bound=bound, passed=value >= bound)
    check = explain(threshold, value, None, "3")
    assert (Decimal(f"{value:.{check.digits}f}") >= Decimal(str(bound))) == check.passed
