"""The documentation is what the code says: the recipe reference, the recipes shown, the site."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from documented import DOCS, PAGES, README, REPOSITORY, blocks, name
from tensorflow_model_analysis.proto.validation_result_pb2 import ValidationResult

from components.dataset.contracts import Evaluation, Metrics
from components.dataset.labels import LabelSet
from components.evaluator.eval_config import build_eval_config
from components.evaluator.executor import _log
from components.evaluator.gate import UNFOUND_CLASSES, UNMEASURED_CLASSES, explain, explain_classes
from components.evaluator.results import _thresholds
from components.image_mask_example_gen.report import Reason
from components.image_mask_example_gen.split_names import SPELLINGS
from components.report.run_summary import RunSummary
from docs.recipe_reference import main, reference
from pipeline.config import load_recipe

_LOADED = re.compile(r"""(?:\bsrc|<link[^>]*\bhref)=["']?(https?:)?//|@import|url\(["']?(https?:)?//""")
"""What a browser fetches by itself, from another host."""


def test_the_recipe_reference_is_that_of_the_settings() -> None:
    shown = (DOCS / "recipe-reference.md").read_text()
    assert shown == reference(), "run `make docs`, and keep what it writes"


def test_the_reference_knows_nested_keys_bounds_defaults_and_meanings() -> None:
    rows = reference().splitlines()
    assert (
        "| `dataset.splits.val` | number ≥ 0, < 1 or block | `0.15` | For checkpoint choice: the fraction of "
        "all pairs, of the training split's where that or test is declared; or what the data says; see "
        "[dataset.splits.val](#datasetsplitsval) |" in rows
    )
    assert any(row.startswith("| `training.loss.tversky` | number > 0 or block or `null` |") for row in rows)
    assert "| `training.loss.tversky.beta` | number > 0 | `0.7` | Weight of false negatives. |" in rows
    assert any(row.startswith("| `kubeflow.defaults.tolerations[].operator` |") for row in rows)
    assert "The keys of [kubeflow.defaults](#kubeflowdefaults)." in rows


def test_the_reference_is_not_written_where_there_is_no_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--output", str(tmp_path / "nowhere" / "reference.md")]) == 2
    assert "nowhere/reference.md: No such file or directory" in capsys.readouterr().err


def test_the_recipe_for_own_data_is_valid(tmp_path: Path) -> None:
    classes, splits, own, whole = (yaml.safe_load(text) for text in blocks(DOCS / "own-data.md", "yaml"))
    whole["dataset"] |= splits["dataset"]
    path = tmp_path / "street.yaml"
    path.write_text(yaml.safe_dump(whole))
    recipe = load_recipe(str(path))
    assert recipe.name == "street" and recipe.dataset.splits.group is not None
    whole["dataset"] = {key: whole["dataset"][key] for key in ("layout", "root", "images")} | classes[
        "dataset"
    ]
    path.write_text(yaml.safe_dump(whole | {"evaluation": {}}))
    assert list(load_recipe(str(path)).dataset.raw_labels()[0].values()) == ["background", "disc", "square"]
    whole["dataset"] |= own["dataset"]
    path.write_text(yaml.safe_dump(whole | {"evaluation": {}}))
    assert set(load_recipe(str(path)).dataset.splits.declared) == {"train", "val", "test"}


@pytest.mark.parametrize("page", [README, DOCS / "quick-start.md"], ids=name)
def test_what_a_first_run_prints_of_its_gate_is_what_the_gate_says(
    page: Path, caplog: pytest.LogCaptureFixture
) -> None:
    [shown] = [block for block in blocks(page, "text") if "\n[9/11] ServingCheck …\n" in block]
    [mean_iou] = re.findall(r"^  mean IoU ([\d.]+), mean Dice", shown, flags=re.MULTILINE)
    settings = load_recipe("shapes").evaluation
    config = build_eval_config(settings, LabelSet(names=("background", "disc")))
    checks = [
        explain_classes(threshold, [], settings.allow_unmeasured_classes)
        if threshold.metric in (UNMEASURED_CLASSES, UNFOUND_CLASSES)
        else explain(threshold, float(mean_iou), None, "")
        for threshold in _thresholds(config, ValidationResult(), config.model_specs[0].name)
        # TFX drops it where no model is served.
        if not threshold.is_change
    ]
    metrics = Metrics(mean_iou=float(mean_iou), examples=90, iou={})
    with caplog.at_level("INFO"):
        _log(Evaluation(metrics=metrics, checks=tuple(checks), confusion=()))
    said = [f"      {message}\n" for message in caplog.messages]
    assert len(said) > 3 and "".join(["[8/11] Evaluator …\n", *said]) in shown


@pytest.mark.parametrize(
    ("page", "recipe"),
    [
        ("pets-mobilenetv2", "pets_mobilenetv2"),
        ("pets-unet", "pets_best"),
        ("clothing", "ccp_densenet121"),
        ("clothing", "ccp_best"),
        ("kitti", "camvid_best"),
    ],
)
def test_tutorials_compute_with_the_least_and_the_most_that_was_measured(page: str, recipe: str) -> None:
    measured = (DOCS / "performance.md").read_text().partition("\n## Training\n")[2]
    whole_pictures, _, _ = measured.partition("\nOn windows of pictures")
    [row] = [row.split("|") for row in whole_pictures.splitlines() if row.startswith(f"| `{recipe}` |")]
    _, _, _, trainer, *_, the_day_before, _ = row
    rates = sorted((float(trainer), float(the_day_before)))
    least, most = (f"{rate:.0f}" if rate >= 10 else str(rate) for rate in rates)
    assert f" {least} to {most} " in " ".join((DOCS / "tutorials" / f"{page}.md").read_text().split())


def test_every_word_that_names_a_split_is_listed_and_no_other() -> None:
    [listed] = re.findall(r"Known words are ([^.]*)\.", (DOCS / "own-data.md").read_text())
    assert sorted(re.findall(r"`(\w+)`", listed)) == sorted(SPELLINGS)


def test_every_reason_for_a_rejected_file_is_explained_and_no_other() -> None:
    table = (DOCS / "troubleshooting.md").read_text().partition("| reason | |\n|---|---|\n")[2]
    first_cells = [row.split("|")[1] for row in table.partition("\n\n")[0].splitlines()]
    explained = [reason for cell in first_cells for reason in re.findall("`(.*?)`", cell)]
    assert sorted(explained) == sorted(Reason)


def test_every_key_of_a_runs_summary_is_explained_and_no_other() -> None:
    table = (DOCS / "how-it-works.md").read_text().partition("`summary.json` is for programs:\n\n")[2]
    first_cells = [row.split("|")[1] for row in table.partition("\n\n")[0].splitlines()[2:]]
    explained = [key for cell in first_cells for key in re.findall("`(.*?)`", cell)]
    assert sorted(explained) == sorted(RunSummary.model_fields)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_file_named_is_there(page: Path) -> None:
    named = re.findall(
        r"`((?:pipeline|components|models|docs|tests|kubernetes)/[\w/.-]+\.\w+)`", page.read_text()
    )
    assert [path for path in named if not (REPOSITORY / path).exists()] == []


def test_pictures_have_a_text_for_those_who_do_not_see_them() -> None:
    shown = [text for page in PAGES for text in re.findall(r"!\[(.*?)\]\(", page.read_text())]
    assert len(shown) >= 4 and all(len(text) > 20 for text in shown)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as ``make docs`` does: any warning, a broken link or heading among them, fails it.

    Not quietly: mkdocs then counts no warnings, and calls what has some a success.
    """
    built = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(built)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        env={"PATH": "", "NO_MKDOCS_2_WARNING": "1"},
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert [line for line in done.stderr.splitlines() if not line.startswith("INFO ")] == []
    return built


def test_the_site_has_every_page(site: Path) -> None:
    pages = {path.relative_to(site).with_suffix(".md").as_posix() for path in site.rglob("*.html")}
    assert pages - {"404.md"} == {page.relative_to(DOCS).as_posix() for page in PAGES if page != README}


def test_the_site_loads_nothing_from_elsewhere(site: Path) -> None:
    files = [path for path in site.rglob("*") if path.suffix in (".html", ".css")]
    assert len(files) > 15
    assert [path.name for path in files if _LOADED.search(path.read_text())] == []


def test_make_docs_writes_the_reference_and_fails_on_warnings() -> None:
    target = (REPOSITORY / "Makefile").read_text().partition("\ndocs: ")[2].partition("\n\n")[0]
    assert "docs.recipe_reference --output docs/recipe-reference.md" in target
    assert "mkdocs build --strict\n" in target + "\n"
