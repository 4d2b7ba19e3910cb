"""The page at the end of a local run, and the command that compares two."""

from pathlib import Path
from typing import Any

import pytest
from known_run import Page, known_run
from tfx.types import Artifact, standard_artifacts

from components.dataset.contracts import (
    EVALUATION_FILE,
    INGESTION_FILE,
    Evaluation,
    GateCheck,
    Ingestion,
    SharedPicture,
)
from components.report import lineage as lineage_module
from components.report.data import Lineage, ReportData
from components.report.lineage import lineage
from components.report.run_summary import RunSummary
from pipeline import report
from pipeline.config import load_recipe
from pipeline.local.run_page import write_report
from pipeline.local.running_code import RunningCode
from pipeline.local.workdir import WorkDir

RUN_ID = "20260102-030405"
METRICS = {
    "mean_iou": 0.45,
    "mean_dice": 0.5,
    "pixel_accuracy": 0.9,
    "frequency_weighted_iou": 0.81,
    "iou": {"background": 0.9, "disc": 0.5, "square": 0.4, "triangle": None, "boundary": 0.2},
    "examples": 9,
}


def summary(**changes: Any) -> RunSummary:
    fields = {
        "recipe": "shapes",
        "run_id": RUN_ID,
        "finished_at": "2026-01-02T03:04:05+01:00",
        "outcome": "failed",
        "reasons": ["Trainer failed: no memory"],
        "serving_dir": "/serving/shapes",
        "examples": {"train": 5, "val": 0, "test": 9, "rejected": 1},
        "rejected_files": [{"file": "a.jpg", "reason": "empty file", "found": "0 bytes"}],
        "stages": [{"name": "Trainer", "seconds": 61.0, "cached": False, "memory_mb": 900.5}],
    }
    return RunSummary(**(fields | changes))


def written(
    tmp_path: Path, told: RunSummary, artifacts: dict[str, Artifact] | None = None, obstacle: str = ""
) -> tuple[str, Path]:
    """The text of the page, and where it is."""
    page = write_report(told, artifacts or {}, load_recipe("shapes"), WorkDir(tmp_path), obstacle)
    return Page(page.read_text(encoding="utf-8")).text, page


def test_a_failed_run_has_a_page_of_what_is_known(tmp_path: Path) -> None:
    text, page = written(tmp_path, summary())
    assert page == tmp_path / "report" / "index.html"
    for part in ("Failed", "Trainer failed: no memory", f"{RUN_ID}.log", "1 empty file", "900 MB", "train 5"):
        assert part in text
    assert "Metrics" not in text
    kept = tmp_path / "history" / RUN_ID
    assert (kept / "index.html").read_text() == page.read_text()
    assert ReportData.load(kept).summary.run_id == RUN_ID


def test_a_run_that_failed_before_it_had_read_anything_has_a_page(tmp_path: Path) -> None:
    text, _ = written(tmp_path, summary(examples=None, rejected_files=[], stages=[]))
    assert "Trainer failed: no memory" in text


def test_a_failed_run_s_page_says_what_it_was_made_with(tmp_path: Path) -> None:
    written(tmp_path, summary())
    made_with = ReportData.load(tmp_path / "history" / RUN_ID).lineage
    assert sorted(made_with.seeds) == ["dataset.shapes.seed", "dataset.splits.seed", "training.seed"]
    assert made_with.versions["tensorflow"] and made_with.code_fingerprint


