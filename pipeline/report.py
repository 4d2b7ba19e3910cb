"""Sets two runs side by side on one page: verdicts, metrics, classes, curves, examples, and what differs.

    python -m pipeline.report --compare RUN_A RUN_B                    runs below runs/
    python -m pipeline.report --compare RUN_A RUN_B --workdir DIR      runs of one work directory
    python -m pipeline.report --compare A/report.json B/report.json    pages' data from anywhere

A run is given by its id, as ``python -m pipeline.runs`` lists them, by its folder, or by its report.json.

Ends with 0, or 2 if the command is wrong, there is no such run or report, or the page cannot be written;
130 after Ctrl-C or SIGTERM.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from components.dataset.contracts import write_whole
from components.report.comparison import Comparison
from components.report.data import DATA_FILE, PAGE_FILE, ReportData
from components.streams import open_missing_streams
from pipeline import interrupt
from pipeline.command_line import USAGE, UsageError, command_parser, non_empty, non_empty_path
from pipeline.local.workdir import WORKDIRS, WorkDir
from pipeline.terminal import complain, show


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    args = _parser().parse_args(argv)
    # A path may hold what an encoding cannot say.
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        left, right = (_load(run, args.workdir) for run in args.compare)
        # Jinja2 and what it needs: not for --help.
        from components.report.page import render_comparison

        if not args.output.name:
            raise UsageError(f"--output {args.output} is a folder; name a file")
        if args.output.name in (PAGE_FILE, DATA_FILE) and os.path.exists(args.output):
            raise UsageError(
                f"--output {args.output} is there and has the name of a run's own; choose another file"
            )
        try:
            write_whole(args.output, render_comparison(Comparison(left, right)))
        except OSError as error:
            raise UsageError(
                f"cannot write {args.output}: {error.strerror}; choose another --output"
            ) from None
    except UsageError as error:
        complain(f"error: {error}")
        return USAGE
    except KeyboardInterrupt:
        complain("interrupted, nothing was written")
        return interrupt.EXIT_CODE
    show(str(args.output))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("pipeline.report", __doc__)
    parser.add_argument(
        "--compare",
        nargs=2,
        required=True,
        type=non_empty,
        metavar=("RUN_A", "RUN_B"),
        help="two runs: ids, folders or report.json files",
    )
    parser.add_argument("--workdir", type=non_empty_path, metavar="DIR", help="where run ids are looked for")
    parser.add_argument(
        "--output",
        type=non_empty_path,
        default=Path("comparison.html"),
        metavar="FILE",
        help="default: %(default)s",
    )
    return parser


def _load(run: str, workdir: Path | None) -> ReportData:
    path = _find(run, workdir)
    try:
        return ReportData.load(path)
    except OSError as error:
        raise UsageError(f"{path} has no {DATA_FILE} that can be read: {error.strerror}") from None
    except ValueError:
        raise UsageError(
            f"{path} holds no {DATA_FILE} of this version of the pipeline; if an earlier one wrote it, "
            "run the recipe in its work directory again, and compare that run"
        ) from None


def _find(run: str, workdir: Path | None) -> Path:
    """The file or folder that a run's id or path stands for."""
    workdirs = [workdir] if workdir else sorted(path for path in WORKDIRS.glob("*") if os.path.isdir(path))
    if run not in (".", "..") and "/" not in run:
        for directory in workdirs:
            past = WorkDir(directory).past(run)
            # Not Path's: of a name too long for a file that would raise.
            if os.path.isdir(past):
                return past
    if os.path.exists(run):
        return Path(run)
    where = str(workdir) if workdir else f"the work directories in {WORKDIRS}/"
    raise UsageError(f"no run {run!r} in {where}, and no such file; `python -m pipeline.runs` lists the runs")


if __name__ == "__main__":
    # First: a pipe for signals would get the descriptor of a stream that is missing.
    open_missing_streams()
    interrupt.Interrupt()
    sys.exit(main())
