"""Versions appear whole, in order, and never disappear half."""

import errno
import fcntl
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Any
from unittest.mock import Mock

import pytest
from pushed_models import serving_base, write_model, written_model

from components.errors import StageError
from components.model_store import publishing, store

base, model = serving_base, written_model


@pytest.fixture
def frozen_second(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(time, "time", lambda: 1_700_000_000.9)
    return 1_700_000_000


def what_a_server_sees(base: Path) -> list[str]:
    return [path.name for path in base.iterdir() if path.name.isdecimal()] if base.is_dir() else []


def entries(base: Path) -> list[str]:
    return sorted(path.name for path in base.iterdir())


def start_python(code: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], stdout=subprocess.PIPE, text=True, cwd=Path.cwd()
    )


def test_a_published_version_holds_the_model_and_where_it_came_from(model: Path, base: Path) -> None:
    before = int(time.time())
    number = publishing.publish(model, base, {"push_token": "p", "baseline_token": "nothing"})
    assert before <= number <= time.time()
    version = store.newest(base)
    assert version == store.Version(number, base / str(number))
    assert version.fingerprint() == store.content_fingerprint(model)
    provenance = version.provenance()
    assert provenance.pop("pushed_at").endswith("+00:00")
    assert provenance == {
        "push_token": "p",
        "baseline_token": "nothing",
        "model_fingerprint": store.content_fingerprint(model),
    }
    assert not (model / store.PROVENANCE_FILE).exists()


def test_pushes_within_one_second_still_get_rising_versions(
    model: Path, base: Path, frozen_second: int
) -> None:
    numbers = [publishing.publish(model, base, {}) for _ in range(3)]
    assert numbers == [frozen_second, frozen_second + 1, frozen_second + 2]


def test_a_clock_set_back_does_not_make_the_newest_version_an_older_number(model: Path, base: Path) -> None:
    future = int(time.time()) + 10_000
    write_model(base / str(future))
    assert publishing.publish(model, base, {}) == future + 1


@pytest.mark.parametrize("renamed", [".withdrawn-{}", ".damaged-{}", ".withdrawn-{}-red-edges"])
def test_a_number_that_was_taken_out_of_service_is_not_given_again(
    model: Path, base: Path, frozen_second: int, renamed: str
) -> None:
    """Where a clock was ahead once, numbers follow each other."""
    write_model(base / str(frozen_second + 10_000))
    bad = publishing.publish(model, base, {})
    (base / str(bad)).rename(base / renamed.format(bad))
    assert publishing.publish(model, base, {}) == bad + 1


def test_a_number_too_high_for_a_server_is_no_version(model: Path, base: Path, frozen_second: int) -> None:
    for name in ("20240101120000123456", ".withdrawn-20240101120000123456", f".damaged-{2**63 - 1}"):
        write_model(base / name)
    assert publishing.publish(model, base, {}) == frozen_second
    assert store.versions(base) == [frozen_second]


def test_every_push_has_a_number_that_the_store_sees(model: Path, base: Path, frozen_second: int) -> None:
    last = 2**63 - 2
    write_model(base / f".withdrawn-{last}")
    assert publishing.publish(model, base, {}) == frozen_second
    write_model(base / f".damaged-{last - 1}")
    assert publishing.publish(model, base, {}) == last
    assert store.versions(base) == [frozen_second, last]
    with pytest.raises(StageError, match=f"/{last} leaves no number for a newer version; give"):
        publishing.publish(model, base, {})
    assert store.versions(base) == [frozen_second, last]


@pytest.mark.parametrize("obstacle", ["empty directory", "file"])
def test_a_number_taken_by_anything_is_not_used(
    model: Path, base: Path, frozen_second: int, obstacle: str
) -> None:
    taken = base / str(frozen_second)
    base.mkdir(parents=True)
    if obstacle == "file":
        taken.touch()
    else:
        taken.mkdir()
    assert publishing.publish(model, base, {}) == frozen_second + 1


