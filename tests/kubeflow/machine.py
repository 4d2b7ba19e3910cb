"""One machine of a training: ``python machine.py EPOCHS MODULE ARGUMENT …`` runs the module, as ``-m`` would.

It is killed where so many epochs are done; never, if EPOCHS is empty.
"""

import logging
import os
import runpy
import signal
import sys
from typing import Any

from components.trainer.checkpoints import Checkpoints

epochs, *sys.argv = sys.argv[1:]


def die_in_time(_self: Checkpoints, epoch: int, logs: Any = None) -> None:
    if str(epoch) == epochs:
        os.kill(os.getpid(), signal.SIGKILL)


Checkpoints.on_epoch_begin = die_in_time
# TFX, which a new interpreter has not imported yet, brings a handler of its own.
logging.getLogger().handlers.clear()
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
