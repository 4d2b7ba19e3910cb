"""Every command of README.md and docs/ is understood; what takes seconds and no cluster is run."""

import argparse
import importlib
import re
import shlex
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from documented import DOCS, PAGES, README, REPOSITORY, blocks, name, python_commands, shell_lines, words
from PIL import Image

from components.report.run_summary import summarize
from pipeline import report, run_kubeflow, run_local, runs
from pipeline.config import list_recipes, load_recipe
from pipeline.init.__main__ import main as init
from pipeline.local.run_page import write_report
from pipeline.local.workdir import WorkDir

_NOT_RUN_HERE = {
    ". .venv/bin/activate": "changes the reader's own shell",
    "make run": "installs, and trains for minutes; tests/end_to_end runs the same command line",
    "make run TARGET=gpu": "the same; tests/pipeline/test_makefile.py has a stand-in for Python",
    "make test": "is what runs this",
    "make lint": "comes before the tests",
    "make docs": "tests/test_docs.py builds the site",
    "make setup-dev": "installs; tests/pipeline/test_makefile.py has a stand-in for Python",
    "make lock": "asks a package index",
    "make audit": "asks a service; tests/pipeline/test_makefile.py has a stand-in for pip-audit",
    "make licences": "installs; tests/test_licences.py calls what it runs",
    "podman run --rm IMAGE cat /opt/venv/sbom.cdx.json": "tests/kubeflow/test_image_build.py reads it there",
    "openssl ecparam -name prime256v1 -genkey -noout -out signing.pem": "tests/model_store runs it",
    "openssl pkey -in signing.pem -pubout -out signing.pub": "tests/model_store runs it",
    "kubectl --namespace NAMESPACE create secret generic model-signing --from-file=signing.pem": "a cluster",
    "make image": "needs a container engine; tests/test_image.py reads the Dockerfile",
}
"""What is no Python of this project, and why it is not run."""
_OTHER_TESTS = {
    "docs/serving.md": "tests/serving/test_serving_guide.py",
    "docs/operations.md": "tests/kubernetes/test_operations_guide.py",
    "docs/kubeflow.md": "tests/kubernetes/test_kubeflow_guide.py",
    "docs/scale.md": "tests/kubernetes/test_beam_manifests.py",
}
"""Pages whose other commands (curl, kubectl, docker …) have tests of their own."""


class _UnderstoodError(Exception):
    """Raised where a command has read its options, before it does anything."""

    def __init__(self, options: argparse.Namespace):
        super().__init__(options)
        self.options = options


@pytest.fixture
def understood(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, list[str]], argparse.Namespace]:
    """Gives a command its options, and returns what it has made of them."""
    parse_args = argparse.ArgumentParser.parse_args
    parse_known_args = argparse.ArgumentParser.parse_known_args

    def parse_and_stop(self: argparse.ArgumentParser, *given: Any) -> None:
        raise _UnderstoodError(parse_args(self, *given))

    def parse_known_and_stop(self: argparse.ArgumentParser, *given: Any) -> None:
        raise _UnderstoodError(parse_known_args(self, *given)[0])

    def understand(module: str, argv: list[str]) -> argparse.Namespace:
        found = find_spec(module)
        is_package = found is not None and found.submodule_search_locations is not None
        main = importlib.import_module(f"{module}.__main__" if is_package else module).main
        with monkeypatch.context() as patch:
            patch.setattr(argparse.ArgumentParser, "parse_args", parse_and_stop)
            if module == "pipeline.serve":
                # What it does not know itself is TensorFlow Serving's.
                patch.setattr(argparse.ArgumentParser, "parse_known_args", parse_known_and_stop)
            with pytest.raises(_UnderstoodError) as stopped:
                main(argv)
        return stopped.value.options

    return understand


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory in which a reader types, with the files that the pages speak of.

    Copies of recipes have the blocks that their page shows.
    """
    monkeypatch.chdir(tmp_path)
    [text] = [text for text in blocks(DOCS / "own-data.md", "yaml") if "description:" in text]
    for recipe in ("street.yaml", "my.yaml", "pets_tfds.yaml"):
        Path(recipe).write_text(text)
    Path("mobilenet_v2.weights.h5").touch()
    for page in PAGES:
        for line in filter(_copies_a_recipe, shell_lines(page)):
            _, recipe, copy = words(line)
            blocks_of_page = (yaml.safe_load(text) for text in blocks(page, "yaml"))
            replaced = {key: block for texts in blocks_of_page for key, block in texts.items()}
            original = yaml.safe_load((REPOSITORY / recipe).read_text())
            Path(copy).write_text(yaml.safe_dump(original | replaced))
    return tmp_path


def _copies_a_recipe(line: str) -> bool:
    return line.startswith("cp pipeline/recipes/")


def _commands() -> Iterator[Any]:
    for page in PAGES:
        for command in python_commands(page):
            if command[0].startswith("pipeline.") and command[-1] != "--help":
                yield pytest.param(*command[:1], command[1:], id=f"{name(page)}: {shlex.join(command)}")


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(("module", "argv"), _commands())
def test_the_command_is_understood(
    module: str, argv: list[str], understood: Callable[[str, list[str]], argparse.Namespace]
) -> None:
    args = understood(module, argv)
    if hasattr(args, "set"):
        load_recipe(args.recipe, args.data, args.set, runs_here=module != "pipeline.run_kubeflow")


def test_an_option_that_does_not_exist_is_found_out(
    understood: Callable[[str, list[str]], argparse.Namespace],
) -> None:
    with pytest.raises(SystemExit):
        understood("pipeline.run_local", ["--receipt", "shapes"])


def _other_lines(page: Path) -> list[str]:
    return [
        shlex.join(words(line))
        for line in shell_lines(page)
        if not line.startswith("python -m ") and not _copies_a_recipe(line)
    ]


_OWN_PAGES = [page for page in PAGES if name(page) not in _OTHER_TESTS]


@pytest.mark.parametrize("page", _OWN_PAGES, ids=name)
def test_no_command_goes_unnoticed(page: Path) -> None:
    assert [line for line in _other_lines(page) if line not in _NOT_RUN_HERE] == []


def test_every_reason_for_not_running_a_command_is_needed() -> None:
    assert _NOT_RUN_HERE.keys() == {line for page in _OWN_PAGES for line in _other_lines(page)}


def test_pages_left_to_other_tests_have_them() -> None:
    for page, tests in _OTHER_TESTS.items():
        assert Path(page).stem in (REPOSITORY / tests).read_text()


def test_every_target_of_make_and_every_module_named_exists() -> None:
    targets = re.findall(r"^([a-z-]+):.*##", (REPOSITORY / "Makefile").read_text(), flags=re.MULTILINE)
    for page in PAGES:
        text = page.read_text()
        told = re.findall(r"(?:^|`)make ([a-z-]+)", text, flags=re.MULTILINE)
        assert [target for target in told if target not in targets] == [], name(page)
        modules = re.findall(r"python -m ((?:pipeline|benchmarks)[.\w]*\w)", text)
        assert [module for module in modules if find_spec(module) is None] == [], name(page)


def test_pytest_is_told_of_tests_that_exist() -> None:
    paths = [
        word
        for command in python_commands(DOCS / "contributing.md")
        for word in command
        if command[0] == "pytest" and word.startswith("tests/")
    ]
    assert paths and all((REPOSITORY / path).exists() for path in paths)


def _only(module: str, page: Path, word: str = "") -> list[list[str]]:
    """Returns the options of a page's commands of a module, of those that have a word."""
    commands = [command[1:] for command in python_commands(page) if command[0] == module]
    return [argv for argv in commands if not word or word in argv]


