"""Runs meet disks that are full or read-only, and are held to a run that nobody disturbed.

    python -m benchmarks.full_disks [--places metadata.sqlite serving ...]

A version is served when runs on other pictures meet a small tmpfs in place of one part of the work directory:
full to the last byte, with a few kB of room, or read-only. Each must end with its documented status, say why
in one line, and leave what was served whole, the summary and the page old or new, and no temporary file. A
run begins where the one before ended, what that wrote then being on a disk with room; unless that has pushed.
After those of a place, and each that has pushed, the same command must finish, with the Examples and the
evaluation of a run that nobody disturbed, and leave no file that this one does not leave. Ends with 1 if any
of that is not so, with 2 where nothing may be mounted: that takes root, or namespaces for everybody, and
unshare and mount of util-linux.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, get_args

from benchmarks.disturbed import MODEL, Disturbed, run_result, served_run
from components.model_store import store
from components.report.run_summary import RunSummary
from pipeline.command_line import command_parser

Trouble = Literal["read-only", "full", "some room"]
ROOM: Final = 8
"""Kilobytes that are left where there is some room: two pages, so that two small files are written."""
_SUMMARY: Final = "summary.json"
_PAGE: Final = "report/index.html"

_MOUNTED: Final = """
place=$1 trouble=$2 room=$3 disk=$4
shift 4
mount -t tmpfs -o size=256m,mode=755 tmpfs "$disk"
inside=$disk
if [ -d "$place" ]; then cp -a "$place/." "$inside"; else inside=$disk/file; cp -a "$place" "$inside"; fi
# A tmpfs of size 0 has no limit.
head -c 4096 /dev/zero > "$disk/.filler"
case $trouble in
  read-only) options=remount,ro ;;
  *) options="remount,size=$(($(df --output=used "$disk" | tail -n 1) + room))k" ;;
esac
# The options there are name an owner that a namespace for one user does not know.
mount --options-mode=ignore -o "$options" "$disk"
mount --bind "$inside" "$place"
status=0
"$@" || status=$?
umount "$place"
if [ -d "$place" ]; then
  find "$place" -mindepth 1 -delete
  cp -a "$disk/." "$place"
  rm "$place/.filler"
else
  cp -a "$inside" "$place"
