"""What a page says, and that it is safe and stands alone."""

import errno
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from known_run import COLORS, VALUES, Page, known_run, known_summary
from tfx.types import standard_artifacts

from components.dataset.contracts import (
    Baseline,
    Ceiling,
    Latency,
    Metrics,
    RejectedFile,
    ServingCheck,
    TrainingHistory,
)
from components.evaluator.gate import Threshold, explain
from components.imaging import curves
from components.metrics.table import METRICS
from components.report import confusions
from components.report.comparison import Comparison
from components.report.data import (
    DatasetStatistics,
    GalleryItem,
    Interval,
    Lineage,
    ReportData,
    ReportedClass,
    ReportedPicture,
    SliceSample,
    Split,
)
from components.report.formatting import percent
from components.report.gallery import most_bytes
from components.report.page import render, render_comparison, write_page

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>'\"&"


@pytest.mark.parametrize(
    ("share", "said"),
    [
        (None, "–"),
        (0.0, "0 %"),
        (0.00004, "< 0.01 %"),
        (0.0004, "0.04 %"),
        (0.034, "3.4 %"),
        (0.97, "97 %"),
        (0.9949, "99 %"),
        (0.995, "99.5 %"),
        (0.9994, "99.9 %"),
        (0.9996, "> 99.9 %"),
        (1.0, "100 %"),
    ],
)
def test_only_none_and_all_are_said_to_be_so(share: float | None, said: str) -> None:
    assert percent(share) == said


def test_a_cell_of_the_matrix_is_empty_only_of_none_and_100_only_of_all() -> None:
    page = render(known_run(confusion=((99_960, 40, 0), (1, 199, 0), (0, 0, 7))))
    cells = re.findall(r"<td(?: data-n[^>]*)?>([^<]*)</td>", page.partition('class="matrix')[2])[:9]
    assert cells == ["&gt;99", "&lt;1", "", "&lt;1", "&gt;99", "", "", "", "100"]


_draw = curves.curve_pictures
_drawn: dict[str, list[tuple[str, str]]] = {}


@pytest.fixture(autouse=True)
def curves_drawn_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most pages have the same ones, and drawing takes most of a page's time."""

    def draw(trainings: Sequence[curves.TrainingCurves]) -> list[tuple[str, str]]:
        return _drawn.get(repr(trainings)) or _drawn.setdefault(repr(trainings), _draw(trainings))

    monkeypatch.setattr(curves, "curve_pictures", draw)


def metrics(**changes: Any) -> Metrics:
    fields: dict[str, Any] = {"iou": {"sky": 0.9, "tree": 0.0, "unicorn": None}, "examples": 40}
    return Metrics(**(fields | VALUES | changes))


@pytest.mark.parametrize("failing", ["shutil.copyfile", "components.report.page.write_whole"])
def test_a_page_that_cannot_be_written_leaves_the_earlier_run_s_and_its_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    splits = tmp_path / "new" / "splits.csv"
    splits.parent.mkdir()
    splits.write_text("file,split\nnew.jpg,train\n")
    ingestion = standard_artifacts.Examples()
    ingestion.uri = str(splits.parent)
    earlier = {"index.html": "earlier page", "splits.csv": "earlier list"}
    folder = tmp_path / "report"
    folder.mkdir()
    for name, text in earlier.items():
        (folder / name).write_text(text)

    def fill(_: Path, to: object) -> None:
        if isinstance(to, Path):
            to.write_text("file,spl")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(failing, fill)
        with pytest.raises(OSError, match="No space"):
            write_page(known_run(), folder, {"ingestion": ingestion})
    assert {path.name: path.read_text() for path in folder.iterdir()} == earlier
    write_page(known_run(), folder, {"ingestion": ingestion})
    assert (folder / "splits.csv").read_text() == splits.read_text()
    write_page(known_run(), folder, {})
    assert [path.name for path in folder.iterdir()] == ["index.html"]


