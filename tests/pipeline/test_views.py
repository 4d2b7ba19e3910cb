"""Views that only add lines, and how lengths of time are said."""

import io
import json
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from components.durations import duration, time_left
from components.trainer.progress import RECORD_ATTRIBUTE, TrainingProgress
from pipeline.local.views import Ending, Line, Mode, View, view_for

PROGRESS = TrainingProgress(1, 2, 14, 14, 0.9, None, 25.0, 31.0)


def tell_a_run(view: View) -> None:
    stages = logging.getLogger("components.toy")
    view.run_starts("shapes", "runs/shapes")
    view.stages_follow(["Numbers", "Trainer"])
    view.stage_starts("Numbers")
    view.stage_ends(SimpleNamespace(name="Numbers", seconds=0.0, cached=True, memory_mb=None))  # type: ignore[arg-type]
    view.stage_starts("Trainer")
    stages.debug("cafe.jpg rejected")
    stages.warning("two\nlines")
    stages.info("epoch 1/2: loss 0.9", extra={RECORD_ATTRIBUTE: PROGRESS})
    view.stage_ends(SimpleNamespace(name="Trainer", seconds=1.2345, cached=False, memory_mb=812.5))  # type: ignore[arg-type]
    view.stages_are_over()
    view.run_ends(Ending(3, Path("/log"), None, [Line(""), Line("Refused")]))


def shown(mode: Mode, encoding: str = "utf-8") -> str:
    buffer = io.BytesIO()
    stream = io.TextIOWrapper(buffer, encoding=encoding, errors="backslashreplace")
    with view_for(stream, mode, {"TERM": "xterm"}) as view:
        tell_a_run(view)
    return buffer.getvalue().decode(encoding)


def test_without_a_terminal_there_is_a_line_a_stage_and_what_it_says_below() -> None:
    assert shown("normal").splitlines() == [
        "Recipe shapes, work directory runs/shapes",
        "[1/2] Numbers … cached",
        "[2/2] Trainer …",
        "      WARNING  two",
        "      lines",
        "      epoch 1/2: loss 0.9",
        "      1.2 s",
        "",
        "Refused",
    ]


def test_without_a_terminal_an_ascii_locale_gets_ascii() -> None:
    assert "[1/2] Numbers ... cached" in shown("normal", "ascii")


def test_verbose_adds_what_only_the_log_would_have() -> None:
    assert "      cafe.jpg rejected" in shown("verbose").splitlines()
    assert "rejected" not in shown("normal")


def test_a_name_that_is_no_text_is_shown_escaped() -> None:
    buffer = io.BytesIO()
    stream = io.TextIOWrapper(buffer, encoding="utf-8", errors="backslashreplace")
    with view_for(stream, "normal", {"TERM": "xterm"}) as view:
        # Not by way of logging: what pytest captures there it can only pass on as UTF-8.
        view.stage_says("caf\udce9.jpg rejected", logging.INFO)
    assert buffer.getvalue().decode() == "      caf\\udce9.jpg rejected\n"


def test_quiet_shows_the_end_alone() -> None:
    assert shown("quiet") == "Refused\n"


def test_json_is_one_object_a_line_and_nothing_else() -> None:
    events: list[dict[str, Any]] = [json.loads(line) for line in shown("json").splitlines()]
    assert events == [
        {"event": "stage_started", "stage": "Numbers", "number": 1, "count": 2},
        {"event": "stage_finished", "stage": "Numbers", "seconds": 0.0, "cached": True, "memory_mb": None},
        {"event": "stage_started", "stage": "Trainer", "number": 2, "count": 2},
        {"event": "progress", "stage": "Trainer", **vars(PROGRESS)},
        {
            "event": "stage_finished",
            "stage": "Trainer",
            "seconds": 1.234,
            "cached": False,
            "memory_mb": 812.5,
        },
        {"event": "finished", "exit_code": 3, "log": "/log", "summary": None},
    ]


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.04, "0.0 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 00 s"),
        (185, "3 min 05 s"),
        (3599.6, "1 h 00 min"),
        (7500, "2 h 05 min"),
    ],
)
def test_a_duration_is_said_in_units_that_suit_it(seconds: float, said: str) -> None:
    assert duration(seconds) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.6, "1 s left"), (59.6, "1 min left"), (150, "2 min left"), (3580, "1 h 00 min left")],
)
def test_time_left_is_said_no_finer_than_an_estimate_is(seconds: float, said: str) -> None:
    assert time_left(seconds) == said