fi
exit "$status"
"""
"""Runs a command over a mount, and then moves what lies there to where there is room."""


@dataclass(frozen=True)
class Place:
    """A part of the work directory, and with which status a run may end where it cannot be written."""

    name: str
    path: Path
    full: tuple[int, ...] = (1,)
    read_only: tuple[int, ...] = (1,)

    def statuses(self, trouble: Trouble) -> tuple[int, ...]:
        if trouble == "read-only":
            return self.read_only
        return self.full if trouble == "full" else (0, *self.full)


@dataclass(frozen=True)
class Row:
    """What became of a run, and of the one without trouble where that came next."""

    place: str
    trouble: Trouble
    status: int
    said: str
    seconds: float
    broken: tuple[str, ...]


def namespace() -> list[str]:
    """Returns the command that gives another one mounts of its own."""
    return ["unshare", *([] if os.geteuid() == 0 else ["--map-root-user"]), "--mount"]


def mounted(place: Path, trouble: Trouble, disk: Path) -> list[str]:
    """Returns what is put before a command that is to find a place in trouble, with a folder to mount at."""
    room = ROOM if trouble == "some room" else 0
    return [*namespace(), "sh", "-euc", _MOUNTED, "sh", str(place), trouble, str(room), str(disk)]


def obstacle() -> str:
    """Says why nothing may be mounted here; empty if it may."""
    if missing := [name for name in ("unshare", "mount") if shutil.which(name) is None]:
        return f"no {' and no '.join(missing)} here; install util-linux"
    with tempfile.TemporaryDirectory() as folder:
        trial = [*namespace(), "mount", "-t", "tmpfs", "tmpfs", folder]
        tried = subprocess.run(trial, capture_output=True, text=True, check=False)
    if tried.returncode:
        said = " ".join(tried.stderr.split())
        return f"nothing may be mounted here: {said}; run this as root, or where users may have namespaces"
    return ""


def places(workdir: Path, temporary: Path, stages: Sequence[str]) -> Iterator[Place]:
    """Yields where a run writes, in the order in which it comes by: what is done is not done again."""
    yield Place("all of it", workdir, full=(1, 2), read_only=(2,))
    for stage in stages:
        match stage:
            case "Trainer":
                yield Place("checkpoints", workdir / "checkpoints")
            case "Pusher":
                yield Place("serving", workdir / "serving")
        # Pushed is pushed, whatever becomes of the page.
        statuses = (0,) if stage == "Report" else (1,)
        yield Place(stage, workdir / "artifacts" / stage, statuses, statuses)
        if stage == stages[0]:
            yield Place("metadata.sqlite", workdir / "metadata.sqlite", read_only=(2,))
            # Python takes another place where it cannot write a file there.
            yield Place("TMPDIR", temporary, full=(0, 1), read_only=(0,))
    yield Place("history", workdir / "history")
    yield Place("report", workdir / "report", full=(0,), read_only=(0,))
    yield Place("logs", workdir / "logs", full=(0,), read_only=(2,))


class Trials(Disturbed):
    """Lets runs of a command meet full disks; see `Disturbed` for its arguments."""

    def __init__(self, command: Sequence[str], workdir: Path, scratch: Path, result: Callable[[], Any]):
        super().__init__(command, workdir, scratch, result)
        self._scratch = scratch
        self._state = self.before

    def meet(self, place: Place, trouble: Trouble, last: bool) -> Row:
        """Runs the command in trouble, and without after the last one; says what is not as promised."""
        started = time.monotonic()
        self._copy(self._state, self.workdir)
        earlier = {name: _read(self.workdir / name) for name in (_SUMMARY, _PAGE)}
        disk = self._scratch / "disk"
        disk.mkdir(exist_ok=True)
        errors = self._scratch / "stderr"
        with errors.open("w") as stderr, self.start(mounted(place.path, trouble, disk), stderr) as run:
            status = run.wait()
        written = errors.read_text(errors="replace")
        said = run.reasons or written.strip()
        broken = ["it hung, and was killed"] if run.hung else []
        if status not in place.statuses(trouble):
            broken.append(f"it ended with status {status}: {run.where}")
        if bool(said) != bool(status) or len(said.splitlines()) > 1 or "Traceback" in said + written:
            broken.append(f"it did not say why in one line: {said!r}, {written!r}")
        # What comes next empties that folder.
        broken += self.temporary_files()
        broken += self._not_whole(earlier, run.run_id)
        seconds = time.monotonic() - started
        pushed = "Pusher" in run.done
        if not pushed:
            self._state = self._scratch / "state"
            self._copy(self.workdir, self._state)
        if pushed or last:
            with self.start() as alone:
                alone.wait()
            broken += self.unlike_undisturbed(alone)
        return Row(place.name, trouble, status, said, seconds, tuple(broken))

    def _not_whole(self, earlier: Mapping[str, bytes], run_id: str) -> Iterator[str]:
        """Yields what is half there of what people read and servers load, or of another run."""
        for base in self.workdir.glob("serving/*"):
            yield from filter(None, (store.damage(base / str(number)) for number in store.versions(base)))
        for kept in self.before.glob("serving/*/*/saved_model.pb"):
            if not (self.workdir / kept.relative_to(self.before)).exists():
                yield f"version {kept.parent.name} is gone"
        page = _read(self.workdir / _PAGE)
        pages = [_read(path) for path in self.workdir.glob("history/*/index.html")]
        if page not in (earlier[_PAGE], *pages):
            yield f"{_PAGE} is neither the old one nor that of a run"
        summary = self.workdir / _SUMMARY
        try:
            written_by = RunSummary.load(summary).run_id
        except (OSError, ValueError) as error:
            yield f"{_SUMMARY}: {error}"
        else:
            if _read(summary) != earlier[_SUMMARY] and written_by != run_id:
                yield f"{_SUMMARY} is neither the old one nor that of this run"

    def _copy(self, source: Path, target: Path) -> None:
        for folder in (target, self.temporary):
            shutil.rmtree(folder, ignore_errors=True)
        self.temporary.mkdir()
        # Links stay links.
        shutil.copytree(source, target, symlinks=True)


def _read(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


def _table(rows: Sequence[Row]) -> Iterator[str]:
    """Yields a table of Markdown: with which status runs ended, and which stage they say has failed."""
    troubles = get_args(Trouble)
    yield f"| place | {' | '.join(troubles)} |"
    yield f"|---|{len(troubles) * '---|'}"
    for place in dict.fromkeys(row.place for row in rows):
        cells = {row.trouble: _cell(row) for row in rows if row.place == place}
        yield f"| {place} | {' | '.join(cells.get(trouble, 'not measured') for trouble in troubles)} |"


def _cell(row: Row) -> str:
    failed = f", {row.said.split(' failed:')[0]}" if " failed:" in row.said else ""
    return f"{row.status}{failed}" + (", **broken**" if row.broken else "")


def main(argv: Sequence[str] | None = None) -> int:
    """Lets runs meet full disks, says what came of each, and returns 1 if any promise was broken."""
    parser = command_parser("benchmarks.full_disks", __doc__)
    parser.add_argument(
        "--places", nargs="+", metavar="NAME", help="a stage, or a part of the work directory; default: all"
    )
    args = parser.parse_args(argv)
    if why := obstacle():
        print(why, file=sys.stderr)
        return 2
    rows: list[Row] = []
    failed = 0
    with served_run("full-disks-") as (workdir, scratch, command):
        # The pictures have no part in it, so it would be cached.
        shutil.rmtree(workdir / "artifacts/CuratedSchema/schema")

        def result() -> dict[str, Any]:
            return {**run_result(workdir), "versions": len(store.versions(workdir / "serving" / MODEL))}

        trials = Trials([*command, "--set=dataset.shapes.seed=1"], workdir, scratch, result)
        there = {place.name: place for place in places(workdir, trials.temporary, trials.undisturbed.stages)}
        if unknown := set(args.places or ()) - set(there):
            parser.error(f"--places: no {', '.join(sorted(unknown))}; there are {', '.join(there)}")
        for place in (place for name, place in there.items() if name in (args.places or there)):
            for trouble in get_args(Trouble):
                try:
                    row = trials.meet(place, trouble, last=trouble == get_args(Trouble)[-1])
                except Exception:
                    # The rows to come do not depend on this one.
                    traceback.print_exc()
                    failed += 1
                    continue
                rows.append(row)
                outcome = "; ".join(row.broken) or "as promised"
                print(
                    f"{row.place}, {trouble}: {row.status} {row.said} ({row.seconds:.0f} s): {outcome}",
                    flush=True,
                )
    print("\n".join(_table(rows)))
    broken = failed + sum(bool(row.broken) for row in rows)
    print(f"{len(rows) + failed} troubles, {broken} of them broke a promise")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
