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

        return LiveView(stream, glyphs, verbose=mode == "verbose")
    return PlainView(stream, glyphs, verbose=mode == "verbose")
