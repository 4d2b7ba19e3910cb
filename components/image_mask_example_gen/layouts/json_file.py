"""JSON that people bring along: read within bounds, or refused in one line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

MAX_BYTES: Final = 4 << 30
"""COCO's largest list, ``instances_train2017.json``, has 0.45 GB."""


def read_json(path: Path, compact: Callable[[dict[str, Any]], Any] | None = None) -> Any:
    """Reads a whole file.

    Args:
      path: The file.
      compact: Called with each object as it ends; what it returns takes the object's place.

    Raises:
      ValueError: it is no JSON, or too large; the message says what and where, but not which file.
      OSError: it cannot be read.
    """
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise ValueError(f"{size:,} bytes; no more than {MAX_BYTES:,} are read")
    try:
        # As text at once: json would keep the bytes beside it.
        return json.loads(path.read_text(encoding="utf-8-sig"), object_hook=compact)
    except json.JSONDecodeError as error:
        raise ValueError(f"no JSON: {error.msg} in line {error.lineno}, column {error.colno}") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"no JSON: not UTF-8 at byte {error.start:,}") from None
    except RecursionError:
        raise ValueError("nested deeper than any annotation") from None
