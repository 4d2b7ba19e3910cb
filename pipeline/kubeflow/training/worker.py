"""One machine's part: takes its arguments from the shared directory, and does not outlive the task."""

import json
import logging
import os
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Final

from components.errors import StageError
from pipeline import interrupt

ARGUMENTS: Final = "arguments.json"
CHIEF_LOG: Final = "chief.log"
ALIVE: Final = "alive"
"""Files of the directory: what the entrypoint is to be told, what the chief logs, what the task changes as
long as it is there."""
INPUT: Final = "json_serialized_invocation_args"
"""The entrypoint's flag with the task's ExecutorInput."""
PATIENCE_SECONDS: Final = 300
"""For a task that shows no life."""

_LOOK_SECONDS: Final = 10.0


def begin_work(directory: Path) -> list[str]:
    """Makes this process one of the machines; returns the entrypoint's arguments.

    From now on it ends by itself when the task shows no life, and the chief's log goes into the directory.

    Raises:
        StageError: there are no other machines, or the directory is not the task's.
    """
    from components.trainer.distribution import is_chief

    if "TF_CONFIG" not in os.environ:
        raise StageError(
            "TF_CONFIG does not say which machines train together; the training operator sets it"
        )
    try:
        arguments: dict[str, str] = json.loads((directory / ARGUMENTS).read_text())
    except FileNotFoundError:
        raise StageError(
            f"{directory / ARGUMENTS} is not there: this machine does not see what the task has written; "
            "kubeflow.shared_dir must be on a claim that is ReadWriteMany"
        ) from None
    if is_chief():
        log = logging.getLogger()
        handler = logging.FileHandler(directory / CHIEF_LOG)
        handler.setFormatter(log.handlers[0].formatter)
        log.addHandler(handler)
    else:
        # TFX writes down what every one of them has put out; the chief's is what counts.
        given = json.loads(arguments[INPUT])
        given["outputs"]["outputFile"] = f"{tempfile.mkdtemp()}/output.json"
        arguments[INPUT] = json.dumps(given)
    threading.Thread(target=_leave_without, args=(directory / ALIVE,), daemon=True).start()
    return [f"--{flag}={value}" for flag, value in arguments.items()]


def _leave_without(alive: Path) -> None:
    seen, since = "", time.monotonic()
    while time.monotonic() - since < PATIENCE_SECONDS:
        time.sleep(_LOOK_SECONDS)
        try:
            now = alive.read_text()
        except FileNotFoundError:
            break
        except OSError:
            continue
        if now != seen:
            seen, since = now, time.monotonic()
    print("failed: the task that started this training is gone", file=sys.stderr, flush=True)
    interrupt.leave(1)