def test_a_number_taken_at_the_last_moment_is_left_alone(
    model: Path, base: Path, frozen_second: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def intruder_first(source: Path, target: Path) -> Path:
        if target.name == str(frozen_second):
            write_model(target, "intruder")
        return rename(source, target)

    monkeypatch.setattr(Path, "rename", intruder_first)
    assert publishing.publish(model, base, {}) == frozen_second + 1
    assert "intruder" in (base / str(frozen_second) / "saved_model.pb").read_text()


def test_a_rename_whose_answer_was_lost_is_done(
    model: Path, base: Path, frozen_second: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NFS repeats the request, and the second one finds nothing to rename."""
    rename = Path.rename

    def repeated(source: Path, target: Path) -> Path:
        rename(source, target)
        return rename(source, target)

    monkeypatch.setattr(Path, "rename", repeated)
    write_model(base / "1")
    assert publishing.publish(model, base, {}) == frozen_second
    assert store.damage(base / str(frozen_second)) == ""
    assert publishing.prune(base, keep=1) == [1]
    assert entries(base) == [".lock", str(frozen_second)]


def test_a_push_gives_up_where_every_number_is_taken_at_the_last_moment(
    model: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def intruder_always_first(source: Path, target: Path) -> Path:
        write_model(target, "intruder")
        return rename(source, target)

    monkeypatch.setattr(Path, "rename", intruder_always_first)
    with pytest.raises(FileExistsError, match="stop what else writes versions there"):
        publishing.publish(model, base, {})
    assert not (base / ".publishing").exists()


PUBLISH = """
import sys
from pathlib import Path
from components.model_store import publishing, store
for _ in range(int(sys.argv[3])):
    print(publishing.publish(Path(sys.argv[1]), Path(sys.argv[2]), {}), flush=True)
"""


def test_processes_that_push_at_once_get_versions_of_their_own(model: Path, base: Path) -> None:
    processes = [start_python(PUBLISH, model, base, 5) for _ in range(2)]
    numbers = [int(line) for process in processes for line in process.communicate()[0].split()]
    assert len(numbers) == 10
    assert sorted(numbers) == store.versions(base)


def test_a_push_says_that_it_waits_for_another(
    model: Path, base: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    base.mkdir(parents=True)
    flock, said = fcntl.flock, f"another process is changing the versions under {base}: waiting for it"
    with (base / ".lock").open("a") as other:
        flock(other, fcntl.LOCK_EX)

        def released(file: IO[str], how: int) -> None:
            if not how & fcntl.LOCK_NB:
                assert said in caplog.text
                flock(other, fcntl.LOCK_UN)
            flock(file, how)

        monkeypatch.setattr(fcntl, "flock", released)
        publishing.publish(model, base, {})
    assert caplog.text.count(said) == 1


def test_a_disk_without_locks_is_one_line_and_found_out_before_a_push(
    model: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publishing.check_lock(base)
    monkeypatch.setattr(fcntl, "flock", Mock(side_effect=OSError(errno.ENOLCK, "No locks available")))
    message = re.escape(f"{base} cannot be locked: No locks available; keep served models on a disk that can")
    with pytest.raises(StageError, match=f"^{message}$"):
        publishing.check_lock(base)
    assert entries(base.parents[1]) == ["model"]
    with pytest.raises(StageError, match=message):
        publishing.publish(model, base, {})


def test_a_lock_of_another_user_is_one_line_and_found_out_before_a_push(
    model: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    number, lock, opened = publishing.publish(model, base, {}), base / ".lock", Path.open
    publishing.check_lock(base)

    def another_users(path: Path, *arguments: Any, **options: Any) -> IO[Any]:
        if path == lock:
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", another_users)
    message = re.escape(f"{lock} cannot be written: Permission denied; have its owner run chmod g+w on it")
    for push in (lambda: publishing.check_lock(base), lambda: publishing.publish(model, base, {})):
        with pytest.raises(StageError, match=f"^{message}"):
            push()
    assert entries(base) == [".lock", str(number)]
    # Where there is none, the push makes it.
    lock.unlink()
    publishing.check_lock(base)


KILLED_AT = """
import os, shutil, signal, sys
from pathlib import Path
from components.model_store import publishing, store
module, name, nth = sys.argv[3].split(":")
owner = {"os": os, "shutil": shutil, "Path": Path}[module]
original, calls = getattr(owner, name), 0
def killed(*arguments, **options):
    global calls
    calls += 1
    if calls == int(nth):
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*arguments, **options)
setattr(owner, name, killed)
model, base = map(Path, sys.argv[1:3])
publishing.prune(base, 1) if sys.argv[4] == "prune" else publishing.publish(model, base, {})
"""


@pytest.mark.parametrize("moment", ["shutil:copystat:1", "Path:write_text:1", "os:fsync:1", "Path:rename:1"])
def test_a_push_killed_at_any_moment_leaves_nothing_to_load_and_the_next_one_cleans_up(
    model: Path, base: Path, moment: str
) -> None:
    served = publishing.publish(model, base, {})
    process = start_python(KILLED_AT, model, base, moment, "publish")
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert what_a_server_sees(base) == [str(served)]
    assert store.damage(base / str(served)) == ""
    assert (base / ".publishing").is_dir()
    number = publishing.publish(model, base, {})
    assert store.versions(base) == [served, number]
    assert entries(base) == [".lock", str(served), str(number)]


def test_a_push_killed_in_the_middle_of_a_big_file_leaves_nothing_to_load(model: Path, base: Path) -> None:
    with (model / "variables/variables.data").open("wb") as file:
        file.truncate(1 << 30)  # sparse: no room taken, but a second to copy
    process = start_python(PUBLISH, model, base, 1)
    while not (base / ".publishing" / "variables").exists():
        assert process.poll() is None
        time.sleep(0.001)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    process.communicate()
    assert what_a_server_sees(base) == []
    (model / "variables/variables.data").write_text("small again")
    assert publishing.publish(model, base, {}) in store.versions(base)
    assert not (base / ".publishing").exists()


def test_a_push_that_fails_leaves_nothing_behind(
    model: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(_: int) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OSError, match="No space left"):
        publishing.publish(model, base, {})
    assert entries(base) == [".lock"]


def test_only_a_saved_model_can_be_published(tmp_path: Path, base: Path) -> None:
    (tmp_path / "notes").mkdir()
    with pytest.raises(FileNotFoundError, match=r"it has no saved_model\.pb"):
        publishing.publish(tmp_path / "notes", base, {})
    assert not base.exists()


def test_pruning_keeps_the_newest_and_what_is_not_a_version(base: Path) -> None:
    for number in range(1, 6):
        write_model(base / str(number))
    (base / "notes").mkdir()
    assert publishing.prune(base, keep=2) == [1, 2, 3]
    assert store.versions(base) == [4, 5]
    assert (base / "notes").is_dir()
    assert publishing.prune(base, keep=2) == []
    with pytest.raises(ValueError, match="at least 1 version"):
        publishing.prune(base, keep=0)


def test_a_version_that_is_a_link_goes_without_what_it_links_to(model: Path, base: Path) -> None:
    base.mkdir(parents=True)
    (base / "1").symlink_to(model)
    write_model(base / "2")
    assert publishing.prune(base, keep=1) == [1]
    assert entries(base) == [".lock", "2"]
    assert (model / store.MODEL_FILE).is_file()


def test_what_cannot_be_removed_keeps_no_new_version_from_coming(
    model: Path, base: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for number in (1, 2):
        write_model(base / str(number))

    unlink = os.unlink

    def refuse(path: str, *, dir_fd: int | None = None) -> None:
        if path == "variables.data":
            raise PermissionError(13, "Permission denied", path)
        unlink(path, dir_fd=dir_fd)

    monkeypatch.setattr(os, "unlink", refuse)
    assert publishing.prune(base, keep=1) == []
    number = publishing.publish(model, base, {})
    assert store.versions(base) == [2, number]
    assert publishing.prune(base, keep=1) == []
    assert [record.getMessage() for record in caplog.records] == [
        f"{path} cannot be removed: [Errno 13] Permission denied: '{path}/variables/variables.data'; "
        "do it by hand"
        for path in (base / ".removing-1", base / ".removing-2")
    ]


def test_a_version_that_cannot_be_taken_away_keeps_no_other_from_going(
    base: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for number in (1, 2, 3):
        write_model(base / str(number))
    rename = Path.rename

    def another_users(source: Path, target: Path) -> Path:
        if source.name == "1":
            raise PermissionError(1, "Operation not permitted", str(source))
        return rename(source, target)

    monkeypatch.setattr(Path, "rename", another_users)
    assert publishing.prune(base, keep=1) == [2]
    assert store.versions(base) == [1, 3]
    assert f"{base / '1'} cannot be removed: [Errno 1]" in caplog.text


def test_pruning_that_is_killed_leaves_no_half_of_a_version(model: Path, base: Path) -> None:
    for number in (1, 2):
        write_model(base / str(number))
    process = start_python(KILLED_AT, model, base, "shutil:rmtree:1", "prune")
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert what_a_server_sees(base) == ["2"]
    number = publishing.publish(model, base, {})
    assert entries(base) == [".lock", str(number), "2"]


def test_pruning_removes_what_the_dead_left_where_there_is_nothing_else_to_do(base: Path) -> None:
    """Without a further push nobody else would."""
    write_model(base / "2")
    write_model(base / ".removing-1")
    write_model(base / ".publishing")
    assert publishing.prune(base, keep=1) == []
    assert entries(base) == [".lock", "2"]