def test_a_pushed_run_says_so_first() -> None:
    page = Page(render(known_run()))
    assert page.text.index("Pushed as version 7") < page.text.index("Metrics")
    assert "No earlier model was being served" in page.text
    assert "/serving/known/7" in page.text


def test_a_refused_run_says_why_first() -> None:
    check = known_run().checks[0].model_copy(update={"passed": False, "value": 0.3})
    refused = known_summary(outcome="rejected", reasons=("mean IoU 0.300 is under the minimum",))
    data = known_run(refused, checks=(check,))
    text = Page(render(data)).text
    assert text.index("Refused, nothing was pushed") < text.index("mean IoU 0.300 is under the minimum")
    assert "not met" in text
    assert "Pushed" not in text


def test_a_number_that_only_just_failed_does_not_read_as_if_it_had_passed() -> None:
    check = explain(Threshold("", "mean_iou", is_change=False, bound=0.75, passed=False), 0.74961, None, "")
    text = Page(render(known_run(checks=(check,)))).text
    assert "0.7496" in text and "0.750" not in text


@pytest.mark.parametrize(
    ("value", "bound", "margin", "found", "asked"),
    [
        (0.5114, 0.5113, None, "0.5114", "at least 0.5113"),
        (0.75, 0.5, None, "0.750", "at least 0.5"),
        (0.6, 0.12345678, None, "0.60000000", "at least 0.12345678"),
        (0.8497, 0.85, 0.0005, "0.8497", "at most 0.0005 below 0.8500"),
        (0.85, 0.85, 0.0, "0.850", "at most 0 below 0.850"),
    ],
)
def test_what_is_found_has_no_fewer_digits_than_what_is_asked_for(
    value: float, bound: float, margin: float | None, found: str, asked: str
) -> None:
    limit = bound if margin is None else -margin
    check = explain(Threshold("", "mean_iou", margin is not None, limit, passed=True), value, bound, "3")
    assert f" {found} {asked} evaluation." in Page(render(known_run(checks=(check,)))).text


def test_a_model_that_only_cannot_be_served_is_not_called_bad() -> None:
    data = known_run(known_summary(outcome="rejected", reasons=("the server ended",)))
    assert "good enough, but it cannot be served" in Page(render(data)).text


@pytest.mark.parametrize(
    ("reason", "title"),
    [("Trainer failed: no memory", "Failed"), ("interrupted in Trainer", "Interrupted")],
)
def test_a_run_that_ended_early_says_where_and_where_the_log_is(reason: str, title: str) -> None:
    rejected = [
        RejectedFile(file=f"{n}.jpg", reason="truncated", found=f"ends after {n}") for n in range(300)
    ]
    summary = known_summary(
        outcome="failed", reasons=(reason,), metrics=None, slices={}, stages=(), rejected_files=rejected
    )
    text = Page(render(ReportData(summary=summary, log="/logs/1.log"))).text
    for part in (title, reason, "/logs/1.log", "300 truncated", "The first 200", "199.jpg", "ends after 199"):
        assert part in text
    assert "200.jpg" not in text


def test_every_metric_of_the_table_is_shown_with_its_name_and_compared() -> None:
    data = known_run(known_summary(baseline=Baseline(version=6, metrics=metrics())))
    text, both = Page(render(data)).text, Page(render_comparison(Comparison(data, data))).text
    for metric in METRICS:
        name, value = f"{metric.label[0].upper()}{metric.label[1:]}", f"{VALUES[metric.name]:.3f}"
        assert f"{name} {value}" in text
        assert f"Version 6 {value} Change ±0.000" in text
        assert f"{name} {value}" in both


def test_a_baseline_comes_with_its_metrics_and_the_change() -> None:
    data = known_run(known_summary(baseline=Baseline(version=6, metrics=metrics(mean_iou=0.438))))
    text = Page(render(data)).text
    assert "compared with version 6" in text
    assert "Version 6 0.438" in text
    assert "+0.012" in text


def test_a_refused_run_names_what_it_was_compared_with() -> None:
    refused = known_summary(
        outcome="rejected", reasons=("worse",), baseline=Baseline(version=6, metrics=metrics())
    )
    assert "It was compared with version 6, which was being served." in Page(render(known_run(refused))).text