def test_the_page_names_the_code_that_a_run_began_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who commits while it trains would find it named on the page of what another commit has trained."""

    def made_with(code: RunningCode) -> Lineage:
        report = standard_artifacts.Examples()
        report.uri = str(tmp_path / "stage")
        Path(report.uri).mkdir(exist_ok=True)
        known_run().model_copy(update={"lineage": lineage({})}).save(Path(report.uri))
        write_report(summary(), {"report": report}, load_recipe("shapes"), WorkDir(tmp_path), code=code)
        return ReportData.load(tmp_path / "history" / RUN_ID).lineage

    monkeypatch.setattr(lineage_module, "git_commit", lambda: "first")
    code = RunningCode()
    begun = made_with(code)
    assert begun == lineage({})
    monkeypatch.setattr(lineage_module, "git_commit", lambda: "second")
    assert made_with(code) == begun
    monkeypatch.setattr(lineage_module, "CODE", ())
    changed = made_with(code)
    assert changed.git_commit == "first"
    assert changed.code_fingerprint == f"{begun.code_fingerprint}, changed while it ran"


def test_a_seed_that_draws_nothing_in_a_run_and_a_class_of_that_name_are_none_of_its_seeds() -> None:
    dataset = {"layout": "folder", "label_values": {"seed": 1}, "splits": {"seed": 4}, "shapes": {"seed": 0}}
    assert lineage({"dataset": dataset}).seeds == {"dataset.splits.seed": 4}


def test_a_picture_that_is_there_ten_thousand_times_does_not_fill_the_page(tmp_path: Path) -> None:
    members = [("train", f"images/{index:06d}.jpg") for index in range(59_999)] + [("val", "images/last.jpg")]
    shared = SharedPicture(members=tuple(members))
    Ingestion(examples={"train": 59_999, "val": 1}, shared_pictures=(shared,)).save(tmp_path / INGESTION_FILE)
    artifact = standard_artifacts.Examples()
    artifact.uri = str(tmp_path)
    text, page = written(tmp_path, summary(), {"ingestion": artifact})
    assert page.stat().st_size < 200_000
    assert (tmp_path / "history" / RUN_ID / "report.json").stat().st_size < 200_000
    assert "train images/000008.jpg = val images/last.jpg … and 59 990 more" in text


def test_an_interrupted_run_is_not_called_a_failure(tmp_path: Path) -> None:
    text, _ = written(tmp_path, summary(reasons=["interrupted in Trainer"]))
    assert "Interrupted" in text
    assert "Failed" not in text


def evaluated(tmp_path: Path, passed: bool) -> dict[str, Artifact]:
    """What an Evaluator left that is done."""
    check = GateCheck(
        what="mean IoU",
        setting="evaluation.min_mean_iou",
        threshold=0.4,
        value=0.45,
        passed=passed,
        message="as it is",
    )
    confusion = [[9_001, 0, 0, 0, 0], *([0] * 5 for _ in range(4))]
    artifact = standard_artifacts.ModelEvaluation()
    artifact.uri = str(tmp_path)
    found = Evaluation(metrics=METRICS, checks=[check], confusion=confusion)
    found.save(tmp_path / EVALUATION_FILE)
    return {"evaluation": artifact}


def test_a_run_whose_report_stage_failed_still_shows_what_was_evaluated(tmp_path: Path) -> None:
    told = summary(
        outcome="pushed",
        reasons=[],
        pushed_version=7,
        pushed_now=True,
        metrics=METRICS,
        baseline={"version": 6, "metrics": METRICS | {"mean_iou": 0.4}, "obstacle": None},
        slices={"kind=a": 0.3},
    )
    text, _ = written(tmp_path, told, evaluated(tmp_path, passed=True), obstacle="Report failed: no memory")
    assert "Pushed as version 7" in text
    assert "This page lacks examples and intervals: Report failed: no memory" in text
    for number in ("0.450", "0.500", "0.900", "0.810", "+0.050", "kind=a", "triangle –", "at least 0.4"):
        assert number in text
    assert "Confusion matrix" in text


def test_a_refused_run_whose_report_stage_failed_says_what_refused_it(tmp_path: Path) -> None:
    told = summary(outcome="rejected", reasons=["as it is"], metrics=METRICS)
    text, _ = written(tmp_path, told, evaluated(tmp_path, passed=False), obstacle="no memory")
    assert "did not meet every threshold" in text and "not met" in text


def test_a_run_that_failed_after_the_evaluation_has_no_empty_section(tmp_path: Path) -> None:
    told = summary(metrics=METRICS, reasons=["ServingCheck failed: no port"])
    text, _ = written(tmp_path, told, evaluated(tmp_path, passed=True))
    assert "This page lacks" not in text and "Slices" not in text


def test_the_report_stage_s_page_gets_what_only_the_run_knows(tmp_path: Path) -> None:
    made = tmp_path / "artifact"
    made.mkdir()
    known_run().save(made)
    artifact = standard_artifacts.Model()
    artifact.uri = str(made)
    told = summary(outcome="pushed", reasons=[], pushed_version=7, pushed_now=False)
    text, _ = written(tmp_path, told, {"report": artifact})
    for part in ("Already served as version 7", "1 min 01 s", "images/a.jpg", f"run {RUN_ID}", "+01:00"):
        assert part in text


def test_two_runs_of_a_work_directory_are_compared_by_their_ids(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for run_id in ("one", "two"):
        past = WorkDir(tmp_path).past(run_id)
        past.mkdir(parents=True)
        known_run().save(past)
    output = tmp_path / "both.html"
    arguments = ["--compare", "one", "two", "--workdir", str(tmp_path), "--output", str(output)]
    assert report.main(arguments) == 0
    assert capsys.readouterr().out == f"{output}\n"
    assert "Two runs side by side" in Page(output.read_text()).text


def test_runs_may_be_given_by_path(tmp_path: Path) -> None:
    known_run().save(tmp_path)
    output = tmp_path / "both.html"
    runs = [str(tmp_path), str(tmp_path / "report.json")]
    assert report.main(["--compare", *runs, "--output", str(output)]) == 0


@pytest.mark.parametrize(
    ("content", "complaint"),
    [(None, "no run"), ("{}", "holds no report.json"), (b"\xff", "holds no report.json")],
)
def test_what_is_no_run_ends_with_one_line_and_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | bytes | None, complaint: str
) -> None:
    run = tmp_path / "run"
    if content is not None:
        run.write_bytes(content.encode() if isinstance(content, str) else content)
    assert report.main(["--compare", str(run), str(run), "--workdir", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and complaint in said and said.count("\n") == 1


def test_options_are_not_abbreviated(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        report.main(["--compare", "a", "b", "--work", "runs/shapes"])
    assert ended.value.code == 2 and "unrecognized arguments: --work" in capsys.readouterr().err


def test_the_report_of_an_earlier_version_ends_with_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "report.json").write_text('{"run": {"recipe": "shapes"}, "verdict": {"outcome": "pushed"}}')
    assert report.main(["--compare", str(tmp_path), str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "run the recipe in its work directory again" in said


def test_a_folder_without_a_report_ends_with_one_line_and_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report.main(["--compare", str(tmp_path), str(tmp_path)]) == 2
    assert "has no report.json that can be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("run", "output", "complaint"),
    [
        ("r" * 300, "both.html", "no run 'rrr"),
        (".", ".", "--output . is a folder; name a file"),
        (".", "folder", "cannot write folder: Is a directory"),
        (".", "report.json", "--output report.json is there and has the name of a run's own"),
    ],
)
def test_names_that_cannot_be_are_one_line_and_leave_nothing(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    run: str,
    output: str,
    complaint: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    known_run().save(tmp_path)
    (tmp_path / "folder").mkdir()
    before, data = sorted(tmp_path.iterdir()), (tmp_path / "report.json").read_text()
    assert report.main(["--compare", run, run, "--output", output]) == 2
    said = capsys.readouterr().err
    assert complaint in said and said.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before and (tmp_path / "report.json").read_text() == data
