"""The licences of what is shipped: which are named, and that none of the locks' is."""

from importlib.util import find_spec
from pathlib import Path

import pytest
from documented import DOCS, REPOSITORY

from docs.licences import main, packages


def installed(site: Path, name: str, *lines: str, text: str | None = None) -> str:
    """Puts a package of such metadata there; returns its line of a lock."""
    directory = site / f"{name.replace('-', '_')}-1.0.dist-info"
    (directory / "licenses").mkdir(parents=True)
    metadata = ["Metadata-Version: 2.4", f"Name: {name}", "Version: 1.0", *lines]
    if text is not None:
        (directory / "licenses" / "COPYING").write_text(text)
        metadata.append("License-File: COPYING")
    (directory / "METADATA").write_text("\n".join(metadata) + "\n")
    return f"{name}==1.0 \\\n    --hash=sha256:0\n"


def test_a_package_under_a_licence_that_binds_or_under_none_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    gnu = "Classifier: License :: OSI Approved :: GNU"
    named = {
        "zz-gpl": ["License-Expression: GPL-3.0-or-later"],
        "zz-agpl": [f"{gnu} Affero General Public License v3"],
        "zz-both": ["License-Expression: MIT AND GPL-2.0-only"],
        "zz-unclear": ["License-Expression: GPL-2.0-only AND (MIT OR ISC)"],
        "zz-free-text": ["License: gpl v2"],
        "zz-unknown": ["License: UNKNOWN", "Classifier: License :: OSI Approved"],
        "zz-silent": [],
    }
    passed = {
        "zz-mit": ["License-Expression: MIT"],
        "zz-choice": ["License-Expression: GPL-2.0-only OR Apache-2.0"],
        "zz-exception": ["License-Expression: GPL-3.0-or-later WITH GCC-exception-3.1"],
        "zz-lgpl": [f"{gnu} Lesser General Public License v3 (LGPLv3)"],
        "zz-mpl": ["License: MPL-2.0"],
    }
    lock = [installed(tmp_path, name, *lines) for name, lines in (named | passed).items()]
    lock += [installed(tmp_path, "zz-copying", text="\n  GNU GENERAL PUBLIC LICENSE\nVersion 3\n")]
    lock += [installed(tmp_path, "zz-copyright", text="Copyright 2023 A\n\nUnder the Apache License 2.0\n")]
    lock += ["zz-older==0.9 \\\n", "zz-absent==1.0 \\\n"]
    installed(tmp_path, "zz-older", "License-Expression: MIT")
    (tmp_path / "some.lock").write_text("".join(lock))
    assert main([str(tmp_path / "some.lock")]) == 1
    said = capsys.readouterr()
    assert [line.split()[0] for line in said.err.splitlines()] == sorted(
        [*named, "zz-copying", "zz-older", "zz-absent"]
    )
    assert "zz-gpl is under GPL-3.0-or-later, which would extend to this project" in said.err
    assert "zz-older is locked as 0.9, installed is 1.0" in said.err
    assert "| zz-copyright | 1.0 | Under the Apache License 2.0 |" in said.out


@pytest.mark.parametrize("lock", ["cpu", "signing"])
def test_nothing_is_shipped_that_binds(lock: str, capsys: pytest.CaptureFixture[str]) -> None:
    if lock == "signing" and find_spec("model_signing") is None:
        pytest.skip("model-signing is not installed: requirements/dev.lock has it")
    path = REPOSITORY / "requirements" / f"{lock}.lock"
    status = main([str(path)])
    said = capsys.readouterr()
    assert (status, said.err) == (0, "")
    assert said.out.count("\n") == 2 + path.read_text().count("==")


def test_as_many_packages_are_shipped_as_the_guide_says() -> None:
    shipped = packages([REPOSITORY / "requirements" / f"{lock}.lock" for lock in ("cpu", "signing")])
    assert f" {len(list(shipped))} packages;" in (DOCS / "supply-chain.md").read_text()
