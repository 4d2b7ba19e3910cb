"""The task's part: starts the job, repeats what its chief says, and says why it failed."""

import json
import logging
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from components.errors import StageError
from pipeline.kubeflow.training.api import Api, NoAnswer
from pipeline.kubeflow.training.job import JOB_LABEL, Job
from pipeline.kubeflow.training.worker import ALIVE, ARGUMENTS, CHIEF_LOG, PATIENCE_SECONDS

COMMAND: Final = ("python", "-m", "pipeline.kubeflow.entrypoint", "--worker")
"""Of a job's Pods, before the directory."""
FAILED: Final = "failed: "
"""Begins the lines in which the entrypoint says why it failed."""

_PACE_SECONDS: Final = 5.0

_running: Final[list[Job]] = []

logger = logging.getLogger(__name__)


def train_on_machines(
    machines: int, pod: dict[str, Any], arguments: Mapping[str, str], directory: Path
) -> None:
    """Trains on several machines, and returns when all of them are done.

    Args:
        machines: how many.
        pod: the template of `machines.worker_pod`, which is completed in place.
        arguments: of the entrypoint by its flags, the same for each.
        directory: for what the machines and this task tell each other; all see it at this path.

    Raises:
        StageError: there is no such job to be had, or it failed.
    """
    (directory / ARGUMENTS).write_text(json.dumps(arguments))
    job = Job(Api(), f"training-{os.environ['KFP_POD_UID'][:13]}", machines)
    pod["metadata"]["labels"][JOB_LABEL] = job.name
    pod["spec"]["containers"][0]["command"] = [*COMMAND, str(directory)]
    _running.append(job)
    try:
        _show_life(directory)
        job.start(pod)
        _follow(job, directory)
    except Exception:
        if job not in _running:
            # Another thread has taken it down, and is about to end this process with a status of its own.
            time.sleep(PATIENCE_SECONDS)
        raise
    finally:
        take_down()


def take_down() -> None:
    """Removes the job that this process follows, if there is one."""
    while _running:
        _running.pop().remove()


def _follow(job: Job, directory: Path) -> None:
    said, shown = "", 0
    while True:
        # Of what cannot be written the machines hear nothing for a while, and end by themselves if it lasts.
        with suppress(OSError):
            _show_life(directory)
        conditions: Mapping[str, str] = {}
        pods: Sequence[Mapping[str, Any]] = ()
        try:
            conditions, pods = job.conditions(), job.pods()
            state = _state(job, conditions, pods)
        except NoAnswer as error:
            # The machines do not need it.
            state = f"Kubernetes' API does not answer: {error}"
        if state != said:
            logger.info("%s: %s", job.name, state)
            said = state
        # Behind the question: of a job that has ended, all is there.
        shown = _show_log(directory / CHIEF_LOG, shown)
        if "Failed" in conditions:
            raise StageError(
                f"the training on {job.machines} machines failed: {_why_failed(pods) or conditions['Failed']}"
            )
        if job.has_succeeded(conditions):
            return
        time.sleep(_PACE_SECONDS)


def _show_life(directory: Path) -> None:
    (directory / ALIVE).write_text(str(time.time_ns()))


def _show_log(log: Path, shown: int) -> int:
    """Prints the whole lines that have come to a file; returns how many bytes of it have been printed."""
    # Opened anew each time: an NFS client that keeps it open may not see for long what others write.
    try:
        with log.open("rb") as file:
            file.seek(shown)
            new = file.read()
    except OSError:
        # It is not there yet, or its disk does not answer, which is no reason to end a training: the next
        # look reads on.
        return shown
    new = new[: new.rfind(b"\n") + 1]
    sys.stdout.write(new.decode(errors="replace"))
    sys.stdout.flush()
    return shown + len(new)


def _state(job: Job, conditions: Mapping[str, str], pods: Sequence[Mapping[str, Any]]) -> str:
    """Returns how many Pods are in which phase, and what they wait for."""
    if "Suspended" in conditions:
        return f"suspended: {conditions['Suspended']}"
    if not pods:
        return f"no Pods yet; if none come, `kubectl describe {job.kind.lower()} {job.name}` says why"
    phases = Counter(pod["status"].get("phase", "Unknown") for pod in pods)
    counts = ", ".join(f"{count} {phase}" for phase, count in sorted(phases.items()))
    waiting = [f"{pod['metadata']['name']} waits: {reason}" for pod in pods for reason in _waits_for(pod)]
    return "; ".join([f"Pods: {counts}", *waiting])


def _waits_for(pod: Mapping[str, Any]) -> Iterator[str]:
    for condition in pod["status"].get("conditions") or ():
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            yield f"{condition.get('reason')}: {condition.get('message')}"
    for container in pod["status"].get("containerStatuses") or ():
        waiting = container["state"].get("waiting") or {}
        if waiting.get("message"):
            yield f"{waiting.get('reason')}: {waiting['message']}"


def _why_failed(pods: Sequence[Mapping[str, Any]]) -> str:
    """Returns what is known of the Pod that failed first: the others fail for want of it."""
    failures = []
    for pod in pods:
        status = pod["status"]
        if status.get("phase") != "Failed":
            continue
        # An evicted Pod has a reason of its own, and perhaps no container that has ended.
        ended, reason = "", ": ".join(filter(None, (status.get("reason"), status.get("message"))))
        for container in status.get("containerStatuses") or ():
            if terminated := container["state"].get("terminated"):
                ended = terminated.get("finishedAt") or ""
                reason = reason or _last_words(terminated)
        failures.append((ended, f"{pod['metadata']['name']}: {reason or 'without a reason'}"))
    return min(failures)[1] if failures else ""


def _last_words(terminated: Mapping[str, Any]) -> str:
    """Returns why a container ended: what the entrypoint said, or else the last line of its log."""
    lines = [line for line in str(terminated.get("message") or "").splitlines() if line.strip()]
    told = [line.removeprefix(FAILED) for line in lines if line.startswith(FAILED)]
    ending = f"{terminated.get('reason')}, exit status {terminated['exitCode']}"
    last = [f"the last line of its log: {lines[-1]}"] if lines else []
    return "; ".join(told or [ending, *last])
