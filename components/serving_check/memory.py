"""How much memory a server's processes have resident."""

from pathlib import Path

import psutil


def resident(pid: int) -> int:
    """Returns the bytes that a process and its children have resident now; 0 once it has ended."""
    try:
        return sum(process.memory_info().rss for process in _family(pid))
    except psutil.NoSuchProcess:
        return 0


def peak_resident(pid: int) -> int:
    """Returns the most bytes that they ever had, each process by itself; 0 once it has ended."""
    try:
        return sum(_high_water_mark(process.pid) for process in _family(pid))
    except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
        return 0


def _family(pid: int) -> list[psutil.Process]:
    parent = psutil.Process(pid)
    return [parent, *parent.children(recursive=True)]


def _high_water_mark(pid: int) -> int:
    # Source: proc_pid_status(5); its kB are 1024 bytes. A process that is ending has no such line.
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "VmHWM":
            return 1024 * int(value.split()[0])
    return 0
