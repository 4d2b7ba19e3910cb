"""Follows a run to its end: the stages as they happen, and the verdict."""

import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any, Final

from kfp_server_api import V2beta1PipelineTaskDetail as Task
from kfp_server_api import V2beta1Run as Run

from pipeline.kubeflow.client.errors import ConnectionProblem, Unauthenticated, WaitedTooLong
from pipeline.kubeflow_config import MODEL_PUSHED, PUSHER

UNTOLD: Final = "no stage has begun, or this Kubeflow tells of none"
"""Of a run without tasks: Argo may have refused it, or somebody cancelled it while it waited."""
_INDENT = "      "
_FINAL = ("SUCCEEDED", "FAILED", "SKIPPED", "CANCELED")
# What a failure keeps from beginning is Omitted to Argo, which the API does not know: it has no state.
_NOT_BEGUN = (None, "RUNTIME_STATE_UNSPECIFIED", "PENDING", "SKIPPED")
_DRIVER = "-driver"
_ROOT = "root"


class Outcome(Enum):
    """How a run ended."""

    PUSHED = "pushed"
    REJECTED = "rejected"
    FAILED = "failed"
    CANCELED = "canceled"
    UNKNOWN = "unknown"
    """It succeeded, and the backend tells of no tasks."""


@dataclass(frozen=True)
class Pace:
    """How often to ask, all in seconds."""

    shortest: float = 2.0
    longest: float = 30.0
    """Between the two, a twentieth of the time waited so far."""
    patience: float = 600.0
    """How long to go on while nobody answers."""


PACE = Pace()


def follow(
    fetch: Callable[[], Run],
    stages_of: Callable[[Run], Collection[str]],
    say: Callable[[str], None],
    *,
    pace: Pace,
    timeout: float | None = None,
) -> tuple[Run, Collection[str]]:
    """Says what happens to a run until it has ended, and returns it and its stages then.

    Args:
        fetch: asks for the run; raises ConnectionProblem.
        stages_of: names those of the run's tasks that are stages; asked once, raises ConnectionProblem.
        say: prints a line.
        pace: how often to ask.
        timeout: seconds after which to give up; None never does.

    Raises:
        ConnectionProblem: the backend was away for too long, refuses to tell, or has never known who asks.
        WaitedTooLong: ``timeout`` is over.
    """
    progress: Progress | None = None
    begin = time.monotonic()
    away_since: float | None = None
    known = False
    while True:
        try:
            run = fetch()
            known = True
            progress = progress or Progress(stages_of(run))
        except ConnectionProblem as problem:
            if isinstance(problem, Unauthenticated) and not known:
                raise
            now = time.monotonic()
            if not problem.may_pass or (away_since is not None and now - away_since > pace.patience):
                raise
            if away_since is None:
                away_since = now
                say(f"{problem}; trying again for up to {_duration(pace.patience)}")
        else:
            if away_since is not None:
                away_since = None
                say("It answers again")
            for line in progress.update(run):
                say(line)
            if run.state in _FINAL:
                return run, progress.stages
        waited = time.monotonic() - begin
        if timeout is not None and waited >= timeout:
            raise WaitedTooLong(f"not at its end after {_duration(timeout)}")
        pause = min(max(waited / 20, pace.shortest), pace.longest)
        time.sleep(pause if timeout is None else min(pause, timeout - waited))


@dataclass
class Progress:
    """Tells what is new in a run, a line for each stage that began or ended.

    A run's tasks are the nodes of Argo's workflow. A stage has two, of its own name and of the same with
    ``-driver``; the others belong to the backend.
    """

    stages: Collection[str]
    _states: dict[str, str] = field(default_factory=dict)

    def update(self, run: Run) -> Iterator[str]:
        """Yields the lines for what has changed since the last time."""
        tasks = _tasks(run)
        known = {name: task for name, task in tasks.items() if name in self.stages}
        for name, task in sorted(known.items(), key=lambda item: _seconds(item[1].start_time)):
            state = task.state or ""
            if self._states.get(name) == state:
                continue
            self._states[name] = state
            if state == "RUNNING":
                yield f"{_INDENT}{name} …"
            elif state in _FINAL:
                done = sum(state in _FINAL for state in self._states.values())
                yield f"[{done}/{len(self.stages)}] {name} {_ending(task)}"