def test_a_baseline_that_cannot_be_compared_is_named_with_the_obstacle() -> None:
    summary = known_summary(baseline=Baseline(version=6, obstacle="its classes are not the same"))
    assert (
        "not compared with version 6, which was being served: its classes are not the same"
        in Page(render(known_run(summary))).text
    )


def test_a_class_that_was_never_predicted_has_zero_and_one_that_occurs_nowhere_has_none() -> None:
    text = Page(render(known_run())).text
    assert "tree 0.000" in text
    assert "unicorn –" in text
    assert "occurs neither in the test split nor in the predictions" in text


def test_classes_that_only_truth_or_only_predictions_have_are_named() -> None:
    data = known_run()
    # The second class is never predicted, the third one in no truth.
    matrix = ((5, 0, 2), (7, 0, 0), (0, 0, 0))
    text = Page(render(data.model_copy(update={"confusion": matrix}))).text
    names = [each.name for each in data.classes]
    assert f"Never predicted: {names[1]} ." in text or f"Never predicted: {names[1]}." in text
    assert f"In no test image, but predicted: {names[2]}" in text
    sound = Page(render(data.model_copy(update={"confusion": ((5, 1, 1), (1, 5, 1), (1, 1, 5))})))
    assert "ever predicted:" not in sound.text and "but predicted" not in sound.text


def test_a_class_that_training_never_showed_is_not_said_to_need_more_epochs() -> None:
    text = Page(render(known_run(known_summary(untrained_classes=("tree",))))).text
    assert "Without a pixel in the training split: tree" in text
    assert "more epochs" not in text
    assert "Never predicted: tree" in Page(render(known_run())).text


def with_ceiling(**iou: float | None) -> ReportData:
    """The known run, whose IoU is 0.9 of sky and 0 of tree."""
    return known_run(known_summary(ceiling=Ceiling(mean_iou=0.8, iou=iou, slices={"species=cat": 0.6})))


def marks(page: Page) -> list[str | None]:
    return [mark["style"] for mark in page.of("i") if mark.get("class") == "beyond"]


def test_what_the_resize_leaves_of_a_class_stands_beside_its_iou_and_on_its_bar() -> None:
    page = Page(render(with_ceiling(sky=0.95, tree=0.716, unicorn=None)))
    assert "sky 0.900 of at most 0.950" in page.text
    assert "tree 0.000 of at most 0.716" in page.text
    assert "The resize leaves at most 0.800" in page.text
    assert "species=cat 20 0.500 of at most 0.600" in page.text
    assert marks(page) == [f"left: {at}%" for at in ("80.00", "60.00", "95.00", "71.60")]
    assert any("At most 0.716 is left by the resize" in (mark.get("title") or "") for mark in page.of("i"))


@pytest.mark.parametrize("ceiling", [None, Ceiling(mean_iou=1.0, iou={"sky": 1.0, "tree": 0.97})])
def test_nothing_is_said_of_a_resize_that_loses_next_to_nothing_or_that_nobody_knows(
    ceiling: Ceiling | None,
) -> None:
    page = Page(render(known_run(known_summary(ceiling=ceiling))))
    assert not marks(page)
    assert "of at most" not in page.text and "resize" not in page.text.lower()


def test_a_class_that_loses_more_by_the_resize_than_by_the_network_is_named_with_the_remedy() -> None:
    data = with_ceiling(sky=0.94, tree=0.4, unicorn=None)
    text = Page(render(data)).text
    assert "mistakes: tree cannot pass 0.400, sky 0.940. A network" in text
    larger = "enlarge transform.height and transform.width, or set transform.resize to native"
    assert f"to lift it, {larger}." in text
    windows = data.model_copy(update={"recipe": {"transform": {"resize": "native", "scale": 0.5}}})
    assert "to lift it, enlarge transform.scale." in Page(render(windows)).text
    # Of sky 0.04 is lost by the resize and 0.06 by the network, of tree 0.4 and 0.6.
    assert "cannot pass" not in Page(render(with_ceiling(sky=0.96, tree=0.6))).text