def test_recipes_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    [argv] = _only("pipeline.run_local", DOCS / "quick-start.md", "--list-recipes")
    assert run_local.main(argv) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [*list_recipes()]


@pytest.fixture
def own_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What somebody has who begins: photos and labels, and the pets as they unpack."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    names = [f"{breed}_{number}" for breed in ("Bombay", "pug") for number in range(1, 7)]
    for images, masks, first in (("photos", "labels", 0), ("pets/images", "pets/annotations/trimaps", 1)):
        for directory in (images, masks):
            Path(directory).mkdir(parents=True)
        for each in names:
            ids = np.kron(np.arange(12).reshape(3, 4) % 3, np.ones((16, 16), int)) + first
            Image.fromarray(rng.integers(0, 256, (48, 64, 3)).astype(np.uint8)).save(f"{images}/{each}.jpg")
            Image.fromarray(ids.astype(np.uint8)).save(f"{masks}/{each}.png")
    lines = [f"{each} 1 {1 + each.startswith('pug')} 1\n" for each in names]
    Path("pets/annotations/trainval.txt").write_text("".join(lines[1::2]))
    Path("pets/annotations/test.txt").write_text("".join(lines[::2]))


@pytest.mark.usefixtures("own_data")
@pytest.mark.parametrize("page", [README, DOCS / "own-data.md"], ids=name)
def test_first_recipes_are_written_and_loaded(page: Path) -> None:
    commands = _only("pipeline.init", page)
    assert commands
    for argv in commands:
        assert init(argv) == 0
        recipe = load_recipe(argv[argv.index("--output") + 1])
        if "--classes" in argv:
            assert list(recipe.dataset.classes or ()) == argv[argv.index("--classes") + 1].split(",")
    assert Path("preview.png").is_file()


@pytest.fixture
def past_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Two runs in runs/shapes, by the names that the pages give them."""
    monkeypatch.chdir(tmp_path)
    recipe, workdir = load_recipe("shapes"), WorkDir(Path("runs/shapes"))
    ids = {"RUN_A": "20260101-080000-000001", "RUN_B": "20260102-080000-000001"}
    for run_id in ids.values():
        summary = summarize(
            {},
            recipe="shapes",
            run_id=run_id,
            model_name="shapes",
            serving_dir=str(workdir.serving("shapes")),
            failure="Trainer failed: out of luck",
            started_at=datetime(2026, 1, 1, tzinfo=UTC),
            seconds=1.0,
        )
        workdir.keep(summary)
        write_report(summary, {}, recipe, workdir)
    return {**ids, "RUN_ID": ids["RUN_A"]}


@pytest.mark.parametrize("page", [README, DOCS / "quick-start.md", DOCS / "report.md"], ids=name)
def test_runs_are_listed_shown_compared_and_deleted(page: Path, past_runs: dict[str, str]) -> None:
    done = 0
    # The comparison first: a run is deleted in the end.
    for module in (report, runs):
        for argv in _only(module.__name__, page):
            assert module.main([past_runs.get(word, word) for word in argv]) == 0
            done += 1
    assert done
    if page.name == "report.md":
        assert not Path("runs/shapes/history", past_runs["RUN_ID"]).exists()


def test_a_package_for_kubeflow_is_compiled(folder: Path) -> None:
    [argv] = _only("pipeline.run_kubeflow", README, "compile")
    assert run_kubeflow.main(argv) == 0
    assert "Trainer" in Path("pipeline.yaml").read_text()


def test_make_run_is_what_readme_says() -> None:
    assert "`make run` is `python -m pipeline.run_local`" in " ".join(README.read_text().split())
    assert "$(BIN)/python -m pipeline.run_local" in (REPOSITORY / "Makefile").read_text()
