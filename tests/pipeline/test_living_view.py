"""The living view on a pseudo-terminal, told what a run would tell it."""

import fcntl
import logging
import os
import pty
import re
import struct
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TextIO

import pytest
from tiny_screen import Screen

from components.trainer.progress import RECORD_ATTRIBUTE, TICKS, TrainingProgress
from pipeline.local.live_view import LiveView
from pipeline.local.views import Ending, Line, Mode, PlainView, Tone, View, view_for
from pipeline.terminal import PatientStream

STAGES = ("ImageMaskExampleGen", "Trainer", "Pusher")
LONG = "/somewhere/" + "very/" * 30 + "deep"
PROGRESS = TrainingProgress(
    epoch=3,
    epochs=30,
    step=40,
    steps=160,
    loss=0.4123,
    val_mean_iou=0.553,
    images_per_second=320.4,
    seconds_left=130.0,
)


class Terminal:
    """The far end of a pseudo-terminal: gathers what is written to the near one."""

    def __init__(self, columns: int, rows: int = 24, encoding: str = "utf-8"):
        self._far, near = pty.openpty()
        fcntl.ioctl(near, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.stream: TextIO = os.fdopen(near, "w", buffering=1, encoding=encoding, errors="backslashreplace")
        self.columns = columns
        self._pieces: list[bytes] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        # Linux answers with EIO when the near end is closed.
        try:
            while piece := os.read(self._far, 65536):
                self._pieces.append(piece)
        except OSError:
            pass
        os.close(self._far)

    def close(self) -> str:
        """Returns all that was written."""
        self.stream.close()
        self._reader.join(timeout=10)
        return b"".join(self._pieces).decode()


@contextmanager
def showing(terminal: Terminal, mode: Mode = "normal", **environment: str) -> Iterator[View]:
    with view_for(terminal.stream, mode, {"TERM": "xterm-256color", **environment}) as view:
        view.run_starts("shapes", "runs/shapes")
        view.stages_follow(STAGES)
        yield view


def stage(name: str, cached: bool = False) -> Any:
    return SimpleNamespace(name=name, seconds=12.34, cached=cached, memory_mb=812.5)


def tell_a_run(view: View) -> None:
    """A whole run: words, a warning, a training in two ticks and an epoch, a cached stage, the end."""
    stages = logging.getLogger("components.toy")
    view.stage_starts(STAGES[0])
    stages.info("600 pairs: 420 train, 90 val, 90 test")
    stages.debug("rejected 1.jpg: for the log alone")
    view.stage_ends(stage(STAGES[0]))
    view.stage_starts(STAGES[1])
    stages.warning("the encoder has random weights and knows nothing; set model.encoder_weights to imagenet")
    for step in (10, 40):
        progress = {RECORD_ATTRIBUTE: TrainingProgress(**{**vars(PROGRESS), "step": step})}
        logging.getLogger(TICKS).debug("step", extra=progress)
        # What the refresh thread does a few times a second.
        if isinstance(view, LiveView):
            view._live.refresh()
    epoch = TrainingProgress(**{**vars(PROGRESS), "step": 160})
    stages.info("epoch 3/30: loss 0.4123", extra={RECORD_ATTRIBUTE: epoch})
    stages.info("exporting epoch 3 of 30")
    view.stage_ends(stage(STAGES[1]))
    view.stage_starts(STAGES[2])
    view.stage_ends(stage(STAGES[2], cached=True))
    view.stages_are_over()
    lines = [Line(""), Line("Pushed version 7", Tone.GOOD), Line(f"Report:  {LONG}", copied=True)]
    view.run_ends(Ending(0, Path("log"), None, lines))


def colors(output: str) -> list[str]:
    """The parameters that set a colour."""
    parameters = ";".join(re.findall(r"\x1b\[([\d;]*)m", output)).split(";")
    return [number for number in parameters if number and (30 <= int(number) <= 37 or int(number) == 38)]


@pytest.fixture(autouse=True)
def no_color_is_nobodys_wish(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_a_run_leaves_its_stages_and_its_end_on_the_screen_and_no_trace_of_what_moved(columns: int) -> None:
    terminal = Terminal(columns)
    with showing(terminal) as view:
        tell_a_run(view)
    output = terminal.close()
    screen = Screen(columns).show(output)
    rows = screen.rows
    assert rows[0] == "Recipe shapes, work directory runs/shapes"[:columns]
    shown = "\n".join(row for row in rows if "Recipe" not in row)
    assert re.search(r" ✓ 1/3 ImageMaskExampleGen +12\.3 s\n    600 pairs: 420 train", shown)
    assert re.search(r" ✓ 2/3 Trainer +12\.3 s\n    the encoder has random", shown)
    assert "\n    epoch 3/30: loss 0.4123\n    exporting epoch 3 of 30\n" in shown
    assert re.search(r" ≡ 3/3 Pusher +cached\n\nPushed version 7\n", shown)
    assert "━" not in shown and "⠋" not in shown
    assert "rejected 1.jpg" not in output
    assert (screen.cursor_visible, screen.cursor[1]) == (True, 0)


def test_what_people_copy_is_written_in_one_piece_and_prose_is_wrapped_between_words() -> None:
    terminal = Terminal(40)
    with showing(terminal) as view:
        tell_a_run(view)
    output = terminal.close()
    assert LONG in output
    rows = Screen(40).show(output).rows
    assert "    the encoder has random weights and" in rows


def test_the_training_shows_epoch_loss_iou_speed_and_time_left() -> None:
    terminal = Terminal(80)
    with showing(terminal) as view:
        tell_a_run(view)
    output = re.sub(r"\x1b\[[\d;]*m", "", terminal.close())
    assert "    epoch 3/30 ━━━" in output and " step 40/160" in output
    assert "    loss 0.4123 · val mean IoU 0.553 · 320 images/s · 2 min left" in output


def test_the_cursor_is_never_hidden_since_who_is_killed_cannot_show_it_again() -> None:
    terminal = Terminal(80)
    with showing(terminal) as view:
        tell_a_run(view)
    assert "\x1b[?25l" not in terminal.close()


def test_a_failed_stage_is_marked_and_keeps_what_it_said() -> None:
    terminal = Terminal(80)
    with showing(terminal) as view:
        view.stage_starts(STAGES[0])
        logging.getLogger("components.toy").info("600 pairs")
        view.stages_are_over()
        view.run_ends(Ending(1, Path("log"), None, [Line("ImageMaskExampleGen failed: bad luck", Tone.BAD)]))
    rows = Screen(80).show(terminal.close()).rows
    assert re.fullmatch(r" ✗ 1/3 ImageMaskExampleGen +0\.0 s", rows[1])
    assert rows[2:] == ["    600 pairs", "ImageMaskExampleGen failed: bad luck"]


def test_while_the_report_is_written_no_stage_is_to_come() -> None:
    terminal = Terminal(80)
    with showing(terminal) as view:
        view.stage_starts(STAGES[0])
        view.stage_ends(stage(STAGES[0]))
        view.stages_are_over()
        assert isinstance(view, LiveView)
        [row] = view._draw().renderables
        assert "Writing the report" in str(row)
    terminal.close()


def test_no_color_means_none(monkeypatch: pytest.MonkeyPatch) -> None:
    colored = Terminal(80)
    with showing(colored) as view:
        tell_a_run(view)
    assert colors(colored.close())
    monkeypatch.setenv("NO_COLOR", "1")
    terminal = Terminal(80)
    with showing(terminal) as view:
        tell_a_run(view)
    assert colors(terminal.close()) == []


def test_an_ascii_terminal_gets_ascii() -> None:
    terminal = Terminal(80, encoding="ascii")
    with showing(terminal) as view:
        tell_a_run(view)
    output = terminal.close()
    assert output.isascii() and "\\u" not in output
    assert re.search(r" \+ 1/3 ImageMaskExampleGen", "\n".join(Screen(80).show(output).rows))


def test_linux_own_console_whose_font_has_few_signs_gets_ascii() -> None:
    terminal = Terminal(80)
    with showing(terminal, TERM="linux") as view:
        tell_a_run(view)
    assert terminal.close().isascii()


def test_a_verbose_view_shows_at_once_what_else_would_only_be_in_the_log() -> None:
    terminal = Terminal(80)
    with showing(terminal, "verbose") as view:
        tell_a_run(view)
    rows = Screen(80).show(terminal.close()).rows
    assert rows.index("    rejected 1.jpg: for the log alone") < rows.index(
        next(row for row in rows if "✓ 1/3" in row)
    )
    assert "    epoch 3/30: loss 0.4123" in rows


@pytest.mark.parametrize("term", ["dumb", "unknown"])
def test_a_terminal_that_cannot_draw_gets_lines(term: str) -> None:
    terminal = Terminal(80)
    with showing(terminal, TERM=term) as view:
        assert isinstance(view, PlainView)
        tell_a_run(view)
    output = terminal.close()
    assert "\x1b" not in output
    assert "[1/3] ImageMaskExampleGen …" in output


def test_a_terminal_that_is_gone_ends_nothing() -> None:
    far, near = pty.openpty()
    stream = PatientStream(near, "utf-8")
    with view_for(stream, "normal", {"TERM": "xterm"}) as view:
        assert isinstance(view, LiveView)
        view.run_starts("shapes", "runs/shapes")
        view.stages_follow(STAGES)
        os.close(far)
        tell_a_run(view)
    stream.close()


@pytest.mark.parametrize("term", ["xterm", "linux"])
@pytest.mark.parametrize("columns", [10, 40, 120])
@pytest.mark.parametrize("rows", [2, 5, 24])
def test_a_frame_fits_its_terminal(columns: int, rows: int, term: str) -> None:
    terminal = Terminal(columns, rows)
    with showing(terminal, TERM=term) as view:
        assert isinstance(view, LiveView)
        view.stage_starts(STAGES[1])
        for number in range(5):
            view.stage_says(f"word {number} of a line that is wider than some terminals", logging.INFO)
        view.training_goes_on(PROGRESS, "")
        drawn = view._console.render_lines(view._live.get_renderable(), pad=False)
        assert all(sum(segment.cell_length for segment in line) <= columns for line in drawn)
        assert "2/3"[: columns - 4] in "".join(segment.text for segment in drawn[0])
        view._live.refresh()
        assert view._live._live_render.last_render_height <= rows
    terminal.close()
