"""What lies where models are served: which versions, and whether they are what was pushed."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from pushed_models import serving_base, write_model, written_model

from components.errors import StageError
from components.model_store import publishing, store

base, model = serving_base, written_model


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
    version = base / str(publishing.publish(model, base, {}))
    assert store.damage(version) == ""
    spoil(version)
    assert store.damage(version).startswith(f"{version} is damaged: ")


def test_hidden_files_neither_count_nor_damage_a_version(model: Path, base: Path) -> None:
    fingerprint = store.content_fingerprint(model)
    # As versions have it that were pushed when hidden files counted, there being none.
    assert fingerprint == "55a20119d566f11b4450bcc223bb1a2ebad172dc6588dc26a8c4f0e397ec923f"
    version = base / str(publishing.publish(model, base, {}))
    (version / ".DS_Store").touch()
    (version / "variables" / ".AppleDouble").mkdir()
    (version / "variables" / ".AppleDouble" / "variables.data").touch()
    assert store.damage(version) == ""
    assert store.content_fingerprint(version) == fingerprint


def test_a_file_that_vanishes_while_it_is_looked_at_is_damage(
    model: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = base / str(publishing.publish(model, base, {}))
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
    publishing.publish(model, base, {})
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
