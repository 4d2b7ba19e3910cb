"""Signatures: what breaks one, and what is said."""

import errno
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from documented import DOCS, shell_lines
from pushed_models import flip, push, serving_base
from signing_keys import keys_of_module, needs_signing, write_keys

from components.model_store import signing, store, tokens
from pipeline import run_local, verify

pytestmark = needs_signing

_REPOSITORY = Path(__file__).resolve().parents[2]


keys, base = keys_of_module, serving_base


def test_a_signed_version_is_what_was_signed_wherever_it_is_copied_to(
    base: Path, keys: tuple[str, str], tmp_path: Path
) -> None:
    version = push(base, keys[0])
    signing.verify(version, keys[1])
    assert signing.is_signed_by(version, keys[0])
    copy = Path(shutil.copytree(version, tmp_path / "elsewhere" / "7"))
    signing.verify(copy, keys[1])
    # It is the same model, and no other push.
    assert store.content_fingerprint(version) == store.content_fingerprint(tmp_path / "model")
    assert tokens.already_served(tmp_path / "model", base)


def _append(version: Path) -> None:
    with (version / "saved_model.pb").open("a") as file:
        file.write("x")


_DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "longer": (_append, "is not what was signed: .*'saved_model.pb'"),
    "a bit": (flip, "is not what was signed: .*'variables/variables.index'"),
    "missing": (
        lambda version: (version / "variables" / "variables.index").unlink(),
        "Missing files .*variables.index",
    ),
    "new": (lambda version: (version / "variables" / "more").touch(), "Extra files .*variables/more"),
    "new, as Git's": (lambda version: (version / ".gitignore").touch(), "Extra files .*gitignore"),
    "a link": (
        lambda version: (version / "variables" / "link").symlink_to(version / "saved_model.pb"),
        "is not what was signed: .*link",
    ),
    "provenance": (
        lambda version: (version / store.PROVENANCE_FILE).write_text("{}"),
        "is not what was signed: .*provenance",
    ),
    "no signature": (lambda version: (version / store.SIGNATURE_FILE).unlink(), "is not signed: it has no"),
    "half a signature": (
        lambda version: (version / store.SIGNATURE_FILE).write_bytes(
            (version / store.SIGNATURE_FILE).read_bytes()[:500]
        ),
        "is not what was signed: ",
    ),
    "an empty signature": (
        lambda version: (version / store.SIGNATURE_FILE).write_text("{}"),
        "is not what was signed: ",
    ),
}


@pytest.mark.parametrize("damage", _DAMAGES)
def test_what_was_changed_after_it_was_signed_is_refused_in_one_line(
    base: Path, keys: tuple[str, str], damage: str
) -> None:
    version = push(base, keys[0])
    harm, said = _DAMAGES[damage]
    harm(version)
    with pytest.raises(signing.SigningError, match=said) as refusal:
        signing.verify(version, keys[1])
    assert "\n" not in str(refusal.value) and str(version) in str(refusal.value)


def test_the_keys_that_the_guide_makes_can_sign_and_verify(base: Path, tmp_path: Path) -> None:
    commands = [line for line in shell_lines(DOCS / "supply-chain.md") if line.startswith("openssl")]
    assert len(commands) == 2 and (shutil.which("openssl") or pytest.skip("no openssl"))
    for command in commands:
        subprocess.run(command.split(), cwd=tmp_path, capture_output=True, check=True)
    signing.verify(push(base, str(tmp_path / "signing.pem")), str(tmp_path / "signing.pub"))


def test_another_key_is_refused(base: Path, keys: tuple[str, str], tmp_path: Path) -> None:
    other = write_keys(tmp_path, "other")
    version = push(base, keys[0])
    with pytest.raises(signing.SigningError, match="is not what was signed: "):
        signing.verify(version, other[1])
    assert not signing.is_signed_by(version, other[0])


