"""How much damage is too much, and whether the advice that is given then helps."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.errors import StageError
from components.image_mask_example_gen.report import Reason, Rejection, check_rejected


def damaged(count: int) -> list[Rejection]:
    return [Rejection(f"images/{index}.jpg", Reason.TRUNCATED, "half of it") for index in range(count)]


@pytest.mark.parametrize(("count", "total", "allowed"), [(29, 100, 0.29), (58, 200, 0.29), (57, 100, 0.57)])
def test_exactly_the_fraction_that_is_allowed_is_allowed(count: int, total: int, allowed: float) -> None:
    check_rejected(damaged(count), total - count, allowed)
    with pytest.raises(StageError):
        check_rejected(damaged(count + 1), total - count - 1, allowed)


@given(st.integers(1, 300), st.integers(0, 300))
def test_the_advised_fraction_is_enough(count: int, more: int) -> None:
    examples = count + more
    with pytest.raises(StageError) as caught:
        check_rejected(damaged(count), examples, allowed=0.0)
    advice = re.search(r"--set dataset.max_rejected_fraction=(\S+)$", str(caught.value))
    assert advice
    check_rejected(damaged(count), examples, float(advice[1]))


def test_what_a_dataset_leaves_out_itself_is_no_damage() -> None:
    check_rejected([Rejection("a.jpg", Reason.UNLISTED, "in no list")], num_examples=1, allowed=0.0)
