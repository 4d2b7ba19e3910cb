"""Takes a process that has already begun into a network of its own, as ``unshare`` does before one begins.

Called with a module and its arguments.
"""

import runpy
import subprocess
import sys

import own_namespaces

del sys.argv[0]
own_namespaces.enter(own_namespaces.MOUNTS | own_namespaces.NETWORK)
subprocess.run(["sh", "-euc", "mount --make-rprivate /; ip link set lo up"], check=True)
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