def test_a_network_that_answers_better_than_its_targets_is_not_said_to_be_limited_by_them() -> None:
    text = Page(render(with_ceiling(sky=0.88))).text
    assert "sky 0.900 above the 0.880" in text
    assert "cannot pass" not in text


def test_few_test_images_come_with_a_warning() -> None:
    few = known_run(known_summary(metrics=metrics(examples=2)))
    assert "With so few images" in Page(render(few)).text
    assert "With so few images" not in Page(render(known_run())).text


def test_intervals_of_classes_and_slices_that_few_images_show_are_marked() -> None:
    some = Interval(low=0.25, high=0.75)

    def page(images: int, interval: Interval | None = some) -> str:
        others = (each.model_copy(update={"interval": None, "images": 0}) for each in known_run().classes[1:])
        sky = ReportedClass(name="sky", color=COLORS[0], interval=interval, images=images)
        slices = {"species=cat": SliceSample(images=images, interval=interval)}
        changes = {"classes": (sky, *others), "slices": slices}
        return Page(render(known_run().model_copy(update=changes))).text

    assert page(29).count("0.250 – 0.750 *") == 2
    assert page(29).count("* Of fewer than 30 images: ") == 2
    assert "*" not in page(30)
    assert "*" not in page(1, interval=None)


def test_shares_say_that_ignored_pixels_do_not_count_and_moved_pixels_that_more_may_have_moved() -> None:
    split = Split(
        name="test", examples=9, class_pixels=(30, 10, 0), ignored_pixels=60, class_images=(9, 9, 0)
    )
    statistics = DatasetStatistics(splits=(split,), fingerprint="f00d")
    text = Page(render(known_run(statistics=statistics, moved_pixels=5))).text
    assert "Ignored pixels" in text and "test 9 – – 60 %" in text
    assert "pixels that count (ignored ones do not)" in text and "sky 75 % 9" in text
    assert "its share of the pixels that count" in text
    assert "and at least 5 pixels fell into another class" in text


def test_images_in_two_splits_are_named() -> None:
    shared = ReportedPicture(members=(("train", "a.jpg"), ("test", "b.jpg")))
    data = known_run(shared_count=3, shared_pictures=(shared,))
    text = Page(render(data)).text
    assert "3 images are in more than one split" in text
    assert "train a.jpg = test b.jpg" in text
    assert "and 2 more" in text


def test_names_from_outside_are_text_and_nothing_else() -> None:
    data = known_run()
    hostile = known_run(
        known_summary(
            recipe=HOSTILE,
            outcome="rejected",
            reasons=(HOSTILE,),
            rejected_files=(RejectedFile(file=HOSTILE, reason=HOSTILE, found=HOSTILE),),
        ),
        classes=tuple(each.model_copy(update={"name": f"{HOSTILE}{each.name}"}) for each in data.classes),
        gallery=tuple(item.model_copy(update={"name": HOSTILE}) for item in data.gallery),
        recipe={"name": HOSTILE, HOSTILE: HOSTILE},
        lineage=Lineage(git_commit=HOSTILE),
    )
    for html, clean in (
        (render(hostile), render(data)),
        (render_comparison(Comparison(hostile, hostile)), render_comparison(Comparison(data, data))),
    ):
        page = Page(html)
        assert not [attributes for attributes in page.of("img") if "onerror" in attributes]
        assert len(page.of("script")) == len(Page(clean).of("script"))
        assert HOSTILE in page.text
        assert page.json()[0][0] == f"{HOSTILE}sky"


def test_what_the_serving_check_passed_over_is_on_the_page() -> None:
    for passed_over in (0, 3):
        check = ServingCheck(server="embedded", masks=5, not_tried=passed_over)
        page = Page(render(known_run(known_summary(serving_check=check))))
        assert ("too large for a request, not tried" in page.text) == bool(passed_over)


