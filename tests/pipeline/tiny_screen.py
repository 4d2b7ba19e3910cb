"""As much of a terminal as the living view needs: rows, the cursor, and nothing that cannot be seen."""

import re
from typing import Final

_CONTROL: Final = re.compile(r"\x1b\[(?P<private>\??)(?P<number>[\d;]*)(?P<command>[A-Za-z])")


class Screen:
    """What a person sees after some output, scrolled-out rows included."""

    def __init__(self, columns: int):
        self._columns = columns
        self._rows: list[str] = [""]
        self._row = 0
        self._column = 0
        self.cursor_visible = True

    @property
    def rows(self) -> list[str]:
        """Down to the last one that is not empty."""
        return "\n".join(row.rstrip() for row in self._rows).rstrip().split("\n")

    @property
    def cursor(self) -> tuple[int, int]:
        """Row and column."""
        return self._row, self._column

    def show(self, output: str) -> "Screen":
        position = 0
        while position < len(output):
            if match := _CONTROL.match(output, position):
                self._obey(match)
                position = match.end()
            else:
                self._put(output[position])
                position += 1
        return self

    def _obey(self, match: re.Match[str]) -> None:
        match (match["private"], match["number"], match["command"]):
            case ("?", "25", "l" | "h" as state):
                self.cursor_visible = state == "h"
            case ("", number, "A"):
                self._row -= int(number or 1)
                assert self._row >= 0, "the view went above its first row"
            case ("", "2", "K"):
                self._rows[self._row] = ""
            case ("", _, "m"):
                pass
            case _:
                raise AssertionError(f"what is {match[0]!r}?")

    def _put(self, character: str) -> None:
        if character == "\r":
            self._column = 0
        elif character == "\n":
            self._next_row()
            self._column = 0
        else:
            if self._column == self._columns:
                self._next_row()
                self._column = 0
            row = self._rows[self._row].ljust(self._column)
            self._rows[self._row] = row[: self._column] + character + row[self._column + 1 :]
            self._column += 1

    def _next_row(self) -> None:
        self._row += 1
        if self._row == len(self._rows):
            self._rows.append("")
