"""The default colours of the classes: distinct, and to be told apart without one kind of cone."""

from itertools import combinations

import numpy as np
import pytest

from components.imaging.palette import Color, default_palette, told_apart, with_ignored

# Machado, Oliveira & Fernandes, "A Physiologically-based Model for Simulation of Color Vision Deficiency",
# 2009, severity 1.0; on linear RGB.
SEEN_AS = {
    "all cones": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
XYZ = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
WHITE = [0.9505, 1.0, 1.089]


def lab(color: Color, seen_as: np.ndarray) -> np.ndarray:
    """CIE 1976 L*a*b* of an sRGB colour as somebody sees it."""
    share = np.array(color) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    xyz = XYZ @ np.clip(seen_as @ linear, 0, 1) / WHITE
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("sight", SEEN_AS)
def test_the_first_eleven_colors_are_told_apart_by_the_color_blind(sight: str) -> None:
    colors = [lab(color, np.array(SEEN_AS[sight])) for color in default_palette(11)]
    # A just noticeable difference is 2.3; small areas and legends need several of them.
    assert min(np.linalg.norm(one - other) for one, other in combinations(colors, 2)) > 15


def test_no_two_classes_share_a_color() -> None:
    assert len(set(default_palette(255))) == 255


def test_a_longer_palette_begins_with_the_shorter_one() -> None:
    assert default_palette(59)[:5] == default_palette(5)
    assert len(default_palette(5)) == 5


@pytest.mark.parametrize("color", [(9, 9, 255), (255, 255, 255), (0, 0, 0)])
def test_classes_that_share_a_color_get_neighbours_of_it(color: Color) -> None:
    apart = told_apart((color,) * 8)
    assert apart[0] == color
    assert len(set(apart)) == 8
    assert np.abs(np.array(apart) - color).max() < 8


def test_a_color_that_another_class_was_given_is_passed_over() -> None:
    assert len(set(told_apart(((0, 0, 1), (0, 0, 0), (0, 0, 0), (0, 0, 1))))) == 4


def test_every_value_of_a_mask_has_a_color() -> None:
    assert len(with_ignored(default_palette(3))) == len(with_ignored(default_palette(255))) == 256
    assert with_ignored(default_palette(255))[:255] == default_palette(255)