def test_served_masks_are_said_to_be_compared_with_the_signature_and_in_how_many_ways() -> None:
    latency = Latency(first=900.0, p50=250.0, p99=297.0, requests=16)
    check = ServingCheck(server="embedded", masks=24, latency_ms=latency)
    text = Page(render(known_run(known_summary(serving_check=check)))).text
    assert "one by one and in a batch 24 " in text
    assert "99 % take at most, of 16 requests after the first 297.0 ms" in text


@pytest.mark.parametrize(
    "html", [render(known_run()), render_comparison(Comparison(known_run(), known_run()))]
)
def test_a_page_asks_the_network_for_nothing(html: str) -> None:
    page = Page(html)
    addresses = [
        value
        for _, attributes in page.elements
        for name, value in attributes.items()
        if name in ("src", "href", "srcset", "action", "poster", "data")
    ]
    assert addresses
    assert all(value and value.startswith(("data:", "#")) for value in addresses)
    assert not re.search(r"https?://|@import|url\(|fetch\(|XMLHttpRequest", html)
    [policy] = [meta["content"] for meta in page.of("meta") if "http-equiv" in meta]
    assert policy and policy.startswith("default-src 'none'; img-src data:;")


def test_every_picture_has_a_text_and_every_table_a_caption() -> None:
    page = Page(render(known_run()))
    assert page.of("img") and all(image["alt"] for image in page.of("img"))
    assert page.of("table") and len(page.of("table")) == len(page.of("caption"))
    labels = [
        attributes["aria-labelledby"] for _, attributes in page.elements if "aria-labelledby" in attributes
    ]
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert set(labels) <= set(ids)
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize(("classes", "size"), [(59, 1_000_000), (255, 5_000_000 - most_bytes(255))])
def test_a_page_of_many_classes_stays_small(classes: int, size: int) -> None:
    many = tuple(
        ReportedClass(name=f"a rather long name of class {index}", color=(index, 0, 0), images=3)
        for index in range(classes)
    )
    confusion = tuple(tuple(1000 + 7 * row + column for column in range(classes)) for row in range(classes))
    measured = metrics(iou={each.name: 0.5 for each in many})
    assert (
        len(render(known_run(known_summary(metrics=measured), classes=many, confusion=confusion)).encode())
        < size
    )


def test_the_largest_confusions_come_first() -> None:
    data = known_run(confusion=((5, 3, 0), (7, 0, 0), (0, 1, 0)))
    found = [(each.true, each.predicted, each.pixels, each.share) for each in confusions.largest(data)]
    assert found == [(1, 0, 7, 1.0), (0, 1, 3, 0.375), (2, 1, 1, 1.0)]


def test_a_comparison_shows_both_values_and_only_the_settings_that_differ() -> None:
    other = known_run(
        known_summary(metrics=metrics(mean_iou=0.5)),
        intervals={},
        recipe={"name": "known", "training": {"epochs": 9, "seed": 0}, "model": {"depth": 3}},
    )
    text = Page(render_comparison(Comparison(known_run(), other)).replace("<wbr>", "")).text
    assert "Mean IoU 0.450 0.400 – 0.475 0.500 – +0.050" in text
    assert "training.epochs 2 9" in text
    assert "model.depth – 3" in text
    assert "training.seed" not in text
    assert "images/a.jpg" in text


def test_a_comparison_shows_what_the_resize_leaves_where_it_is_known() -> None:
    page = Page(render_comparison(Comparison(with_ceiling(sky=0.92, tree=0.716), known_run())))
    assert "Mean IoU 0.450 of at most 0.800 0.400 – 0.475 0.450 0.400 – 0.475" in page.text
    assert "sky 0.900 of at most 0.920 0.900 ±0.000" in page.text
    assert marks(page) == ["left: 92.00%", "left: 71.60%"]
    assert "hatched" not in render_comparison(Comparison(known_run(), known_run()))


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("train", "test"), "Both saw the same examples, in the same splits."),
        (("test",), "It is not known whether they learnt from the same."),
    ],
)
def test_a_comparison_says_that_both_learnt_from_the_same_only_where_there_is_a_train_split(
    names: tuple[str, ...], said: str
) -> None:
    splits = tuple(Split(name=name, examples=1) for name in names)
    run = known_run(statistics=DatasetStatistics(splits=splits, fingerprint="x"))
    assert said in Page(render_comparison(Comparison(run, run))).text


