"""Lists the runs that work directories remember, and shows or deletes one.

    python -m pipeline.runs                                   all below runs/, the newest first
    python -m pipeline.runs --workdir DIR                     those of one work directory
    python -m pipeline.runs show RUN_ID                       metrics, reasons, stages, where things are
    python -m pipeline.runs delete RUN_ID                     asks first, unless --yes is given

Deleted is what only that run has: its folder in history/ with summary and report, and its log. Kept are
artifacts/, metadata.sqlite, checkpoints/ and serving/: other runs reuse them, and served versions are served.
Where the newest run is deleted, summary.json and report/ become those of the run before.

Ends with 0, or 2 if the command is wrong, there is no such run, or it cannot be deleted; 130 after Ctrl-C
or SIGTERM.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

from components.durations import duration
from components.report.run_summary import Stage
from components.streams import open_missing_streams
from pipeline import interrupt
from pipeline.command_line import USAGE, UsageError, command_parser, non_empty_path
from pipeline.local.last_lines import result_lines
from pipeline.local.workdir import (
    WORKDIRS,
    PastRun,
    WorkDir,
    WorkDirError,
    delete_run,
    entries,
    is_workdir,
    nearest,
    past_runs,
)
from pipeline.terminal import complain, leave_stdout, settle_stdout, short_path

_COLUMNS: Final = ("RUN", "STARTED", "RECIPE", "VERDICT", "VERSION", "MEAN IOU", "TOOK")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    args = _parser().parse_args(argv)
    for stream in (sys.stdout, sys.stderr):
        # A path may hold what an encoding cannot say.
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        workdirs = _workdirs(getattr(args, "workdir", None))
        runs = {workdir: _runs(workdir) for workdir in workdirs}
        as_json = getattr(args, "json", False)
        if args.command is None:
            _list(runs, as_json)
        else:
            run = _find(args.run_id, [run for found in runs.values() for run in found])
            _show(run, as_json) if args.command == "show" else _delete(run, args.yes, as_json)
        sys.stdout.flush()
    except BrokenPipeError:
        leave_stdout()
    except (UsageError, WorkDirError) as error:
        complain(error)
        return USAGE
    except OSError as error:
        settle_stdout()
        complain(f"{error.filename}: {error.strerror}" if error.filename else error)
        return USAGE
    except KeyboardInterrupt:
        complain("\ninterrupted")
        return interrupt.EXIT_CODE
    return 0


def _workdirs(named: Path | None) -> list[WorkDir]:
    if named is None:
        return [WorkDir(path) for path in entries(WORKDIRS) if is_workdir(path)]
    if not named.is_dir():
        raise UsageError(
            f"there is no work directory {named}; without --workdir, all below {WORKDIRS}/ are listed"
        )
    return [WorkDir(named)]


def _runs(workdir: WorkDir) -> list[PastRun]:
    runs, unreadable = past_runs(workdir)
    for entry in unreadable:
        complain(f"{short_path(entry.path)} is left out: {entry.why}")
    return runs


def _find(run_id: str, runs: Sequence[PastRun]) -> PastRun:
    found = [run for run in runs if run.run_id == run_id]
    if len(found) > 1:
        places = ", ".join(short_path(run.workdir.root) for run in found)
        raise UsageError(f"run {run_id} is in {places}; say which with --workdir")
    if found:
        return found[0]
    suggestion = nearest(run_id, runs)
    remedy = f"did you mean {suggestion}?" if suggestion else "there are no runs at all"
    raise UsageError(f"there is no run {run_id}; {remedy}")


def _list(runs: dict[WorkDir, list[PastRun]], as_json: bool) -> None:
    if as_json:
        for found in runs.values():
            for run in found:
                print(json.dumps(_entry(run)))
        return
    if not runs:
        print(f"There are no runs below {WORKDIRS}/ yet; python -m pipeline.run_local makes one.")
    for number, (workdir, found) in enumerate(runs.items()):
        print(f"{'' if number == 0 else chr(10)}{short_path(workdir.root)}")
        if found:
            print("\n".join(_table([_COLUMNS, *map(_row, found)])))
        else:
            print("  no runs")


def _entry(run: PastRun) -> dict[str, object]:
    summary = run.summary
    return {
        "workdir": str(run.workdir.root),
        "run_id": run.run_id,
        "started_at": _iso(summary.started_at),
        "finished_at": _iso(summary.finished_at),
        "seconds": run.seconds,
        "recipe": summary.recipe,
        "verdict": summary.verdict,
        "pushed_version": summary.pushed_version,
        "mean_iou": summary.metrics.get("mean_iou") if summary.metrics else None,
    }


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None


def _row(run: PastRun) -> tuple[str, ...]:
    summary = run.summary
    mean_iou = summary.metrics.get("mean_iou") if summary.metrics else None
    return (
        run.run_id,
        summary.started_at.strftime("%Y-%m-%d %H:%M") if summary.started_at else "-",
        summary.recipe,
        summary.verdict,
        "-" if summary.pushed_version is None else str(summary.pushed_version),
        "-" if mean_iou is None else f"{mean_iou:.3f}",
        duration(run.seconds),
    )


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
        yield f"  {'  '.join(cells)}".rstrip()


def _show(run: PastRun, as_json: bool) -> None:
    if as_json:
        places = {"workdir": str(run.workdir.root), "log": str(run.log)}
        print(json.dumps({**places, "summary": json.loads(run.path.read_text(encoding="utf-8"))}))
        return
    summary = run.summary
    print(f"Run {run.run_id} of recipe {summary.recipe}, work directory {short_path(run.workdir.root)}")
    version = f" as version {summary.pushed_version}" if summary.pushed_version is not None else ""
    print(f"{summary.verdict.capitalize()}{version}{':' if summary.reasons else ''}")
    for reason in summary.reasons:
        print(f"  {reason}")
    if summary.started_at and summary.finished_at:
        print(
            f"Started {summary.started_at:%Y-%m-%d %H:%M:%S}, ended {summary.finished_at:%Y-%m-%d %H:%M:%S}"
        )
    print(f"Took {duration(run.seconds)}")
    if results := list(result_lines(summary)):
        print("\n" + "\n".join(results))
    if summary.stages:
        stages = [(stage.name, _took(stage), _memory(stage)) for stage in summary.stages]
        print()
        print("\n".join(_table([("STAGE", "TOOK", "PEAK MEMORY"), *stages])))
    print()
    for what, path in _places(run):
        print(f"{what:<9}{short_path(path)}{'' if path.exists() else ' (no longer there)'}")


def _took(stage: Stage) -> str:
    return "cached" if stage.cached else duration(stage.seconds)


def _memory(stage: Stage) -> str:
    return "-" if stage.memory_mb is None else f"{stage.memory_mb:.0f} MB"


def _places(run: PastRun) -> Iterator[tuple[str, Path]]:
    summary = run.summary
    if summary.pushed_version is not None:
        version = str(summary.pushed_version)
        here = run.workdir.serving(summary.model_name) / version
        yield "Model:", _first_there(here, Path(summary.serving_dir, version))
    if summary.report:
        newest = run.path == run.workdir.summary
        here = run.workdir.report if newest else run.path.with_name(Path(summary.report).name)
        yield "Report:", _first_there(here, Path(summary.report))
    yield "Summary:", run.path
    yield "Log:", run.log


def _first_there(here: Path, told: Path) -> Path:
    """Where it lies: a work directory may have been moved since its summaries told of places."""
    return here if here.exists() else told


def _delete(run: PastRun, sure: bool, as_json: bool) -> None:
    if not sure:
        if as_json or sys.stdin is None or not sys.stdin.isatty():
            raise UsageError(
                f"nothing was deleted: nobody can be asked here; say --yes to delete {run.run_id}"
            )
        question = f"Delete run {run.run_id} of recipe {run.summary.recipe} ({run.summary.verdict})? [y/N] "
        if not _is_yes(question):
            print("Nothing was deleted.")
            return
    # No run may be at work here, which would write summary.json, too.
    with run.workdir.locked():
        gone = delete_run(run)
    if as_json:
        print(json.dumps({"deleted": [str(path) for path in gone]}))
    else:
        print("\n".join(f"Deleted {short_path(path)}" for path in gone))


def _is_yes(question: str) -> bool:
    try:
        return input(question).strip().lower() in ("y", "yes")
    except EOFError:
        # Ctrl-D; the line is still open.
        print()
        return False


def _parser() -> argparse.ArgumentParser:
    shared = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    # Understood before and after the command; what is not given must not overwrite what is.
    shared.add_argument(
        "--workdir",
        type=non_empty_path,
        default=argparse.SUPPRESS,
        metavar="DIR",
        help=f"one work directory; default: all below {WORKDIRS}/",
    )
    shared.add_argument(
        "--json", action="store_true", default=argparse.SUPPRESS, help="write one JSON object a line"
    )
    parser = command_parser("pipeline.runs", __doc__, [shared])
    commands = parser.add_subparsers(dest="command", metavar="show|delete", title="commands")
    show = commands.add_parser("show", parents=[shared], allow_abbrev=False, help="show a run")
    delete = commands.add_parser("delete", parents=[shared], allow_abbrev=False, help="delete a run")
    for command in (show, delete):
        command.add_argument("run_id", metavar="RUN_ID", help="as listed")
    delete.add_argument("--yes", action="store_true", help="do not ask")
    return parser


if __name__ == "__main__":
    # First: a pipe for signals would get the descriptor of a stream that is missing.
    open_missing_streams()
    interrupt.Interrupt()
    sys.exit(main())
