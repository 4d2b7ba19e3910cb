"""What curves show, wherever they are drawn."""

import base64
import re
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

from components.imaging.curves import TrainingCurves, curve_pictures, save_curves

IOU = "iou_at_input_size"
TRAIN, VAL = "var(--c1)", "var(--c2)"


class Panel:
    """One picture of the page."""

    def __init__(self, uri: str) -> None:
        kind, _, encoded = uri.partition(",")
        assert kind == "data:image/svg+xml;base64"
        self.svg = base64.b64decode(encoded).decode()
        self._elements = list(ElementTree.fromstring(self.svg).iter())

    @property
    def texts(self) -> list[str]:
        return [each.text or "" for each in self._elements if each.tag.endswith("}text")]

    def strokes(self, color: str) -> list[list[tuple[float, float]]]:
        """The line in a colour: each of its strokes as the places that it joins."""
        drawn = [each for each in self._elements if f"stroke: {color}" in each.get("style", "")]
        # Markers are round; what stands upright marks an epoch; the legend comes last.
        lines = [
            [places(stroke) for stroke in each.get("d", "").split("M")[1:]]
            for each in drawn
            if "C" not in each.get("d", "")
        ]
        line, *_ = [strokes for strokes in lines if len({x for stroke in strokes for x, _ in stroke}) > 1]
        return line


def places(stroke: str) -> list[tuple[float, float]]:
    numbers = [float(number) for number in re.findall(r"[\d.]+", stroke)]
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def panels(*trainings: TrainingCurves) -> list[Panel]:
    return [Panel(uri) for _, uri in curve_pictures(trainings)]


def epochs(**measured: Sequence[float | None]) -> list[dict[str, float | None]]:
    return [dict(zip(measured, values, strict=True)) for values in zip(*measured.values(), strict=True)]


def test_a_line_joins_the_epochs_at_their_values() -> None:
    loss, iou = panels(TrainingCurves(epochs(loss=[4, 3, 1], iou_at_input_size=[0.0, 0.5, 1.0]), 3))
    [places] = loss.strokes(TRAIN)
    (x1, y1), (x2, y2), (x3, y3) = places
    assert x2 - x1 == pytest.approx(x3 - x2) and x2 > x1
    assert y3 - y2 == pytest.approx(2 * (y2 - y1)) and y2 > y1
    [(low, middle, high)] = iou.strokes(TRAIN)
    assert low[1] - middle[1] == pytest.approx(middle[1] - high[1]) and high[1] < low[1]


def test_where_nothing_was_measured_a_line_has_a_gap() -> None:
    values = [0.9, 0.8, None, 0.6, 0.5]
    loss, iou = panels(TrainingCurves(epochs(loss=[1.0] * 5, val_loss=values), 1))
    assert [len(stroke) for stroke in loss.strokes(VAL)] == [2, 2]
    assert "val" in loss.texts
    assert not {"train", "val"} & set(iou.texts)


@pytest.mark.parametrize("count", [1, 3])
def test_what_stays_zero_has_its_line(count: int) -> None:
    for panel in panels(TrainingCurves(epochs(loss=[0.0] * count, iou_at_input_size=[0.0] * count), 1)):
        assert "train" in panel.texts


def test_the_exported_epoch_and_the_begin_of_fine_tuning_are_marked() -> None:
    trained = TrainingCurves(epochs(phase=[1, 1, 2], loss=[3, 2, 1]), 2)
    assert {"exported: epoch 2", "fine-tuning begins"} <= set(panels(trained)[0].texts)
    assert "fine-tuning begins" not in panels(TrainingCurves(epochs(phase=[1, 1], loss=[3, 2]), 2))[0].texts


def test_two_trainings_share_axes_and_are_told_apart_by_name_and_colour() -> None:
    one = TrainingCurves(epochs(loss=[1, 2], val_loss=[1, 2]), 1, "A")
    other = TrainingCurves(epochs(loss=[2, 3, 4], val_loss=[2, 3, 4]), 1, "B")
    loss, _ = panels(one, other)
    names = {f"{run} {what}" for run in "AB" for what in ("train", "val", "exported: epoch 1")}
    assert names <= set(loss.texts)
    [a], [b] = loss.strokes("var(--c1)"), loss.strokes("var(--c3)")
    assert a[1] == pytest.approx((b[1][0], a[1][1])) and a[1][1] == pytest.approx(b[0][1])


def test_a_page_s_drawing_has_both_themes_asks_for_nothing_and_is_the_same_each_time() -> None:
    trained = TrainingCurves(epochs(loss=[2, 1]), 1)
    assert curve_pictures([trained]) == curve_pictures([trained])
    [svg, _] = [panel.svg for panel in panels(trained)]
    drawing = svg[svg.index("</style>") :]
    assert "prefers-color-scheme:dark" in svg
    # All ink comes from the themes: a colour of its own would be lost on one of the grounds.
    assert not re.findall(r"(?:fill|stroke): #(?!.*opacity: 0)\w+", drawing)
    assert 'href="http' not in svg and "@import" not in svg


def test_a_file_has_both_panels(tmp_path: Path) -> None:
    save_curves(TrainingCurves(epochs(loss=[2, 1], val_loss=[None, None]), 1), tmp_path / "curves.png")
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.width > 2 * picture.height
        assert len(picture.getcolors(1 << 24) or ()) > 100