def test_a_comparison_has_the_epochs_of_both() -> None:
    other = known_run(history=TrainingHistory(best_epoch=1, epochs=({"loss": 1.0},)))
    page = Page(render_comparison(Comparison(known_run(), other)))
    assert "All epochs of A as a table" in page.text and "All epochs of B as a table" in page.text
    assert sum("over the epochs" in (image["alt"] or "") for image in page.of("img")) == 2


def test_predictions_are_not_shown_side_by_side_where_class_ids_mean_different_things() -> None:
    other = known_run(classes=known_run().classes[::-1])
    assert not Comparison(known_run(), other).examples
    assert len(Comparison(known_run(), known_run()).examples) == 1
    assert "images/a.jpg" not in render_comparison(Comparison(known_run(), other))


@pytest.mark.parametrize(
    ("changes", "of_any_test", "of_same_test"),
    [
        ({}, True, True),
        ({"truth": "data:,other"}, False, True),
        ({"width": 7}, False, True),
        ({"image": "data:,other"}, False, False),
    ],
)
def test_predictions_are_shown_side_by_side_for_one_picture_with_one_truth(
    changes: dict[str, Any], of_any_test: bool, of_same_test: bool
) -> None:
    [item] = known_run().gallery
    gallery = (GalleryItem(**(item.model_dump() | changes)),)
    splits = tuple(Split(name=name, examples=1) for name in ("train", "test"))
    elsewhere = DatasetStatistics(splits=splits, fingerprint="other")
    assert bool(Comparison(known_run(), known_run(gallery=gallery)).examples) is of_same_test
    other = known_run(gallery=gallery, statistics=elsewhere)
    assert bool(Comparison(known_run(), other).examples) is of_any_test


def test_classes_of_unlike_runs_are_all_listed_the_first_run_s_first() -> None:
    left = known_run()
    right = left.model_copy(
        update={"classes": (ReportedClass(name="apple", color=(1, 2, 3)), left.classes[1])}
    )
    pairs = Comparison(left, right).classes
    assert [pair.name for pair in pairs] == [*(each.name for each in left.classes), "apple"]
    assert pairs[-1].left is None and pairs[-1].color == (1, 2, 3)


ALL = {"train": "a", "val": "b", "test": "c"}


@pytest.mark.parametrize(
    ("left", "right", "said"),
    [
        (ALL, ALL, "Both saw the same examples, in the same splits."),
        (
            ALL,
            {"test": "c"},
            "Both were evaluated on the same examples. It is not known whether they learnt from the same.",
        ),
        (ALL, ALL | {"val": "x"}, "but they did not learn from the same: train or val differs."),
        (ALL, {"test": "x"}, "their metrics are of different test splits. Metrics"),
        (ALL, ALL | {"train": "x", "test": "x"}, "different test splits. Train or val differs, too."),
        # Earlier code knew the whole alone.
        (dict.fromkeys(ALL, ""), dict.fromkeys(ALL, ""), "Both saw the same examples, in the same splits."),
        (ALL, {"test": ""}, "The two did not see the same examples: their metrics are of different test"),
        (ALL, {}, "It is not known whether both were evaluated on the same examples."),
    ],
)
def test_a_comparison_says_first_whether_test_was_the_same_and_then_what_was_learnt_from(
    left: dict[str, str], right: dict[str, str], said: str
) -> None:
    runs = (
        known_run(
            statistics=DatasetStatistics(
                splits=tuple(
                    Split(name=name, examples=1, fingerprint=each) for name, each in digests.items()
                ),
                fingerprint=str(digests) if digests else "",
            )
        )
        for digests in (left, right)
    )
    assert said in Page(render_comparison(Comparison(*runs))).text
