"""The signs that views draw with, as far as a terminal's encoding and font have them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Glyphs:
    """One character each, except for the ellipsis and the separator."""

    done: str
    cached: str
    failed: str
    pending: str
    separator: str
    ellipsis: str
    bar: str
    rail: str
    spinner: str
    """Its pictures, shown one after the other."""


UNICODE: Final = Glyphs("✓", "≡", "✗", "·", " · ", "…", "━", "─", "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏")
ASCII: Final = Glyphs("+", "=", "x", ".", ", ", "...", "#", "-", "|/-\\")


def glyphs_for(encoding: str, environment: Mapping[str, str]) -> Glyphs:
    """Returns signs that the encoding has, and the font: that of Linux's own console has few."""
    if environment.get("TERM") == "linux":
        return ASCII
    try:
        "".join(vars(UNICODE).values()).encode(encoding)
    except UnicodeEncodeError:
        return ASCII
    return UNICODE
