"""Which view a run is shown in."""

from collections.abc import Mapping
from typing import Literal, TextIO

from pipeline.views.glyphs import glyphs_for
from pipeline.views.json_lines import JsonView
from pipeline.views.lines import PlainView, QuietView
from pipeline.views.view import View

Mode = Literal["normal", "quiet", "verbose", "json"]


def view_for(stream: TextIO, mode: Mode, environment: Mapping[str, str]) -> View:
    """Returns the view that was asked for: living on a terminal that can draw, lines elsewhere."""
    if mode == "json":
        return JsonView(stream)
    if mode == "quiet":
        return QuietView(stream)
    glyphs = glyphs_for(stream.encoding, environment)
    if stream.isatty() and environment.get("TERM", "dumb") not in ("dumb", "unknown"):
        from pipeline.views.live import LiveView

        return LiveView(stream, glyphs, verbose=mode == "verbose", reflows=_reflows(environment))
    return PlainView(stream, glyphs, verbose=mode == "verbose")


def _reflows(environment: Mapping[str, str]) -> bool:
    """Whether a terminal that gets narrower wraps the rows it shows, as all do but the oldest."""
    cuts_off = "XTERM_VERSION" in environment or environment["TERM"].startswith(("linux", "screen"))
    return "TMUX" in environment or not cuts_off
