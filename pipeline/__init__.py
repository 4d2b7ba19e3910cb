"""The pipeline and its commands."""

import os
import signal
import sys

_ENDING_WITH_130 = ("evaluate", "init", "predict", "report", "run_kubeflow", "run_local", "runs")

# `python -m pipeline.COMMAND` imports this package while it looks for the module; sys.argv[0] is -m then.
# What the command imports takes up to a second, before it answers Ctrl-C and SIGTERM itself.
if sys.argv[:1] == ["-m"] and {f"pipeline.{name}" for name in _ENDING_WITH_130} & {*sys.orig_argv}:
    for _number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(_number, lambda *_: os._exit(130))
