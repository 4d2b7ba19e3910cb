"""Kills local runs at random moments, and holds what becomes of them to a run that nobody disturbed.

    python -m benchmarks.kills --kills 40 --seed 0

A version is served when runs on other pictures are killed with ``kill -9``, one after the other in the same
work directory: in a stage or before it, while they start or sum up; the process alone, it with all that it
has started, or the serving check's server alone. No stage that is done may run again. After every tenth the
same command must finish, with the Examples, the evaluation and the served masks of a run that nobody
disturbed, and leave no file that this one does not leave. Ends with 1 if any of that is not so. A kill
that found nothing to kill is shown as missed and not counted; where all were, nothing was measured, which
ends with 1, too.
"""

import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Self, get_args

import psutil

from benchmarks.disturbed import (
    END,
    MODEL,
    START,
    Disturbed,
    Run,
    is_there,
    marked,
    run_result,
    served_run,
)
from components.model_store import store
from pipeline.command_line import command_parser

Victim = Literal["run", "all", "child"]
"""The process alone, it with all that it has started, or one that it has started, alone."""

ENDS_SECONDS: Final = 10
"""By then nothing that a killed run has started is there any more."""
_ANSWER_SECONDS: Final = 20
"""A server looks for new versions every second."""
_CHILD_SECONDS: Final = 60
_CHAIN: Final = 10
"""Kills, each of a run that goes on after the one before, until one is left alone."""
_TRIES: Final = "ServingCheck"
"""The stage that starts a server."""
_TELLS_OF_ALL: Final = "Report"
"""The stage that is done again where the serving check's verdict is another, or has its time anew."""
_BETWEEN: Final = "between two stages, or summing up"


@dataclass(frozen=True)
class Kill:
    """When to kill what."""

    place: str
    """A stage's name, or `END`."""
    before: bool
    """Not in the stage but on the way to it."""
    fraction: float
    """How far through the place, of the time that the undisturbed run took there."""
    victim: Victim


@dataclass(frozen=True)
class Row:
    """What became of a kill, or at the end of a chain of the run that was left alone."""

    kill: Kill | None
    where: str
    """Where the run was in fact."""
    hit: bool
    """Something was there to be killed."""
    seconds: float
    """Until the last process was gone; of the run that was left alone, until it was done."""
    broken: tuple[str, ...]


class Trials(Disturbed):
    """Kills runs of a command and holds them to an undisturbed one.

    Args:
        command: what runs, with its work directory; it prints events as ``--json`` does.
        workdir: that directory.
        scratch: an empty folder outside of it.
        result: reads what the run came to; of equal runs it is equal.
        promises: looks at a work directory in which a run was just killed; yields what is wrong with it.
    """

    def __init__(
        self,
        command: Sequence[str],
        workdir: Path,
        scratch: Path,
        result: Callable[[], Any],
        promises: Callable[[], Iterator[str]],
    ):
        super().__init__(command, workdir, scratch, result)
        self._promises = promises
        self._done: set[str] = set()

    def chain(self, kills: Sequence[Kill]) -> Iterator[Row]:
        """Kills runs in the order in which they come by, then lets one finish; yields what came of each."""
        self._done.clear()
        self.go_back(self.before)
        stages = [*self.undisturbed.stages, END]
        for kill in sorted(kills, key=lambda kill: (stages.index(kill.place), not kill.before)):
            yield self.kill(kill)
        yield self._finish()

    def kill(self, kill: Kill) -> Row:
        """Kills a run, and says what is not as promised."""
        with self.start() as run:
            hit = self._kill(run, kill)
            status, where = run.wait(), run.where
        seconds, left = _processes_end(run.mark)
        broken = [f"still there after {ENDS_SECONDS} s: {command}" for command in left]
        # 0: it was over before. 3: the serving check refuses, which holds for that run alone.
        if status not in ((0, 3) if kill.victim == "child" else (0, -signal.SIGKILL)):
            broken.append(f"the run ended with status {status}: {run.reasons}")
        broken += self._run_again(run)
        if kill.victim == "child":
            self._done -= {_TRIES, "Pusher"}
        return Row(kill, where, hit, seconds, (*broken, *self._promises()))

    def _finish(self) -> Row:
        started = time.monotonic()
        with self.start() as run:
            run.wait()
        seconds = time.monotonic() - started
        broken = (*self._run_again(run), *self.unlike_undisturbed(run))
        return Row(None, run.where, False, seconds, broken)

    def _run_again(self, run: Run) -> list[str]:
        """Says which stages were done before and have run again, and remembers those that are done now.

        Of a run that hung, it says that, too.
        """
        again = self._done & run.executed - {_TELLS_OF_ALL}
        self._done |= run.done
        hung = ["it hung, and was killed"] if run.hung else []
        return [*hung, *(f"{stage} was done, and ran again" for stage in sorted(again))]

    def _kill(self, run: Run, kill: Kill) -> bool:
        """Kills what is to be killed when it is time; tells whether anything was there."""
        waits = kill.fraction * self.undisturbed.seconds[kill.place, kill.before]
        hit = False
        if kill.before and kill.place == self.undisturbed.stages[0]:
            time.sleep(waits)
            hit = _send(run, kill.victim)
        for event in run.events():
            if self._reached(event) == (kill.place, kill.before):
                if kill.victim == "child":
                    # It comes somewhere in the stage, and is there for about half of it.
                    hit = _kill_a_child(run.pid, waits / 2)
                else:
                    time.sleep(waits)
                    hit = _send(run, kill.victim)
        return hit

    def _reached(self, event: Mapping[str, Any]) -> tuple[str, bool] | None:
        """The place that begins with an event."""
        stages = [*self.undisturbed.stages, END]
        match event["event"]:
            case "stage_started":
                return event["stage"], False
            case "stage_finished":
                following = stages[stages.index(event["stage"]) + 1]
                return following, following != END
        return None


