"""A directory of what was signed: what a server may see, and what is said."""

import errno
import io
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pushed_models import flip, push, serving_base
from signing_keys import keys_of_module, needs_signing, write_keys

from components.model_store import signing, store
from components.model_store.follower import Follower, loaded_by_some_server
from pipeline import verify

pytestmark = needs_signing

_REPOSITORY = Path(__file__).resolve().parents[2]


keys, base = keys_of_module, serving_base


def test_a_version_that_may_not_be_read_keeps_no_other_from_coming_or_going(
    base: Path, keys: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, leaving, kept = tmp_path / "verified", push(base, keys[0]), push(base, keys[0])
    follower = Follower(base, target, keys[1])
    list(follower.look())
    shutil.rmtree(leaving)
    closed, signed = push(base, keys[0]), push(base, keys[0])
    is_file, copytree = Path.is_file, shutil.copytree

    def refuse(path: Path) -> bool:
        # Not by permissions, which do not hold for the superuser.
        if path.is_relative_to(closed) or path.is_relative_to(kept):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return is_file(path)

    def refuse_copies(source: Any, *others: Any, **options: Any) -> Any:
        refuse(Path(source))
        return copytree(source, *others, **options)

    monkeypatch.setattr(Path, "is_file", refuse)
    monkeypatch.setattr(shutil, "copytree", refuse_copies)
    lines = follower.look()
    assert [next(lines), next(lines)] == [
        f"version {signed.name} is what was signed",
        f"version {leaving.name} is gone",
    ]
    with pytest.raises(signing.SigningError, match=f"version {closed.name} cannot be copied: .*denied"):
        next(lines)
    assert store.versions(target) == [int(kept.name), int(signed.name)]


def test_a_server_sees_only_versions_that_are_what_was_signed(
    base: Path, keys: tuple[str, str], tmp_path: Path
) -> None:
    target = tmp_path / "verified"
    first, second, third = push(base, keys[0]), push(base, None), push(base, keys[0])
    (third / "saved_model.pb").write_text("another")
    follower = Follower(base, target, keys[1])
    lines = list(follower.look())
    assert [line.split(":")[0] for line in lines] == [
        f"version {first.name} is what was signed",
        f"version {second.name} is refused",
        f"version {third.name} is refused",
    ]
    assert str(third) in lines[2] and str(target) not in lines[2]
    assert store.versions(target) == [int(first.name)]
    assert list(follower.look()) == [], "each is said once"
    # What happens to the original does not reach the server.
    (first / "saved_model.pb").write_text("changed later")
    assert (target / first.name / "saved_model.pb").read_text() == "weights"
    fourth = push(base, keys[0])
    shutil.rmtree(first)
    lines = list(follower.look())
    assert lines == [f"version {fourth.name} is what was signed", f"version {first.name} is gone"]
    assert [path.name for path in target.iterdir()] == [fourth.name]


def test_a_good_copy_in_the_place_of_a_refused_version_is_looked_at(
    base: Path, keys: tuple[str, str], tmp_path: Path
) -> None:
    version, target = push(base, keys[0]), tmp_path / "verified"
    backup = shutil.copytree(version, tmp_path / "backup")
    flip(version)
    follower = Follower(base, target, keys[1])
    assert [line.partition(":")[0] for line in follower.look()] == [f"version {version.name} is refused"]
    # Between two looks, and with the times that it had.
    shutil.rmtree(version)
    shutil.copytree(backup, version)
    assert list(follower.look()) == [f"version {version.name} is what was signed"]
    assert store.versions(target) == [int(version.name)]


def test_a_version_that_was_seen_half_copied_is_looked_at_when_it_is_whole(
    base: Path, keys: tuple[str, str], tmp_path: Path
) -> None:
    version = push(base, keys[0])
    part = version / "variables" / "variables.index"
    whole = part.read_text()
    part.write_text(whole[:2])
    follower = Follower(base, tmp_path / "verified", keys[1])
    assert [line.partition(":")[0] for line in follower.look()] == [f"version {version.name} is refused"]
    assert list(follower.look()) == []
    # In the file that is there, as cp goes on: neither folder changes.
    part.write_text(whole)
    assert list(follower.look()) == [f"version {version.name} is what was signed"]


def test_without_the_mount_versions_stay_and_the_only_one_leaves_when_it_is_withdrawn(
    base: Path, keys: tuple[str, str], tmp_path: Path
) -> None:
    version, target = push(base, keys[0]), tmp_path / "verified"
    follower = Follower(base, target, keys[1])
    assert list(follower.look()) == [f"version {version.name} is what was signed"]
    away = base.rename(tmp_path / "away")
    for _ in ("missing", "an empty mount point"):
        with pytest.raises(signing.SigningError, match=f"{base} holds nothing, as without its mount: "):
            list(follower.look())
        assert store.versions(target) == [int(version.name)]
        base.mkdir(exist_ok=True)
    away.rename(base)
    version.rename(base / f".withdrawn-{version.name}")
    assert list(follower.look()) == [f"version {version.name} is gone"]
    assert list(target.iterdir()) == [] == list(follower.look())


def test_where_versions_are_pushed_to_is_no_place_for_those_that_are_right(
    base: Path, keys: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    push(base, None)
    (tmp_path / "link").symlink_to(base)
    for target in (base, tmp_path / "link", base / "verified" / "pets", tmp_path / "link" / "verified"):
        with pytest.raises(signing.SigningError, match=f"{target} is {base} itself or lies in it"):
            Follower(base, target, keys[1])
    assert verify.main([str(base), "--key", keys[1], "--to", str(tmp_path / "link")]) == 2
    assert "name a directory that nobody else writes to" in capsys.readouterr().err
    Follower(base, base.parent / "pets-verified", keys[1])


def test_what_the_directory_holds_already_is_checked_with_the_key_of_now(
    base: Path, keys: tuple[str, str], tmp_path: Path
) -> None:
    good, unsigned, linked = push(base, keys[0]), push(base, None), push(base, keys[0])
    target = tmp_path / "verified"
    shutil.copytree(base, target)
    shutil.rmtree(target / linked.name)
    (target / linked.name).symlink_to(linked)
    key = tmp_path / "now.pub"
    key.write_bytes(Path(keys[1]).read_bytes())
    follower = Follower(base, target, str(key))
    assert [line.split(":")[0] for line in follower.look()] == [
        f"version {unsigned.name} is removed",
        f"version {linked.name} is removed",
        f"version {unsigned.name} is refused",
        f"version {linked.name} is what was signed",
    ]
    assert store.versions(target) == [int(good.name), int(linked.name)]
    assert not (target / linked.name).is_symlink() and linked.is_dir()

    later = write_keys(tmp_path / "later")
    restarted = Follower(base, target, later[1])
    assert sum("is removed: " in line for line in restarted.look()) == 2 and store.versions(target) == []

    list(Follower(base, target, str(key)).look())
    newest = push(base, later[0])
    key.write_bytes(Path(later[1]).read_bytes())
    list(follower.look())
    assert store.versions(target) == [int(newest.name)], "the key's file is another one since the last round"
    key.unlink()
    with pytest.raises(signing.SigningError, match="cannot be read"):
        list(follower.look())
    assert store.versions(target) == [int(newest.name)], "that says nothing about versions"


def test_what_only_some_server_would_load_leaves_the_directory_too(
    base: Path, keys: tuple[str, str], tmp_path: Path
) -> None:
    signed, target = push(base, keys[0]), tmp_path / "verified"
    # By a number, by leading zeros, of a text, and signed by the key under a name that no push gives.
    for name in ("5", "6", "0099", f"0{signed.name}", "77"):
        shutil.copytree(signed, target / name)
    for name in ("5", "6", "0099"):
        (target / name / store.SIGNATURE_FILE).unlink()
    (target / "77" / store.MODEL_FILE).rename(target / "77" / "saved_model.pbtxt")
    (target / "88").symlink_to(tmp_path)
    follower = Follower(base, target, keys[1])
    lines = list(follower.look())
    none = "no push makes such a one, and some server would load it"
    for name in ("0099", f"0{signed.name}", "77", "88"):
        assert f"version {name} is removed: {none}" in lines
    assert [path.name for path in loaded_by_some_server(target)] == [signed.name]
    shutil.copytree(signed, target / "0100")
    assert list(follower.look()) == [f"version 0100 is removed: {none}"]


def test_what_no_server_would_load_stays_in_the_directory_and_is_said(
    base: Path, keys: tuple[str, str], tmp_path: Path
) -> None:
    signed, target = push(base, keys[0]), tmp_path / "verified"
    (backup := target / "20261130").mkdir(parents=True)
    (backup / "notes.txt").touch()
    follower = Follower(base, target, keys[1])
    lines = follower.look()
    assert next(lines) == f"version {signed.name} is what was signed"
    with pytest.raises(signing.SigningError, match=f"^{backup} is no version and stays; name a directory"):
        next(lines)
    assert (backup / "notes.txt").is_file()


def test_what_cannot_be_removed_keeps_no_other_from_coming(
    base: Path, keys: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, unsigned, gone = tmp_path / "verified", push(base, None), push(base, keys[0])
    follower = Follower(base, target, keys[1])
    list(follower.look())
    shutil.copytree(unsigned, target / unsigned.name)
    shutil.copytree(unsigned, target / "077")
    signed, rename = push(base, keys[0]), Path.rename
    shutil.rmtree(gone)

    def refuse(path: Path, place: Path) -> Path:
        # Not by permissions, which do not hold for the superuser.
        if path.name in ("077", unsigned.name, gone.name):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return rename(path, place)

    monkeypatch.setattr(Path, "rename", refuse)
    lines = follower.look()
    assert next(lines) == f"version {signed.name} is what was signed"
    with pytest.raises(signing.SigningError) as problems:
        next(lines)
    for name in ("077", unsigned.name, gone.name):
        assert f"{target / name} cannot be removed: [Errno {errno.EACCES}] Permission" in str(problems.value)
    monkeypatch.undo()
    list(follower.look())
    assert [path.name for path in target.iterdir()] == [signed.name]


def test_a_version_that_cannot_be_copied_is_said_once_and_keeps_no_other_from_coming_or_going(
    base: Path,
    keys: tuple[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    target, leaving = tmp_path / "verified", push(base, keys[0])
    list(Follower(base, target, keys[1]).look())
    large, small = push(base, keys[0]), push(base, keys[0])
    shutil.rmtree(leaving)
    copy, tries = shutil.copyfile, list[str]()

    def copyfile(source: str, destination: str, **options: bool) -> str:
        if Path(source) == large / "saved_model.pb":
            tries.append(source)
            if len(tries) == 3:
                signal.raise_signal(signal.SIGTERM)
            raise OSError(errno.ENOSPC, "No space left on device", source, None, destination)
        return str(copy(source, destination, **options))

    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    with monkeypatch.context() as full:
        full.setattr(shutil, "copyfile", copyfile)
        try:
            command = [str(base), "--key", keys[1], "--to", str(target), "--poll_seconds", "0.01"]
            assert verify.main(command) == 0
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        f"version {small.name} is what was signed",
        f"version {leaving.name} is gone",
    ]
    [line] = err.splitlines()
    assert line.startswith(f"version {large.name} cannot be copied: [Errno {errno.ENOSPC}] No space left")
    assert [path.name for path in target.iterdir()] == [small.name]
    follower = Follower(base, target, keys[1])
    assert list(follower.look()) == [f"version {large.name} is what was signed"], "once there is room"


def test_a_version_that_is_removed_while_it_is_copied_is_no_trouble(
    base: Path, keys: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = push(base, keys[0])
    copy = shutil.copyfile

    def copyfile(source: str, destination: str, **options: bool) -> str:
        shutil.rmtree(version, ignore_errors=True)
        return str(copy(source, destination, **options))

    monkeypatch.setattr(shutil, "copyfile", copyfile)
    assert list(Follower(base, tmp_path / "verified", keys[1]).look()) == []


def test_what_a_killed_round_left_goes_and_does_not_keep_its_version(
    base: Path, keys: tuple[str, str], tmp_path: Path
) -> None:
    version, other, target = push(base, keys[0]), push(base, keys[0]), tmp_path / "verified"
    for remains in (".copying", f".removing-{version.name}"):
        shutil.copytree(version, target / remains)
    follower = Follower(base, target, keys[1])
    list(follower.look())
    assert sorted(path.name for path in target.iterdir()) == [version.name, other.name]
    shutil.copytree(version, target / f".removing-{version.name}")
    shutil.rmtree(version)
    assert list(follower.look()) == [f"version {version.name} is gone"]
    assert [path.name for path in target.iterdir()] == [other.name]


def test_the_command_keeps_a_directory_until_it_is_stopped(
    base: Path, keys: tuple[str, str], tmp_path: Path
) -> None:
    signed = push(base, keys[0])
    target = tmp_path / "verified"
    command = [sys.executable, "-m", "pipeline.verify", str(base), "--key", keys[1], "--to", str(target)]
    with subprocess.Popen([*command, "--poll_seconds", "0.05"], cwd=_REPOSITORY, stdout=-1, text=True) as it:
        assert it.stdout and it.stdout.readline() == f"version {signed.name} is what was signed\n"
        later = push(base, keys[0])
        assert it.stdout.readline() == f"version {later.name} is what was signed\n"
        assert (target / later.name / "saved_model.pb").is_file()
        time.sleep(0.1)
        it.send_signal(signal.SIGTERM)
        assert it.wait(10) == 0


class _OnceFull(io.FileIO):
    """A file on a disk that is full when it is first written to."""

    was_full = False

    def write(self, data: Any) -> int:
        if not self.was_full:
            self.was_full = True
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(data)


def test_what_is_said_once_there_is_room_again_is_heard(
    base: Path, keys: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Looks:
        def look(self) -> Iterator[str]:
            yield "the disk is full"
            yield "it has room"
            signal.raise_signal(signal.SIGTERM)

    base.mkdir(parents=True)
    monkeypatch.setattr(verify, "Follower", lambda *_: Looks())
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    with io.TextIOWrapper(io.BufferedWriter(_OnceFull(tmp_path / "log", "w"))) as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        try:
            assert verify.main([str(base), "--key", keys[1], "--to", str(tmp_path / "verified")]) == 0
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
    assert (tmp_path / "log").read_text().endswith("it has room\n")
