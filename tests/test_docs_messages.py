"""Every message on the troubleshooting page is still said by the code."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from documented import DOCS, REPOSITORY

from components.evaluator.gate import (
    UNFOUND_CLASSES,
    UNMEASURED_CLASSES,
    Threshold,
    explain,
    explain_classes,
)

_PAGE = (DOCS / "troubleshooting.md").read_text()
_VARIES = "…"


def messages() -> list[str]:
    """The first cells of all tables of messages."""
    tables = _PAGE.split("| message | cause | remedy |\n|---|---|---|\n")[1:]
    rows = [row for table in tables for row in table.partition("\n\n")[0].splitlines()]
    return [re.findall(r"^\| `(.+?)` \|", row)[0] for row in rows]


@cache
def said() -> tuple[str, ...]:
    """All texts in the code, what is put into them as …; and those of the Makefile."""
    sources = [
        path for room in ("pipeline", "components", "models") for path in (REPOSITORY / room).rglob("*.py")
    ]
    found = [text for path in sorted(sources) for text in _texts(path)]
    makefile = " ".join((REPOSITORY / "Makefile").read_text().replace('" \\\n', "").replace('"', "").split())
    return (*found, makefile)


def _texts(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.JoinedStr):
            # What is written next to each other in the source is one text to the parser.
            parts = (part.value if isinstance(part, ast.Constant) else _VARIES for part in node.values)
            yield "".join(map(str, parts))


def fixed_parts(message: str) -> list[str]:
    """What does not differ from case to case, without the punctuation at its borders."""
    parts = (part.strip(" .,:;()'=") for part in message.split(_VARIES))
    return [part for part in parts if part]


@pytest.mark.parametrize("message", messages())
def test_the_message_is_one_of_the_codes(message: str) -> None:
    parts = fixed_parts(message)
    assert max(map(len, parts)) >= 8, "too short to be found"
    assert [part for part in parts if not any(part in text for text in said())] == []


@pytest.mark.parametrize(
    ("threshold", "value", "baseline"),
    [
        (Threshold("", "mean_iou", False, 0.5, False), 0.4, None),
        (Threshold("", "mean_iou", True, -0.01, False), 0.4, 0.5),
        (Threshold("", "iou/cat", False, 0.5, False), None, None),
    ],
)
def test_the_gates_reasons_read_as_on_the_page(
    threshold: Threshold, value: float | None, baseline: float | None
) -> None:
    reason = explain(threshold, value, baseline, "3").message
    patterns = [".*".join(map(re.escape, fixed_parts(message))) for message in messages()]
    assert any(re.search(pattern, reason) for pattern in patterns)


@pytest.mark.parametrize("metric", [UNMEASURED_CLASSES, UNFOUND_CLASSES])
def test_the_gates_reasons_for_missing_classes_read_as_on_the_page(metric: str) -> None:
    reason = explain_classes(Threshold("", metric, False, 0.0, False), ["cat"], []).message
    patterns = [".*".join(map(re.escape, fixed_parts(message))) for message in messages()]
    assert any(re.match(pattern, reason) for pattern in patterns)


def test_a_message_that_nobody_says_is_found_out() -> None:
    assert not any("the moon is in the wrong quarter" in text for text in said())


def test_there_are_messages_of_all_rooms_and_none_twice() -> None:
    found = messages()
    assert len(found) > 60 and len(set(found)) == len(found)
