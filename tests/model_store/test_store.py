"""Versions appear whole, in order, and never disappear half."""

import errno
import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any
from unittest.mock import Mock

import pytest

from components.errors import StageError
from components.model_store import store


def write_model(path: Path, content: str = "weights") -> Path:
    for name in ("saved_model.pb", "variables/variables.data", "assets.extra/labels.json"):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(f"{name}: {content}")
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model")


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tmp_path / "serving" / "segmentation"


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
    number = store.publish(model, base, {"push_token": "p", "baseline_token": "nothing"})
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


def test_nothing_is_served_from_a_directory_that_is_missing_or_holds_no_version(base: Path) -> None:
    assert store.newest(base) is None
    for debris in ("100", ".publishing", "latest", "0123"):
        (base / debris).mkdir(parents=True)
    (base / "0123" / "saved_model.pb").touch()
    (base / "200").touch()
    assert store.versions(base) == []


def test_versions_are_ordered_as_numbers(base: Path) -> None:
    for number in ("9", "10", "1000"):
        write_model(base / number)
    assert store.versions(base) == [9, 10, 1000]


def test_pushes_within_one_second_still_get_rising_versions(
    model: Path, base: Path, frozen_second: int
) -> None:
    numbers = [store.publish(model, base, {}) for _ in range(3)]
    assert numbers == [frozen_second, frozen_second + 1, frozen_second + 2]


def test_a_clock_set_back_does_not_make_the_newest_version_an_older_number(model: Path, base: Path) -> None:
    future = int(time.time()) + 10_000
    write_model(base / str(future))
    assert store.publish(model, base, {}) == future + 1


@pytest.mark.parametrize("renamed", [".withdrawn-{}", ".damaged-{}", ".withdrawn-{}-red-edges"])
def test_a_number_that_was_taken_out_of_service_is_not_given_again(
    model: Path, base: Path, frozen_second: int, renamed: str
) -> None:
    """Where a clock was ahead once, numbers follow each other."""
    write_model(base / str(frozen_second + 10_000))
    bad = store.publish(model, base, {})
    (base / str(bad)).rename(base / renamed.format(bad))
    assert store.publish(model, base, {}) == bad + 1


def test_a_number_too_high_for_a_server_is_no_version(model: Path, base: Path, frozen_second: int) -> None:
    for name in ("20240101120000123456", ".withdrawn-20240101120000123456", f".damaged-{2**63 - 1}"):
        write_model(base / name)
    assert store.publish(model, base, {}) == frozen_second
    assert store.versions(base) == [frozen_second]


def test_every_push_has_a_number_that_the_store_sees(model: Path, base: Path, frozen_second: int) -> None:
    last = 2**63 - 2
    write_model(base / f".withdrawn-{last}")
    assert store.publish(model, base, {}) == frozen_second
    write_model(base / f".damaged-{last - 1}")
    assert store.publish(model, base, {}) == last
    assert store.versions(base) == [frozen_second, last]
    with pytest.raises(StageError, match=f"/{last} leaves no number for a newer version; give"):
        store.publish(model, base, {})
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
    assert store.publish(model, base, {}) == frozen_second + 1