def verdict(run: Run) -> Outcome:
    """Returns how a finished run ended: the condition of its last task is that a model was pushed."""
    if run.state == "CANCELED" or any(
        status.state in ("CANCELING", "CANCELED") for status in run.state_history or ()
    ):
        return Outcome.CANCELED
    if run.state != "SUCCEEDED":
        return Outcome.FAILED
    tasks = _tasks(run)
    if not tasks:
        return Outcome.UNKNOWN
    task = tasks.get(MODEL_PUSHED)
    match task.state if task else None:
        case "SUCCEEDED":
            return Outcome.PUSHED
        case "SKIPPED":
            return Outcome.REJECTED
        case _:
            return Outcome.FAILED


def tells_of_tasks(run: Run) -> bool:
    """Whether it is known what has begun."""
    return bool(_tasks(run))


def has_pushed(run: Run) -> bool | None:
    """Tells whether a model was pushed, however the run ended.

    None where it is not told: by a run without tasks, or where only the Pusher's log knows.
    """
    tasks = _tasks(run)
    if not tasks:
        return None
    pushed, driver, pusher = (
        task.state if task else None
        for task in map(tasks.get, (MODEL_PUSHED, f"{MODEL_PUSHED}{_DRIVER}", PUSHER))
    )
    if pushed == "SUCCEEDED":
        return True
    # Of a condition that is false, which the driver has looked at.
    refused = pusher == driver == "SUCCEEDED" and pushed == "SKIPPED"
    return False if refused or pusher in _NOT_BEGUN else None


def failures(run: Run, stages: Collection[str]) -> dict[str, str]:
    """Returns a line for each stage that failed, with the reason where the backend gives one.

    What failed outside of them stands under ``root``, which is all of the run to Argo.
    """
    found: dict[str, str] = {}
    for name, task in _tasks(run).items():
        stage = name.removesuffix(_DRIVER)
        if stage in stages and task.state == "FAILED":
            while_starting = " before it began" if name != stage else ""
            found[stage] = f"{stage} failed{while_starting}{_reason(task.error)}"
    if found:
        return found
    if run.state == "SUCCEEDED":
        return {_ROOT: f"the run ended without a state of {MODEL_PUSHED}, its verdict"}
    where = "outside its stages" if _tasks(run) else f"({UNTOLD})"
    return {_ROOT: f"the run failed {where}{_reason(run.error)}"}


def nodes(run: Run, stage: str) -> list[str]:
    """Returns the ids of Argo's nodes that did a stage's work."""
    task = _tasks(run).get(stage)
    return [child.pod_name for child in (task and task.child_tasks) or ()]


def _tasks(run: Run) -> dict[str, Task]:
    details = run.run_details.task_details if run.run_details else None
    # What a stage has written down for the cache is among them, without name and state.
    return {task.display_name: task for task in details or () if task.display_name}


def _ending(task: Task) -> str:
    match task.state:
        case "SUCCEEDED":
            # Argo's zero time, of a node that has none, lies in the year 1.
            seconds = _seconds(task.end_time) - _seconds(task.start_time)
            return _duration(max(seconds, 0.0))
        case "FAILED":
            return f"failed{_reason(task.error)}"
        case "SKIPPED":
            return "skipped"
        case _:
            return "cancelled"


def _reason(error: Any) -> str:
    message = " ".join((error.message or "").split()) if error else ""
    return f": {message}" if message else ""


def _seconds(moment: datetime | None) -> float:
    return moment.timestamp() if moment is not None and moment.year > 1 else 0.0


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes and rest else f"{minutes} min" if minutes else f"{rest} s"
