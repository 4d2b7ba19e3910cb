"""What ``unshare --map-root-user`` does before a process begins, for one that has already begun."""

import ctypes
import os
from pathlib import Path
from typing import Final

_NEWUSER: Final = 0x10000000  # linux/sched.h, as are those below
MOUNTS: Final = 0x00020000
NETWORK: Final = 0x40000000


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