def test_a_number_taken_at_the_last_moment_is_left_alone(
    model: Path, base: Path, frozen_second: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def intruder_first(source: Path, target: Path) -> Path:
        if target.name == str(frozen_second):
            write_model(target, "intruder")
        return rename(source, target)

    monkeypatch.setattr(Path, "rename", intruder_first)
    assert store.publish(model, base, {}) == frozen_second + 1
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
    assert store.publish(model, base, {}) == frozen_second
    assert store.damage(base / str(frozen_second)) == ""
    assert store.prune(base, keep=1) == [1]
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
        store.publish(model, base, {})
    assert not (base / ".publishing").exists()


PUBLISH = """
import sys
from pathlib import Path
from components.model_store import store
for _ in range(int(sys.argv[3])):
    print(store.publish(Path(sys.argv[1]), Path(sys.argv[2]), {}), flush=True)
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
        store.publish(model, base, {})
    assert caplog.text.count(said) == 1


def test_a_disk_without_locks_is_one_line_and_found_out_before_a_push(
    model: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.check_lock(base)
    monkeypatch.setattr(fcntl, "flock", Mock(side_effect=OSError(errno.ENOLCK, "No locks available")))
    message = re.escape(f"{base} cannot be locked: No locks available; keep served models on a disk that can")
    with pytest.raises(StageError, match=f"^{message}$"):
        store.check_lock(base)
    assert entries(base.parents[1]) == ["model"]
    with pytest.raises(StageError, match=message):
        store.publish(model, base, {})


def test_a_lock_of_another_user_is_one_line_and_found_out_before_a_push(
    model: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    number, lock, opened = store.publish(model, base, {}), base / ".lock", Path.open
    store.check_lock(base)

    def another_users(path: Path, *arguments: Any, **options: Any) -> IO[Any]:
        if path == lock:
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", another_users)
    message = re.escape(f"{lock} cannot be written: Permission denied; have its owner run chmod g+w on it")
    for push in (lambda: store.check_lock(base), lambda: store.publish(model, base, {})):
        with pytest.raises(StageError, match=f"^{message}"):
            push()
    assert entries(base) == [".lock", str(number)]
    # Where there is none, the push makes it.
    lock.unlink()
    store.check_lock(base)


KILLED_AT = """
import os, signal, sys
from pathlib import Path
from components.model_store import store
module, name, nth = sys.argv[3].split(":")
owner = {"os": os, "shutil": store.shutil, "Path": Path}[module]
original, calls = getattr(owner, name), 0
def killed(*arguments, **options):
    global calls
    calls += 1
    if calls == int(nth):
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*arguments, **options)
setattr(owner, name, killed)
action = store.prune if sys.argv[4] == "prune" else store.publish
action(Path(sys.argv[2]), 1) if action is store.prune else action(Path(sys.argv[1]), Path(sys.argv[2]), {})
"""


@pytest.mark.parametrize("moment", ["shutil:copystat:1", "Path:write_text:1", "os:fsync:1", "Path:rename:1"])
def test_a_push_killed_at_any_moment_leaves_nothing_to_load_and_the_next_one_cleans_up(
    model: Path, base: Path, moment: str
) -> None:
    served = store.publish(model, base, {})
    process = start_python(KILLED_AT, model, base, moment, "publish")
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert what_a_server_sees(base) == [str(served)]
    assert store.damage(base / str(served)) == ""
    assert (base / ".publishing").is_dir()
    number = store.publish(model, base, {})
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
    assert store.publish(model, base, {}) in store.versions(base)
    assert not (base / ".publishing").exists()


def test_a_push_that_fails_leaves_nothing_behind(
    model: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(_: int) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OSError, match="No space left"):
        store.publish(model, base, {})
    assert entries(base) == [".lock"]


def test_only_a_saved_model_can_be_published(tmp_path: Path, base: Path) -> None:
    (tmp_path / "notes").mkdir()
    with pytest.raises(FileNotFoundError, match=r"it has no saved_model\.pb"):
        store.publish(tmp_path / "notes", base, {})
    assert not base.exists()


def test_pruning_keeps_the_newest_and_what_is_not_a_version(base: Path) -> None:
    for number in range(1, 6):
        write_model(base / str(number))
    (base / "notes").mkdir()
    assert store.prune(base, keep=2) == [1, 2, 3]
    assert store.versions(base) == [4, 5]
    assert (base / "notes").is_dir()
    assert store.prune(base, keep=2) == []
    with pytest.raises(ValueError, match="at least 1 version"):
        store.prune(base, keep=0)


def test_a_version_that_is_a_link_goes_without_what_it_links_to(model: Path, base: Path) -> None:
    base.mkdir(parents=True)
    (base / "1").symlink_to(model)
    write_model(base / "2")
    assert store.prune(base, keep=1) == [1]
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
    assert store.prune(base, keep=1) == []
    number = store.publish(model, base, {})
    assert store.versions(base) == [2, number]
    assert store.prune(base, keep=1) == []
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
    assert store.prune(base, keep=1) == [2]
    assert store.versions(base) == [1, 3]
    assert f"{base / '1'} cannot be removed: [Errno 1]" in caplog.text


def test_pruning_that_is_killed_leaves_no_half_of_a_version(model: Path, base: Path) -> None:
    for number in (1, 2):
        write_model(base / str(number))
    process = start_python(KILLED_AT, model, base, "shutil:rmtree:1", "prune")
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert what_a_server_sees(base) == ["2"]
    number = store.publish(model, base, {})
    assert entries(base) == [".lock", str(number), "2"]


def test_pruning_removes_what_the_dead_left_where_there_is_nothing_else_to_do(base: Path) -> None:
    """Without a further push nobody else would."""
    write_model(base / "2")
    write_model(base / ".removing-1")
    write_model(base / ".publishing")
    assert store.prune(base, keep=1) == []
    assert entries(base) == [".lock", "2"]


def test_the_fingerprint_sees_names_and_bytes_but_neither_times_nor_provenance(tmp_path: Path) -> None:
    one, other = write_model(tmp_path / "one"), write_model(tmp_path / "other")
    os.utime(other / "saved_model.pb", (0, 0))
    (other / store.PROVENANCE_FILE).write_text("{}")
    assert store.content_fingerprint(one) == store.content_fingerprint(other)
    (other / "variables/variables.data").rename(other / "variables/renamed")
    assert store.content_fingerprint(one) != store.content_fingerprint(other)
    assert store.content_fingerprint(write_model(other, "changed")) != store.content_fingerprint(one)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda version: (version / "saved_model.pb").write_bytes(b"another"),
        lambda version: (version / "variables" / "variables.data").unlink(),
        lambda version: (version / "assets.extra" / "more").touch(),
        lambda version: (version / store.PROVENANCE_FILE).write_text("{"),
        lambda version: (version / store.PROVENANCE_FILE).write_text("{}"),
    ],
)
def test_a_version_that_is_not_what_was_pushed_is_found_out(
    model: Path, base: Path, spoil: Callable[[Path], object]
) -> None:
    version = base / str(store.publish(model, base, {}))
    assert store.damage(version) == ""
    spoil(version)
    assert store.damage(version).startswith(f"{version} is damaged: ")


def test_hidden_files_neither_count_nor_damage_a_version(model: Path, base: Path) -> None:
    fingerprint = store.content_fingerprint(model)
    # As versions have it that were pushed when hidden files counted, there being none.
    assert fingerprint == "55a20119d566f11b4450bcc223bb1a2ebad172dc6588dc26a8c4f0e397ec923f"
    version = base / str(store.publish(model, base, {}))
    (version / ".DS_Store").touch()
    (version / "variables" / ".AppleDouble").mkdir()
    (version / "variables" / ".AppleDouble" / "variables.data").touch()
    assert store.damage(version) == ""
    assert store.content_fingerprint(version) == fingerprint


def test_a_file_that_vanishes_while_it_is_looked_at_is_damage(
    model: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = base / str(store.publish(model, base, {}))
    sha256 = store.sha256

    def too_late(path: Path) -> str:
        path.unlink()
        return sha256(path)

    monkeypatch.setattr(store, "sha256", too_late)
    said = rf"{version}/.* cannot be read: No such file or directory; put a copy"
    with pytest.raises(StageError, match=said):
        store.Version(1, version).sound_fingerprint()


def test_a_version_that_nobody_vouches_for_is_taken_with_one_warning(
    model: Path, base: Path, caplog: pytest.LogCaptureFixture
) -> None:
    version = store.newest(write_model(base / "7").parent)
    assert version
    for _ in range(2):
        assert version.sound_fingerprint() == store.content_fingerprint(model)
        assert store.damage(version.path) == ""
    # A model that was never pushed, also under a number, on trial.
    (base / "8").symlink_to(model)
    assert store.damage(model) == store.damage(base / "8") == ""
    assert [record.message for record in caplog.records] == [
        f"{version.path} has no assets.extra/provenance.json: nothing tells whether it is what was pushed"
    ]


def test_a_version_is_read_once_to_be_known_and_found_sound(
    model: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.publish(model, base, {})
    version, read, sha256 = store.newest(base), list[str](), store.sha256
    assert version

    def counted(path: Path) -> str:
        read.append(path.name)
        return sha256(path)

    monkeypatch.setattr(store, "sha256", counted)
    version.sound_fingerprint()
    assert sorted(read) == ["labels.json", "saved_model.pb", "variables.data"]


def test_a_version_that_came_in_another_way_has_no_provenance(base: Path) -> None:
    write_model(base / "7")
    version = store.newest(base)
    assert version
    assert version.provenance() == {}
    (version.path / store.PROVENANCE_FILE).write_text("not JSON")
    assert version.provenance() == {}
    (version.path / store.PROVENANCE_FILE).write_text(json.dumps({"push_token": "p"}))
    assert version.provenance() == {"push_token": "p"}


@pytest.mark.parametrize("links_allowed", [True, False])
def test_a_linked_tree_outlives_its_source(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links_allowed: bool
) -> None:
    if not links_allowed:

        def refuse(*_: object) -> None:
            raise OSError("Invalid cross-device link")

        monkeypatch.setattr(os, "link", refuse)
    fingerprint = store.content_fingerprint(model)
    copy = tmp_path / "copy"
    copy.mkdir()
    store.link_tree(model, copy)
    assert copy.joinpath("saved_model.pb").samefile(model / "saved_model.pb") is links_allowed
    store.shutil.rmtree(model)
    assert store.content_fingerprint(copy) == fingerprint


def test_linking_again_over_an_earlier_attempt_harms_neither_side(model: Path, tmp_path: Path) -> None:
    fingerprint = store.content_fingerprint(model)
    for _ in range(2):
        store.link_tree(model, tmp_path / "copy")
    assert store.content_fingerprint(tmp_path / "copy") == store.content_fingerprint(model) == fingerprint