def _send(run: Run, victim: Victim) -> bool:
    """Kills a run; tells whether it was still there."""
    there = False
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(run.pid)
        there = is_there(process)
        children = process.children(recursive=True) if victim == "all" else []
        for doomed in (process, *children):
            with suppress(psutil.NoSuchProcess):
                doomed.kill()
    return there


def _kill_a_child(pid: int, waits: float) -> bool:
    """Kills the first process that appears below another one, some seconds after it has appeared.

    Returns:
        Whether there was one, and still is.
    """
    end = time.monotonic() + _CHILD_SECONDS
    with suppress(psutil.NoSuchProcess):
        parent = psutil.Process(pid)
        while is_there(parent) and time.monotonic() < end:
            if children := parent.children():
                time.sleep(waits)
                living = [child for child in children if is_there(child)]
                for child in living:
                    child.kill()
                return bool(living)
            time.sleep(0.02)
    return False


def _processes_end(mark: str) -> tuple[float, list[str]]:
    """Waits for what has a mark in its environment; returns how long, and what is there after that."""
    started = time.monotonic()
    while left := list(marked(mark)):
        if time.monotonic() - started > ENDS_SECONDS:
            break
        time.sleep(0.05)
    return time.monotonic() - started, [str(process) for process in left]


def plan(stages: Sequence[str], kills: int, seed: int) -> list[Kill]:
    """Draws kills: in every stage two, on the way to each and at the end one, more where it is delicate."""
    rng = random.Random(seed)
    places: list[tuple[str, bool, bool]] = [
        *(2 * [(stage, False, False) for stage in stages]),
        *((stage, True, False) for stage in stages),
        (END, False, False),
        *(3 * [(_TRIES, False, True)]),
        *(3 * [("Pusher", False, False)]),
    ]
    rng.shuffle(places)
    drawn = []
    for index in range(kills):
        place, before, child = places[index % len(places)]
        victim: Victim = "child" if child else rng.choice(("run", "all"))
        drawn.append(Kill(place, before, rng.random(), victim))
    return drawn


class Served:
    """What the model server of a work directory answers, before and after the push."""

    def __init__(self, workdir: Path, pictures: Sequence[bytes]):
        from components.serving.process import ServerProcess
        from components.serving.server.options import ServerOptions

        self._base = workdir / "serving" / MODEL
        self._pictures = pictures
        self._options = ServerOptions(port=0, model_name=MODEL, model_base_path=str(self._base))
        self._server_process = ServerProcess
        self._seen = self._listed()
        # It goes on through all trials: what it sees is what a server in production sees.
        self.server = ServerProcess(self._options)
        self._known: list[Any] = []

    def __enter__(self) -> Self:
        self.server.start()
        self._known.append(self._ask(self.server.target))
        return self

    def __exit__(self, *_: object) -> None:
        self.server.stop()

    def result(self) -> Any:
        """What the pushed version answers; it is waited for."""
        newest = store.newest(self._base)
        assert newest is not None
        end = time.monotonic() + _ANSWER_SECONDS
        while True:
            version, answer = self._ask(self.server.target)
            if version == newest.number:
                break
            if time.monotonic() > end:
                raise RuntimeError(f"the server answers with version {version}, not with {newest.number}")
            time.sleep(0.2)
        self._known.append((version, answer))
        return answer

    def promises(self) -> Iterator[str]:
        """Yields what is served and should not be."""
        for number in store.versions(self._base):
            path = self._base / str(number)
            if what := store.damage(path):
                yield what
            elif not (path / store.PROVENANCE_FILE).exists():
                yield f"version {number} has no {store.PROVENANCE_FILE}"
        known = [answer for _, answer in self._known]
        with ExitStack() as stack:
            targets = [self.server.target]
            if self._listed() != self._seen:
                targets.append(stack.enter_context(self._server_process(self._options)).target)
            for target in targets:
                _, answer = self._ask(target)
                if answer not in known:
                    yield f"the server at {target} answers as neither version does"

    def _listed(self) -> list[str]:
        return sorted(path.name for path in self._base.iterdir())

    def _ask(self, target: str) -> tuple[int, Any]:
        from components.serving.client import SegmentationClient

        with SegmentationClient(target, MODEL) as client:
            answers = client.predict(self._pictures)
        shares = [(answer.mask_bytes, answer.class_fraction.tobytes()) for answer in answers]
        return answers[0].version, shares


