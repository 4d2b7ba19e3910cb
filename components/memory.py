"""The memory that a process has had, as Linux keeps account of it."""

from pathlib import Path


def high_water_mark(process: Path) -> int | None:
    """Returns the most bytes that a process ever had resident, or had since the mark was reset.

    Source: proc_pid_status(5); its kB are 1024 bytes.

    Args:
        process: its folder in ``/proc``.

    Returns:
        None where the system keeps no such record, or the process has ended.
    """
    try:
        lines = (process / "status").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        name, _, value = line.partition(":")
        if name == "VmHWM":
            return 1024 * int(value.split()[0])
    return None
