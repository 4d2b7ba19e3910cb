"""Explains the gate that TFMA has decided: one line for each threshold."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from components.dataset.contracts import NO_TEST_PIXEL, TOO_SMALL, GateCheck, larger_input
from components.metrics.table import MEAN_IOU, SHOWN_MEAN_IOU

_FEWEST_DIGITS: Final = 3
_MOST_DIGITS: Final = 16
"""A double has no more."""
WHOLE: Final = ".12g"
"""Format of a number of the recipe: with all of its digits, and no more."""
ALLOW_UNMEASURED: Final = "evaluation.allow_unmeasured_classes"

IOU_PREFIX: Final = "iou/"
"""A class's IoU is in TFMA's output under this prefix and its name."""
UNMEASURED_CLASSES: Final = "unmeasured_classes"
"""In TFMA's output: how many classes have no pixel in the ground truth, those left out that may have none."""
UNFOUND_CLASSES: Final = "unfound_classes"
"""In TFMA's output: how many classes have pixels in the ground truth of which not one was predicted rightly,
those left out that may be so."""


@dataclass(frozen=True)
class Threshold:
    """One bound that TFMA was given, and its verdict."""

    slice_label: str
    """``attribute=value``, or empty for the whole split."""
    metric: str
    is_change: bool
    """The bound is on the difference to the served model."""
    bound: float
    passed: bool


def explain(
    threshold: Threshold,
    value: float | None,
    baseline: float | None,
    baseline_version: str,
    ceiling: float | None = None,
    resize: str | None = None,
) -> GateCheck:
    """Puts a verdict into words.

    Args:
        threshold: the bound and the verdict.
        value: the candidate's value of the metric on the slice, None if there was nothing to measure.
        baseline: the served model's.
        baseline_version: what the served model is called.
        ceiling: what the resize to the network's input leaves of the metric on the slice, None if unknown.
        resize: how that input is made, by the recipe's word.
    """
    what, setting, absence = _subject(threshold)
    digits = _FEWEST_DIGITS
    if value is None:
        message = f"{what} cannot be measured, so {setting} is not met: {absence}"
    elif threshold.is_change:
        digits = _digits(value, baseline, threshold.passed, margin=-threshold.bound)
        message = _regression_message(what, threshold, value, baseline, baseline_version, digits)
    else:
        digits = _digits(value, threshold.bound, threshold.passed)
        verdict = "reaches" if threshold.passed else "is under"
        message = f"{what} {value:.{digits}f} {verdict} {setting} {threshold.bound:.{digits}f}"
        if not threshold.passed and ceiling is not None and round(ceiling, digits) < threshold.bound:
            message += (
                f"; {TOO_SMALL} even a network that reproduces its targets reaches {ceiling:.{digits}f}: "
                f"{larger_input(resize)}"
            )
    return GateCheck(
        what=what,
        setting=setting,
        threshold=-threshold.bound if threshold.is_change else threshold.bound,
        value=value,
        baseline=baseline if threshold.is_change else None,
        passed=threshold.passed,
        message=message,
        digits=digits,
    )


def explain_classes(threshold: Threshold, found: Sequence[str], allowed: Sequence[str]) -> GateCheck:
    """Puts the verdict on classes that have no test pixel, or are never found, into words.

    Args:
        threshold: on `UNMEASURED_CLASSES` or `UNFOUND_CLASSES`, and the verdict.
        found: the classes that are so.
        allowed: those that may be.
    """
    if threshold.metric == UNMEASURED_CLASSES:
        what, none = "classes without a test pixel", "every class has pixels in the test split"
        is_so = NO_TEST_PIXEL + " {}"
        remedy = "give it images that show them (dataset.splits)"
    else:
        what, none = "classes never found", "every class of the test split is found"
        is_so = "no pixel is rightly predicted as {}, which the test split shows"
        remedy = "see that training finds them"
    refused = [name for name in found if name not in allowed]
    if refused:
        message = f"{is_so.format(', '.join(refused))}: {remedy}, or list them in {ALLOW_UNMEASURED}"
    elif found:
        message = f"{is_so.format(', '.join(found))}; {ALLOW_UNMEASURED} allows it"
    else:
        message = none
    return GateCheck(
        what=what,
        setting=ALLOW_UNMEASURED,
        threshold=threshold.bound,
        value=len(refused),
        baseline=None,
        passed=threshold.passed,
        message=message,
        digits=0,
    )


def _subject(threshold: Threshold) -> tuple[str, str, str]:
    """Returns what is measured, the recipe's key, and why it may be impossible to measure."""
    if threshold.is_change:
        return SHOWN_MEAN_IOU.label, "evaluation.max_regression", "the test split has no pixel that counts"
    if threshold.slice_label:
        attribute, _, value = threshold.slice_label.partition("=")
        return (
            f"{MEAN_IOU.label} of {threshold.slice_label}",
            f"evaluation.min_slice_iou.{attribute}.{value}",
            f"no example of the test split has {threshold.slice_label} and a pixel that counts",
        )
    if threshold.metric.startswith(IOU_PREFIX):
        name = threshold.metric.removeprefix(IOU_PREFIX)
        return (
            f"IoU of {name}",
            f"evaluation.min_class_iou.{name}",
            f"{name} occurs neither in the test split nor in the predictions",
        )
    return MEAN_IOU.label, "evaluation.min_mean_iou", "the test split has no pixel that counts"


def _regression_message(
    what: str,
    threshold: Threshold,
    value: float,
    baseline: float | None,
    baseline_version: str,
    digits: int,
) -> str:
    served = f"the served version {baseline_version}'s" if baseline_version else "the served model's"
    if baseline is None:
        return f"{what} cannot be compared: {served} could not be measured"
    verdict = "is no more than" if threshold.passed else "falls more than"
    margin = f"{-threshold.bound:{WHOLE}}"
    return f"{what} {value:.{digits}f} {verdict} {margin} below {served} {baseline:.{digits}f}"


def _digits(value: float, bound: float | None, passed: bool, margin: float | None = None) -> int:
    """Returns how many digits two numbers need so that what is printed agrees with the verdict.

    Nor are they fewer than those of the recipe's number, be it the bound or the margin below it.
    """
    asked = Decimal(f"{bound if margin is None else margin:{WHOLE}}")
    fewest = max(_FEWEST_DIGITS, -int(asked.as_tuple().exponent))
    if bound is not None:
        for digits in range(fewest, _MOST_DIGITS):
            shown, least = Decimal(f"{value:.{digits}f}"), Decimal(f"{bound:.{digits}f}")
            if (shown >= least - (0 if margin is None else asked)) == passed:
                return digits
    return fewest