def _pictures() -> list[bytes]:
    from components.image_mask_example_gen.config import ShapesConfig
    from components.image_mask_example_gen.shapes import draw_dataset

    with tempfile.TemporaryDirectory() as folder:
        draw_dataset(Path(folder), ShapesConfig(num_images=4, seed=99))
        return [path.read_bytes() for path in sorted(Path(folder).rglob("*.jpg"))]


def _show(row: Row) -> None:
    kill, outcome = row.kill, "; ".join(row.broken) or "as promised"
    if kill is None:
        print(f"left alone: {row.where} after {row.seconds:.1f} s: {outcome}", flush=True)
        return
    place = f"{'before' if kill.before else 'in'} {kill.place} {kill.fraction:.2f}"
    what = "killed" if row.hit else "missed"
    print(
        f"{place:32} {kill.victim:5}  {what} {row.where:28} gone after {row.seconds:4.1f} s: {outcome}",
        flush=True,
    )


def _table(rows: Sequence[Row], stages: Sequence[str]) -> Iterator[str]:
    """Yields a table of Markdown: where how much was when what was killed, and how many broke a promise."""
    yield "| in | run | all | child | broken |"
    yield "|---|---|---|---|---|"
    kills = [(row.kill, row) for row in rows if row.kill and row.hit]
    for place in ("its start", *stages, _BETWEEN):
        here = [(kill, row) for kill, row in kills if _place(row, stages) == place]
        if not here:
            continue
        counts = Counter(kill.victim for kill, _ in here)
        broken = sum(bool(row.broken) for _, row in here)
        numbers = " | ".join(str(counts[victim] or "") for victim in get_args(Victim))
        yield f"| {place} | {numbers} | {broken or ''} |"


def _place(row: Row, stages: Sequence[str]) -> str:
    if row.where == START:
        return "its start"
    # What a child was killed in goes on.
    stage = _TRIES if row.kill and row.kill.victim == "child" else row.where.removeprefix("in ")
    return stage if stage in stages else _BETWEEN


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the trials, says what came of each, and returns 1 if any promise was broken or nothing was hit."""
    parser = command_parser("benchmarks.kills", __doc__)
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    rows: list[Row] = []
    failed = 0
    with served_run("kills-") as (workdir, scratch, command), Served(workdir, _pictures()) as served:

        def result() -> dict[str, Any]:
            return {**run_result(workdir), "the served masks": served.result()}

        other_pictures = [*command, "--set=dataset.shapes.seed=1"]
        trials = Trials(other_pictures, workdir, scratch, result, served.promises)
        planned = plan(trials.undisturbed.stages, args.kills, args.seed)
        for first in range(0, len(planned), _CHAIN):
            try:
                for row in trials.chain(planned[first : first + _CHAIN]):
                    rows.append(row)
                    _show(row)
            except Exception:
                # The chains to come do not depend on this one.
                traceback.print_exc()
                failed += 1
    print("\n".join(_table(rows, trials.undisturbed.stages)))
    broken = failed + sum(bool(row.broken) for row in rows)
    hits = [row for row in rows if row.kill and row.hit]
    missed = sum(row.kill is not None for row in rows) - len(hits)
    slowest = max((row.seconds for row in hits), default=0.0)
    print(
        f"{len(hits)} kills, and {missed} that hit nothing; {broken} broke a promise; "
        f"all was gone after {slowest:.1f} s at most"
    )
    return 0 if hits and not broken else 1


if __name__ == "__main__":
    sys.exit(main())
