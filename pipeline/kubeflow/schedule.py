"""When a recurring run starts."""

import re
from dataclasses import dataclass
from datetime import datetime

MAX_CONCURRENCY = range(1, 11)
"""What the backend accepts (its ``toModelJob``)."""

_CRON = re.compile(
    r"@(yearly|annually|monthly|weekly|daily|midnight|hourly)|@every [0-9][0-9.a-zµ]*"
    r"|[0-9*?/,-]+( [0-9*?/,-]+){3}( [0-9A-Za-z*?/,-]+){2}"
)


@dataclass(frozen=True)
class Schedule:
    """The times of a recurring run, as Kubeflow writes them."""

    cron: str
    start: str | None = None
    """RFC 3339; None is now."""
    end: str | None = None
    """RFC 3339; None is never."""
    max_concurrency: int = 1
    """Runs that may be under way at once."""
    catchup: bool = False
    """Whether times that were missed are made up for."""


def parse_cron(text: str) -> str:
    """Returns a cron expression as the backend reads it, or raises ValueError.

    The backend's parser (robfig/cron, version 1) counts from seconds. It would take the five fields of a
    crontab as well, but read them as second, minute, hour, day and month.
    """
    fields = text.split()
    if len(fields) == 5 and not text.startswith("@"):
        raise ValueError(f"has no seconds; Kubeflow's begin with them: '0 {' '.join(fields)}'")
    if not _CRON.fullmatch(" ".join(fields)):
        raise ValueError(
            "should have six fields, second minute hour day month weekday, or be such as @daily or @every 12h"
        )
    return " ".join(fields)


def parse_time(text: str) -> str:
    """Returns a moment in RFC 3339, or raises ValueError."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise ValueError("should be a time with its zone, such as 2030-01-31T06:00:00Z")
    return moment.isoformat().replace("+00:00", "Z")
