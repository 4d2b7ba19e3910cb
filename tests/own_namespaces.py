"""What ``unshare --map-root-user`` does before a process begins, for one that has already begun.

And whether anybody may, here.
"""

import ctypes
import functools
import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

_NEWUSER: Final = 0x10000000  # linux/sched.h, as are those below
MOUNTS: Final = 0x00020000
NETWORK: Final = 0x40000000
UNSHARE: Final = ("unshare", "--user", "--map-root-user", "--mount")
"""Begins a command that has its own."""


def enter(namespaces: int) -> None:
    """Makes this process root in namespaces of its own; as yet it has a single thread.

    Raises:
        OSError: it must not.
    """
    user, group = os.getuid(), os.getgid()
    if ctypes.CDLL(None, use_errno=True).unshare(_NEWUSER | namespaces):
        raise OSError(ctypes.get_errno(), "no namespaces of its own")
    for name, text in {"setgroups": "deny", "uid_map": f"0 {user} 1", "gid_map": f"0 {group} 1"}.items():
        Path("/proc/self", name).write_text(text)


@functools.cache
def obstacle(trial: str, *options: str) -> str:
    """Says why a shell does not get through a script with mounts of its own; empty if it does.

    Args:
        trial: the script.
        options: of ``unshare``, such as ``--net``.
    """
    if shutil.which("unshare") is None:
        return "no namespaces without unshare (util-linux)"
    command = [*UNSHARE, *options, "sh", "-euc", trial]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return f"no namespaces for {trial!r}: {done.stderr.strip()}" if done.returncode else ""