def test_a_version_that_cannot_be_signed_is_not_pushed(base: Path, tmp_path: Path) -> None:
    with pytest.raises(signing.SigningError, match=r"private key .*no.pem cannot be read: No such file"):
        push(base, str(tmp_path / "no.pem"))
    assert store.versions(base) == [] and not list(base.glob(".publishing"))


def test_keys_that_nothing_can_be_signed_with_are_told_before_anything_runs(
    keys: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    locked, _ = write_keys(tmp_path, "locked", password=b"secret")
    (tmp_path / "garbage.pem").write_text("garbage")
    for key, said in (
        (keys[1], f"{keys[1]} is no private key to sign with: it must be PEM"),
        (locked, f"{locked} is no private key to sign with: it must be PEM"),
        (str(tmp_path / "garbage.pem"), "garbage.pem is no private key to sign with"),
        (str(tmp_path), f"private key {tmp_path} cannot be read: Is a directory"),
    ):
        status = run_local.main(["--workdir", str(tmp_path / "run"), "--set", f"serving.signing_key={key}"])
        [line] = capsys.readouterr().err.splitlines()
        assert status == run_local.USAGE and said in line
    assert not (tmp_path / "run").exists()
    with pytest.raises(signing.SigningError, match="is no public key"):
        signing.check_public_key(keys[0])


def test_every_version_is_checked_and_the_status_says_whether_all_are_right(
    base: Path, keys: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    command = [str(base), "--key", keys[1]]
    assert verify.main(command) == 2
    base.mkdir(parents=True)
    assert verify.main(command) == 1
    assert capsys.readouterr().err.splitlines()[-1] == f"no version under {base}"
    signed = push(base, keys[0])
    assert verify.main(command) == 0
    assert capsys.readouterr().out == f"version {signed.name} is what was signed\n"
    unsigned = push(base, None)
    assert verify.main(command) == 1
    assert f"{unsigned} is not signed: it has no assets.extra/model.sig" in capsys.readouterr().err
    # What only some server loads: by leading zeros, or of a text.
    (zeros := base / f"0{unsigned.name}").mkdir()
    unsigned.rename(text := base / "5")
    (text / "saved_model.pb").rename(text / "saved_model.pbtxt")
    (base / ".withdrawn-6").mkdir()
    (base / "6").touch()
    assert verify.main(command) == 1
    assert [line.partition(" is not signed")[0] for line in capsys.readouterr().err.splitlines()] == [
        str(text),
        str(zeros),
    ]
    assert verify.main([str(base), "--key", str(base / "none.pub")]) == 2


def test_a_place_below_a_folder_that_may_not_be_entered_ends_with_2(
    base: Path,
    keys: tuple[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    forbid: Callable[[str], None],
) -> None:
    push(base, keys[0])
    closed = tmp_path / "closed" / "pets"
    forbid("closed/")
    for places in ([str(closed)], [str(base), "--to", str(closed)]):
        assert verify.main([*places, "--key", keys[1]]) == 2
        assert capsys.readouterr() == ("", f"{closed} cannot be read: Permission denied\n")


def test_a_version_that_may_not_be_read_is_a_line_and_the_others_are_checked(
    base: Path, keys: tuple[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    closed, signed = push(base, keys[0]), push(base, keys[0])
    is_file, iterdir = Path.is_file, Path.iterdir

    def refuse(path: Path) -> bool:
        # Not by permissions, which do not hold for the superuser.
        if path.is_relative_to(closed):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return is_file(path)

    monkeypatch.setattr(Path, "is_file", refuse)
    assert verify.main([str(base), "--key", keys[1]]) == 1
    printed = capsys.readouterr()
    assert printed.out == f"version {signed.name} is what was signed\n"
    assert printed.err == f"{closed}/assets.extra/model.sig cannot be read: Permission denied\n"

    def refuse_all(path: Path) -> Iterator[Path]:
        if path == base:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return iterdir(path)

    monkeypatch.setattr(Path, "iterdir", refuse_all)
    assert verify.main([str(base), "--key", keys[1]]) == 1
    assert capsys.readouterr() == ("", f"{base} cannot be read: Permission denied\n")
