"""Formats lengths of time for people."""


def duration(seconds: float) -> str:
    """Returns what has been measured, as ``9.4 s``, ``3 min 05 s`` or ``2 h 05 min``."""
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return _hours(seconds)


def time_left(seconds: float) -> str:
    """Returns an estimate, no finer than one can be: ``40 s left``, ``3 min left`` or ``2 h 05 min left``."""
    if round(seconds) < 60:
        return f"{seconds:.0f} s left"
    if round(seconds / 60) < 60:
        return f"{seconds / 60:.0f} min left"
    return f"{_hours(seconds)} left"


def _hours(seconds: float) -> str:
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min"
