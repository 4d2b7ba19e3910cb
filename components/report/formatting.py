"""The page's numbers, times and verdicts as text."""

import calendar
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from components import shares
from components.dataset.contracts import Baseline
from components.report.data import ReportData

UNMEASURED: Final = "–"
WHY_NAMES: Final = {
    "worst": "worst",
    "median": "median",
    "best": "best",
    "random": "random",
    "class": "for a class",
}
_GO_ON: Final = "What is known is below; the same command goes on from there."
FEW_IMAGES: Final = 30
"""Fewer test images give intervals that promise more than they can know."""


def figure(value: float | None, digits: int = 3) -> str:
    """Writes a metric: ``0.873``."""
    return UNMEASURED if value is None else f"{value:.{digits}f}"


def percent(share: float | None) -> str:
    """Writes a share: ``97 %``."""
    return UNMEASURED if share is None else shares.percent(share)


def whole_percent(share: float) -> str:
    """Writes more than none where there is little room: ``97``, ``<1``, ``>99``; only all is ``100``."""
    if share == 1:
        return "100"
    value = round(100 * share)
    return "<1" if value < 1 else ">99" if value > 99 else str(value)


def change(value: float | None, baseline: float | None) -> str:
    """Writes a difference with its sign: ``+0.012``, ``−0.004``, ``±0.000``."""
    if value is None or baseline is None:
        return UNMEASURED
    difference = round(value - baseline, 3)
    sign = "+" if difference > 0 else "−" if difference < 0 else "±"
    return f"{sign}{abs(difference):.3f}"


def number(value: int) -> str:
    """Writes a number with its thousands set apart by narrow spaces."""
    return f"{value:,}".replace(",", "\u202f")


def sentence(text: str) -> str:
    """Begins with a capital."""
    return text[:1].upper() + text[1:]


def moment(time: datetime) -> str:
    """Writes a time with its zone: ``21 November 2026, 15:04 UTC``, or ``… +02:00`` elsewhere."""
    zone = time.strftime("%z")
    where = "UTC" if zone in ("", "+0000") else f"{zone[:3]}:{zone[3:5]}"
    return f"{time.day} {calendar.month_name[time.month]} {time:%Y, %H:%M} {where}"


@dataclass(frozen=True)
class Headline:
    """What a page says first."""

    title: str
    sentence: str


def headline(data: ReportData) -> Headline:
    """Says what became of a run."""
    summary = data.summary
    match summary.verdict:
        case "pushed" if summary.pushed_now:
            title = f"Pushed as version {summary.pushed_version}"
        case "pushed":
            title = f"Already served as version {summary.pushed_version}"
        case "rejected":
            return Headline("Refused, nothing was pushed", _refusal(data))
        case "failed":
            return Headline("Failed", f"The run ended early. {_GO_ON}")
        case "passed":
            return Headline("Evaluated: it would pass the gate", _evaluated(data))
        case "missed":
            return Headline("Evaluated: the gate would refuse it", _evaluated(data))
        case "interrupted":
            return Headline("Interrupted", f"The run was stopped from outside. {_GO_ON}")
    return Headline(title, f"It met every threshold. {_against(summary.baseline)}")


def _evaluated(data: ReportData) -> str:
    return f"The model is {data.summary.evaluated_model}. Nothing was trained, nothing was pushed."


def _refusal(data: ReportData) -> str:
    against = _against(data.summary.baseline)
    if all(check.passed for check in data.checks):
        return f"The model was good enough, but it cannot be served as it is. {against}"
    return f"The model did not meet every threshold of the gate. {against}"


def _against(baseline: Baseline | None) -> str:
    if baseline is None:
        return "No earlier model was being served to compare it with."
    served = f"version {baseline.version}, which was being served"
    if baseline.obstacle:
        return f"It was not compared with {served}: {baseline.obstacle}."
    return f"It was compared with {served}."
