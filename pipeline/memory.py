"""How much memory this process had at most since a moment, as Linux counts it."""

from pathlib import Path
from typing import Final

_PROCESS: Final = Path("/proc/self")
_RESET_PEAK: Final = "5"
"""What ``clear_refs`` takes for: the peak of the resident set is what it is now (proc_pid_clear_refs(5))."""
_MEGABYTE: Final = 1e6


def forget_peak_memory() -> bool:
    """Has ``peak_memory_mb`` count from now on; returns whether this system can do that."""
    try:
        (_PROCESS / "clear_refs").write_text(_RESET_PEAK)
    except OSError:
        return False
    return True


def peak_memory_mb() -> float | None:
    """Returns the most that was resident, in units of 10⁶ bytes; None where the system does not count it."""
    try:
        lines = (_PROCESS / "status").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        name, _, value = line.partition(":")
        if name == "VmHWM":
            kibibytes, _ = value.split()
            return round(int(kibibytes) * 1024 / _MEGABYTE, 1)
    return None
