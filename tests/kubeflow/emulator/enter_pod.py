"""Makes a process that has already begun a pod's: what ``unshare`` and ``chroot`` do before one begins.

Called with the commands that mount what the pod sees, the folder where they do, and the command's module and
arguments.
"""

import importlib
import os
import runpy
import subprocess
import sys

import own_namespaces

from emulator.pod import CODE

mounts, root, *sys.argv = sys.argv[1:]
own_namespaces.enter(own_namespaces.MOUNTS)
subprocess.run(["sh", "-euc", f"mount --make-rprivate /\n{mounts}"], check=True)
os.chroot(root)
os.chdir("/tmp")
sys.path[:] = [CODE, *(path for path in sys.path if path.startswith((sys.prefix, sys.base_prefix)))]
importlib.invalidate_caches()
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
