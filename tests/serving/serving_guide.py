"""docs/serving.md taken apart."""

import re
import shlex
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
DOCS = REPOSITORY / "docs"
GUIDE = (DOCS / "serving.md").read_text()


def blocks(language: str) -> list[str]:
    """Returns the code blocks in a language, in their order."""
    return re.findall(rf"^```{language}\n(.*?)^```", GUIDE, flags=re.DOTALL | re.MULTILINE)


def commands(program: str) -> list[list[str]]:
    """Returns the words of every command line that starts so."""
    lines = "\n".join(blocks("sh")).replace("\\\n", " ").splitlines()
    return [shlex.split(line) for line in lines if line.startswith(program)]


def table(head: str) -> list[list[str]]:
    """Returns the cells of the table with this first row, row by row."""
    rows = GUIDE.partition(head)[2].partition("\n\n")[0].splitlines()[2:]
    assert rows, head
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows]
