"""The gate in words: one line for each threshold. TFMA decides; this only explains."""

from dataclasses import dataclass

from components.evaluation.metric_names import IOU_PREFIX


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


@dataclass(frozen=True)
class GateCheck:
    """One threshold of the gate and what became of it."""

    what: str
    """E.g. ``mean IoU``, ``IoU of cat``, ``mean IoU of species=cat``."""
    setting: str
    """The recipe's key."""
    threshold: float
    """The lowest value allowed, or how far the value may fall below the baseline's."""
    value: float | None
    """The candidate's; None if it could not be measured."""
    baseline: float | None
    """The served model's where the threshold is about it, else None."""
    passed: bool
    """TFMA's verdict."""
    message: str
    """One line for people."""


def explain(
    threshold: Threshold, value: float | None, baseline: float | None, baseline_version: str
) -> GateCheck:
    """Puts a verdict into words.

    Args:
        threshold: the bound and the verdict.
        value: the candidate's value of the metric on the slice, None if there was nothing to measure.
        baseline: the served model's.
        baseline_version: what the served model is called.
    """
    what, setting, absence = _subject(threshold)
    if value is None:
        message = f"{what} cannot be measured, so {setting} is not met: {absence}"
    elif threshold.is_change:
        message = _regression_message(what, threshold, value, baseline, baseline_version)
    else:
        shown, bound = _distinct(value, threshold.bound)
        message = f"{what} {shown} {'reaches' if threshold.passed else 'is under'} {setting} {bound}"
    return GateCheck(
        what=what,
        setting=setting,
        threshold=-threshold.bound if threshold.is_change else threshold.bound,
        value=value,
        baseline=baseline if threshold.is_change else None,
        passed=threshold.passed,
        message=message,
    )


def _subject(threshold: Threshold) -> tuple[str, str, str]:
    """Returns what is measured, the recipe's key, and why it may be impossible to measure."""
    if threshold.is_change:
        return "mean IoU", "evaluation.max_regression", "the test split has no pixel that counts"
    if threshold.slice_label:
        attribute, _, value = threshold.slice_label.partition("=")
        return (
            f"mean IoU of {threshold.slice_label}",
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
    return "mean IoU", "evaluation.min_mean_iou", "the test split has no pixel that counts"


def _regression_message(
    what: str, threshold: Threshold, value: float, baseline: float | None, baseline_version: str
) -> str:
    served = f"the served version {baseline_version}'s" if baseline_version else "the served model's"
    if baseline is None:
        return f"{what} cannot be compared: {served} could not be measured"
    margin = f"{-threshold.bound:g}"
    shown, other = _distinct(value, baseline)
    if not threshold.passed:
        return f"{what} {shown} falls more than {margin} below {served} {other}"
    return f"{what} {shown} is no more than {margin} below {served} {other}"


def _distinct(value: float, bound: float) -> tuple[str, str]:
    """Formats two numbers, with more digits where three would make them look the same."""
    digits = 3 if value == bound or f"{value:.3f}" != f"{bound:.3f}" else 6
    return f"{value:.{digits}f}", f"{bound:.{digits}f}"
