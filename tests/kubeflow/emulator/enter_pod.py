"""Makes a process that has already begun a pod's: what ``unshare`` and ``chroot`` do before one begins.

Called with the commands that mount what the pod sees, the folder where they do, and the command's module and
arguments.
"""

import ctypes
import importlib
import os
import runpy
import subprocess
import sys
from pathlib import Path

from emulator.pod import CODE

_CLONE_NEWNS, _CLONE_NEWUSER = 0x00020000, 0x10000000  # linux/sched.h

mounts, root, *sys.argv = sys.argv[1:]
user, group = os.getuid(), os.getgid()
if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWUSER | _CLONE_NEWNS):
    raise OSError(ctypes.get_errno(), "no namespaces of its own")
for name, text in {"setgroups": "deny", "uid_map": f"0 {user} 1", "gid_map": f"0 {group} 1"}.items():
    Path("/proc/self", name).write_text(text)
subprocess.run(["sh", "-euc", f"mount --make-rprivate /\n{mounts}"], check=True)
os.chroot(root)
os.chdir("/tmp")
sys.path[:] = [CODE, *(path for path in sys.path if path.startswith((sys.prefix, sys.base_prefix)))]
importlib.invalidate_caches()
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
