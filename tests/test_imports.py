"""Which folder may import which: arrows run pipeline → components → models, and no stage knows another."""

import ast
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from documented import REPOSITORY

from components.training_code import TRAINING_CODE

SHARED = {"dataset", "imaging", "metrics", "model_store", "serving"}
"""Folders of `components` that are no stage: what stages share."""
BELOW = {"models": {"models"}, "components": {"components", "models"}}


def imports(path: Path) -> Iterator[tuple[str, ...]]:
    """All modules of this project that a file imports, wherever in it, by their parts."""
    for node in ast.walk(ast.parse(path.read_text())):
        names: list[str] = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            if name.partition(".")[0] in ("pipeline", "components", "models"):
                yield tuple(name.split("."))


@pytest.mark.parametrize("root", BELOW)
def test_no_arrow_runs_back(root: str) -> None:
    found = {path: set(imports(path)) for path in (REPOSITORY / root).rglob("*.py")}
    assert sum(map(len, found.values())) > 10
    assert not [
        f"{path.relative_to(REPOSITORY)} imports {'.'.join(parts)}"
        for path, modules in found.items()
        for parts in modules
        if parts[0] not in BELOW[root]
    ]


def test_a_stage_never_imports_another_stages_folder() -> None:
    components = REPOSITORY / "components"
    stages = {path.name for path in components.iterdir() if (path / "__init__.py").exists()} - SHARED
    assert {"trainer", "evaluator", "pusher", "report"} <= stages
    assert not [
        f"{path.relative_to(REPOSITORY)} imports {'.'.join(parts)}"
        for folder in [*stages, *SHARED]
        for path in (components / folder).rglob("*.py")
        for parts in imports(path)
        if parts[0] == "components" and len(parts) > 1 and parts[1] in stages - {folder}
    ]


def file_of(parts: Sequence[str]) -> Path | None:
    """The file of a module, or of the one that a name is imported from."""
    for length in range(len(parts), 0, -1):
        path = REPOSITORY.joinpath(*parts[:length])
        for file in (path.with_suffix(".py"), path / "__init__.py"):
            if file.is_file():
                return file
    return None


def test_whatever_a_stage_imports_counts_in_its_fingerprint() -> None:
    """Else new code of it would leave the stage's results in the cache."""
    nodes = ast.walk(ast.parse((REPOSITORY / "pipeline/create_pipeline.py").read_text()))
    calls = [node for node in nodes if isinstance(node, ast.Call) and "source_f" in ast.unparse(node.func)]
    assert len(calls) == 7
    for call in calls:
        sources = [ast.unparse(source) for source in call.args]
        if sources == ["*TRAINING_CODE"]:
            sources = [module.__name__ for module in TRAINING_CODE]
        counted = [REPOSITORY.joinpath(*source.split(".")) for source in sources]
        reached: set[Path] = set()
        ahead = list(counted[0].rglob("*.py"))
        while ahead:
            if (path := ahead.pop()) not in reached:
                reached.add(path)
                ahead += [file for parts in imports(path) if (file := file_of(parts))]
        assert len(reached) > 3
        counted += [place.with_suffix(".py") for place in counted]
        missing = [
            str(path.relative_to(REPOSITORY))
            for path in reached
            if path.parent != REPOSITORY / "components" and not any(map(path.is_relative_to, counted))
        ]
        assert not missing, ast.unparse(call)


def test_nothing_imports_all_of_tfx() -> None:
    """`tfx.v1` brings the whole client of Vertex AI along, a fifth of what every process takes to start."""
    importing = {
        str(path.relative_to(REPOSITORY))
        for root in ("benchmarks", "components", "models", "pipeline", "tests")
        for path in (REPOSITORY / root).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
        if f"{getattr(node, 'module', '')}.{alias.name}.".lstrip(".").startswith("tfx.v1.")
    }
    assert not importing
