"""One machine of a training: ``machine.py NETWORK EPOCHS MODULE ARGUMENT …`` runs the module as ``-m`` would.

It is in the network of the process NETWORK, and sees its /etc/hosts. It is killed where so many epochs are
done; never, if EPOCHS is empty.
"""

import ctypes
import logging
import os
import runpy
import signal
import sys
from typing import Any

network, epochs, *sys.argv = sys.argv[1:]
here = os.getcwd()
for namespace in ("user", "mnt", "net"):
    # Python has it from 3.12 on.
    with open(f"/proc/{network}/ns/{namespace}") as file:
        if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), 0):
            raise OSError(ctypes.get_errno(), f"no way into {file.name}")
os.chdir(here)

from components.trainer.checkpoints import Checkpoints  # noqa: E402  (by threads, of which setns wants none)


def die_in_time(_self: Checkpoints, epoch: int, logs: Any = None) -> None:
    if str(epoch) == epochs:
        os.kill(os.getpid(), signal.SIGKILL)


Checkpoints.on_epoch_begin = die_in_time
# TFX, which a new interpreter has not imported yet, brings a handler of its own.
logging.getLogger().handlers.clear()
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
