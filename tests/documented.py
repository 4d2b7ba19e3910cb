"""README.md and docs/ taken apart."""

import re
import shlex
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
README = REPOSITORY / "README.md"
DOCS = REPOSITORY / "docs"
PAGES = [README, *sorted(DOCS.rglob("*.md"))]


def name(page: Path) -> str:
    """Returns a page's path in the repository."""
    return page.relative_to(REPOSITORY).as_posix()


def blocks(page: Path, language: str) -> list[str]:
    """Returns the code blocks in a language, in their order."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def shell_lines(page: Path) -> list[str]:
    """Returns what a page tells people to type, a command a line."""
    text = "".join(blocks(page, "sh")).replace("\\\n", " ")
    return [line for line in text.splitlines() if line.strip()]


def words(line: str) -> list[str]:
    """Returns a command's words, without its comment and without where its output goes."""
    found = shlex.split(line, comments=True)
    return found[: found.index(">")] if ">" in found else found


def python_commands(page: Path) -> list[list[str]]:
    """Returns the words after ``python -m`` of each such command."""
    start = "python -m "
    return [words(line)[2:] for line in shell_lines(page) if line.startswith(start)]
