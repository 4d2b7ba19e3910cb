"""Class weights from pixel counts."""

from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.class_weights import class_weights
from models.options import ClassWeighting

METHODS = get_args(ClassWeighting)
counts = st.lists(st.integers(0, 10**9), min_size=1, max_size=8).filter(any)


def test_none_weighs_all_classes_alike() -> None:
    assert class_weights("none", [100, 200, 400]) == [1.0, 1.0, 1.0]


def test_inverse_weights_are_one_over_the_frequency_with_mean_one() -> None:
    assert class_weights("inverse", [100, 200, 400]) == pytest.approx([12 / 7, 6 / 7, 3 / 7])


def test_median_frequency_weights_are_the_median_over_the_frequency() -> None:
    assert class_weights("median_frequency", [100, 200, 400]) == [2.0, 1.0, 0.5]
    assert class_weights("median_frequency", [100, 300]) == pytest.approx([2.0, 2 / 3])


def test_effective_number_weights_are_those_of_the_paper_with_the_even_share_as_volume() -> None:
    pixels = np.array([20_000, 500_000, 3_000_000])
    beta = 1 - 1 / pixels.mean()
    expected = (1 - beta) / (1 - beta**pixels)
    assert class_weights("effective_number", pixels.tolist()) == pytest.approx(
        expected / expected.mean(), rel=1e-5
    )


def test_effective_number_weights_follow_the_inverse_for_rare_classes_and_level_off_for_common_ones() -> None:
    rare, rarer, common, commoner = class_weights("effective_number", [200, 100, 10**6, 2 * 10**6])
    assert rarer / rare == pytest.approx(2, rel=1e-3)
    assert 1 < common / commoner < 1.5


@pytest.mark.parametrize("method", METHODS)
def test_a_class_without_pixels_weighs_nothing_and_leaves_the_others_alone(method: ClassWeighting) -> None:
    first, *others = class_weights(method, [100, 200, 400])
    assert class_weights(method, [100, 0, 200, 400]) == [first, 0.0, *others]


@pytest.mark.parametrize("method", METHODS)
def test_weights_of_no_pixels_at_all_are_refused(method: ClassWeighting) -> None:
    with pytest.raises(ValueError, match="no class has a pixel"):
        class_weights(method, [0, 0])


def test_an_unknown_method_is_refused_with_the_choices() -> None:
    with pytest.raises(ValueError, match="'rarity' is unknown; there are none, inverse, median_frequency"):
        class_weights("rarity", [1, 2])  # type: ignore[arg-type]


@given(st.sampled_from(METHODS), counts, st.integers(2, 1000))
def test_weights_depend_on_the_shares_alone_and_never_favour_the_commoner_class(
    method: ClassWeighting, pixel_counts: list[int], factor: int
) -> None:
    weights = class_weights(method, pixel_counts)
    scaled = class_weights(method, [factor * count for count in pixel_counts])
    np.testing.assert_allclose(weights, scaled, rtol=1e-9)
    present = sorted((count, -weight) for count, weight in zip(pixel_counts, weights, strict=True) if count)
    ordered = [-weight for _, weight in present]
    np.testing.assert_array_less(ordered[1:], np.multiply(ordered[:-1], 1 + 1e-9))


@given(st.sampled_from(["none", "inverse", "effective_number"]), counts)
def test_the_mean_over_present_classes_is_one(method: ClassWeighting, pixel_counts: list[int]) -> None:
    weights = class_weights(method, pixel_counts)
    assert sum(weights) == pytest.approx(np.count_nonzero(pixel_counts))
    assert [weight > 0 for weight in weights] == [count > 0 for count in pixel_counts]
