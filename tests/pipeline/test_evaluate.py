"""python -m pipeline.evaluate, as people call it: a tiny pushed model on folders of images and masks."""

import errno
import fcntl
import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import Mock

import numpy as np
import pytest
import tensorflow as tf
import yaml
from PIL import Image
from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
from tfx.types import channel_utils, standard_artifacts
from tiny_export import LABELS, export_tiny_model
from tiny_tfds import COUNTS, NAMES, TinyPets, prepare

from components.dataset.artifacts import IngestionReportArtifact
from components.dataset.contracts import EVALUATION_FILE, LABELS_FILE, Evaluation
from components.dataset.features import SPLITS
from components.evaluator.component import Evaluator
from components.evaluator.executor import Executor as EvaluatorExecutor
from components.image_mask_example_gen.component import ImageMaskExampleGen
from components.image_mask_example_gen.config import DatasetConfig, ShapesConfig
from components.image_mask_example_gen.executor import Executor as IngestionExecutor
from components.image_mask_example_gen.inputs import opened_root
from components.image_mask_example_gen.plan import plan_evaluation, plan_ingestion
from components.image_mask_example_gen.splits import DeclaredSplit, SplitConfig
from components.report.comparison import Comparison
from components.report.data import ReportData
from components.report.statistics import dataset_statistics
from components.serving.config import ServingLimits
from pipeline import report
from pipeline.config import load_recipe
from pipeline.evaluate.__main__ import find_model, main
from pipeline.evaluate.run import _Learnt, _Work
from pipeline.evaluate.scratch import scratch, sole_evaluation
from pipeline.local.workdir import WorkDir

DARK, BRIGHT = LABELS.names
LIMITS = ServingLimits(max_pixels=1000)
THRESHOLD = 0.3


class Finished(NamedTuple):
    """What a command did."""

    code: int
    out: str
    err: str


Evaluate = Callable[..., Finished]


def draw_pairs(folder: Path, count: int, seed: int) -> None:
    """Halves dark and bright, at sizes of their own, beside masks that are often somewhere else."""
    rng = np.random.default_rng(seed)
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for number in range(count):
        height, width = rng.integers(9, 30, 2)
        edge, said = rng.integers(2, width - 2, 2)
        columns = np.arange(width)[np.newaxis].repeat(height, 0)
        image = np.where(columns < edge, 20, 230) + rng.integers(0, 20, (height, width))
        mask = np.where(columns < said, 0, 255)
        mask[0] = 7
        pixels = image.astype(np.uint8)[..., np.newaxis].repeat(3, 2)
        Image.fromarray(pixels).save(folder / f"images/{number:03}.png")
        Image.fromarray(mask.astype(np.uint8)).save(folder / f"masks/{number:03}.png")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_tiny_model(tmp_path_factory.mktemp("model"), LIMITS)


@pytest.fixture
def home(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where people type: ``own``, ``other``, ``tiny.yaml``, and a model pushed that learnt from ``own``."""
    monkeypatch.chdir(tmp_path)
    draw_pairs(tmp_path / "own", 20, seed=1)
    draw_pairs(tmp_path / "other", 7, seed=2)
    recipe = {
        "dataset": {
            "layout": "folder",
            "root": "own",
            "images": "images/*.png",
            "masks": "masks/*.png",
            "label_values": {DARK: 0, BRIGHT: 255},
            "ignore_label": 7,
            "max_pixels": 900,
        },
        "evaluation": {"min_mean_iou": THRESHOLD},
        "beam": {"workers": 1},
    }
    Path("tiny.yaml").write_text(yaml.safe_dump(recipe, allow_unicode=True, sort_keys=False))
    shutil.copytree(exported, tmp_path / "runs/tiny/serving/tiny/3")
    say_what_it_learnt_from(tmp_path, load_recipe("tiny.yaml").dataset.model_dump(mode="json"))
    return tmp_path


def say_what_it_learnt_from(home: Path, dataset: dict[str, Any]) -> None:
    """Writes it where the export does."""
    description = home / "runs/tiny/serving/tiny/3" / LABELS_FILE
    told = json.loads(description.read_text())
    told["recipe"] = {"name": "tiny", "dataset": dataset}
    description.write_text(json.dumps(told))


@pytest.fixture
def evaluate(capfd: pytest.CaptureFixture[str]) -> Evaluate:
    """Runs the command in this process."""

    def run(*args: str, model: str = "tiny") -> Finished:
        capfd.readouterr()
        code = main(["--model", model, "--recipe", "tiny.yaml", *args])
        return Finished(code, *capfd.readouterr())

    return run


def counted(model: Path, folder: Path, names: list[str]) -> np.ndarray:
    """The confusion matrix by logical operations, of masks that the model serves for the images' files."""
    segment = tf.saved_model.load(str(model)).signatures["serving_default"]
    confusion = np.zeros((2, 2), int)
    for name in names:
        answer = segment(image_bytes=tf.constant([(folder / "images" / name).read_bytes()]))
        predicted = np.array(Image.open(io.BytesIO(answer["mask_bytes"].numpy()[0])))
        truth = np.array(Image.open(folder / "masks" / name))
        for row, value in enumerate((0, 255)):
            for column in (0, 1):
                confusion[row, column] += np.sum((truth == value) & (predicted == column))
    return confusion


def iou(confusion: np.ndarray) -> np.ndarray:
    hits = np.diag(confusion)
    return hits / (confusion.sum(0) + confusion.sum(1) - hits)


def test_all_pairs_of_another_folder_are_scored_as_numpy_counts_them(home: Path, evaluate: Evaluate) -> None:
    before = sorted(home.glob("runs/**/*"))
    done = evaluate("--data", "other")
    names = sorted(path.name for path in (home / "other/images").iterdir())
    expected = counted(home / "runs/tiny/serving/tiny/3", home / "other", names)
    data = ReportData.load(home / "evaluation")
    assert data.confusion == tuple(map(tuple, expected.tolist()))
    assert data.summary.metrics and data.summary.metrics.examples == len(names) == 7
    assert data.summary.metrics.iou == pytest.approx(dict(zip(LABELS.names, iou(expected), strict=True)))
    mean = iou(expected).mean()
    assert data.summary.metrics["mean_iou"] == pytest.approx(mean)
    assert data.moved_pixels == 0 and len(data.gallery) == 7 and data.statistics

    assert (done.code, done.err) == (0 if mean >= THRESHOLD else 3, "")
    said = done.out.split("On 7 test images at their original resolution:\n")[1].splitlines()
    assert said[0].startswith(f"  mean IoU {mean:.3f}, ")
    for line, name, value in zip(said[1:3], LABELS.names, iou(expected), strict=True):
        assert line.split() == ["IoU", "of", *name.split(), f"{value:.3f}"]
    assert "Report:  evaluation/index.html" in said
    assert "left out" not in done.out

    assert sorted(home.glob("runs/**/*")) == before
    assert sorted(path.name for path in (home / "evaluation").iterdir()) == [
        "evaluation.log",
        "index.html",
        "report.json",
        "splits.csv",
    ]
    page = (home / "evaluation/index.html").read_text()
    assert "Evaluated: it would pass the gate" in page and "runs/tiny/serving/tiny/3" in page


def evaluation_of_a_run(home: Path) -> Evaluation:
    """What the pipeline's own stages make of the recipe and the model."""
    recipe = load_recipe("tiny.yaml")
    labels, context = (
        recipe.dataset.label_set(),
        BaseBeamExecutor.Context(beam_pipeline_args=recipe.beam.pipeline_args(), tmp_dir=str(home / "tmp")),
    )
    examples, ingestion = standard_artifacts.Examples(), IngestionReportArtifact()
    examples.uri, ingestion.uri = str(home / "run/examples"), str(home / "run")
    read = ImageMaskExampleGen(recipe.dataset, labels, recipe.dataset.root or "")
    IngestionExecutor(context).Do(
        {}, {"examples": [examples], "ingestion": [ingestion]}, dict(read.exec_properties)
    )
    model = standard_artifacts.Model()
    model.uri = str(home / "run/model")
    Path(model.uri).mkdir()
    Path(model.uri, "Format-Serving").symlink_to(home / "runs/tiny/serving/tiny/3")
    evaluator = Evaluator(
        examples=channel_utils.as_channel([examples]),
        model=channel_utils.as_channel([model]),
        baseline_model=channel_utils.as_channel([standard_artifacts.Model()]),
        config=recipe.evaluation,
        labels=labels,
        min_mean_iou=recipe.evaluation.min_mean_iou,
    )
    evaluation, blessing = standard_artifacts.ModelEvaluation(), standard_artifacts.ModelBlessing()
    evaluation.uri, blessing.uri = str(home / "run/evaluation"), str(home / "run/blessing")
    EvaluatorExecutor(context).Do(
        {"examples": [examples], "model": [model]},
        {"evaluation": [evaluation], "blessing": [blessing]},
        dict(evaluator.exec_properties),
    )
    return Evaluation.load(Path(evaluation.uri, EVALUATION_FILE))


def test_on_its_own_folder_a_model_is_scored_as_in_its_run_on_what_it_did_not_learn_from(
    home: Path, evaluate: Evaluate
) -> None:
    done = evaluate("--output", "again")
    found, of_run = ReportData.load(home / "again"), evaluation_of_a_run(home)
    assert found.summary.metrics == of_run.metrics
    assert found.confusion == of_run.confusion
    assert found.checks == of_run.checks
    assert of_run.metrics.examples == 3
    assert "17 pairs left out, which the model learnt from: its train and val" in done.out

    assert report.main(["--compare", "again", "again/report.json", "--output", "both.html"]) == 0
    assert (home / "both.html").read_text().count("Evaluated: it would pass the gate") == 2
    of_splits = {split: home / f"run/examples/Split-{split}" for split in SPLITS}
    run = found.model_copy(update={"statistics": dataset_statistics(of_splits)})
    pair = Comparison(run, found)
    assert (pair.same_data, pair.same_test, pair.same_learnt) == (False, True, None)


def test_a_limit_and_declared_splits_are_for_the_folder_that_they_were_written_for(
    home: Path, evaluate: Evaluate
) -> None:
    recipe = yaml.safe_load(Path("tiny.yaml").read_text())
    recipe["dataset"] |= {"limit": 10, "splits": {"test": {"pattern": "01[0-9].png"}}}
    Path("tiny.yaml").write_text(yaml.safe_dump(recipe, allow_unicode=True, sort_keys=False))
    say_what_it_learnt_from(home, load_recipe("tiny.yaml").dataset.model_dump(mode="json"))
    of_other = evaluate("--data", "other").out
    assert "On 7 test images" in of_other
    assert (
        "not divided as the recipe declares, so no pair is set aside: dataset.splits.test: no pair"
        in of_other
    )

    of_copy = evaluate("--data", "own/../own").out
    assert "dataset.limit" not in of_copy and 0 < _scored(of_copy) < 10
    draw_pairs(home / "many", 12, seed=3)
    of_many = evaluate("--data", "many").out
    assert "dataset.limit 10 is for the folder that the model learnt from" in of_many
    assert _scored(of_many) == 12


def test_what_a_limit_left_of_a_group_that_the_model_learnt_from_is_left_out_unless_it_is_declared_as_test(
    home: Path, evaluate: Evaluate
) -> None:
    learnt_with = {"limit": 10, "splits": {"group": "([0-9])$", "test": {"pattern": "00[0-3].png"}}}
    text = Path("tiny.yaml").read_text()
    recipe = yaml.safe_load(text)
    recipe["dataset"] |= learnt_with
    Path("tiny.yaml").write_text(yaml.safe_dump(recipe, allow_unicode=True, sort_keys=False))
    settings = load_recipe("tiny.yaml").dataset
    plan = plan_ingestion(settings, Path("own"))
    placed = {shard.split: {entry.key for entry in shard.entries} for shard in plan.shards}
    known = placed["train"] | placed["val"]
    assert not {key[-1] for key in placed["train"]} & {key[-1] for key in placed["val"]}
    say_what_it_learnt_from(home, settings.model_dump(mode="json"))
    Path("tiny.yaml").write_text(text)

    out = evaluate().out
    declared, groups = {"000", "001", "002", "003"}, {key[-1] for key in known}
    frames = {f"{number:03}" for number in range(20)} - known - declared
    related = {key for key in frames if key[-1] in groups}
    assert placed["test"] < declared and related and any(key[-1] in groups for key in declared)
    lines = (home / "evaluation/splits.csv").read_text().splitlines()
    assert sorted(lines[1:]) == sorted(f"images/{key}.png,test" for key in (frames - related) | declared)
    assert (
        f"{len(known)} pairs left out, which the model learnt from: its train and val; and {len(related)} "
        "more of their groups (dataset.splits.group)" in out
    )

    # Pictures that another recipe calls alike are others; the same ones are known by other names, too.
    draw_pairs(home / "own/new", 7, seed=3)
    for kind in ("images", "masks"):
        for key in related:
            (home / "own/new" / kind / f"own{key}.png").symlink_to(home / "own" / kind / f"{key}.png")
    patterns = [f"dataset.{kind}=new/{kind}/*.png" for kind in ("images", "masks")]
    out = evaluate("--set", patterns[0], "--set", patterns[1]).out
    assert _scored(out) == 7
    assert f"0 pairs left out, which the model learnt from: its train and val; and {len(related)} more" in out


def _scored(out: str) -> int:
    return int(out.partition("On ")[2].partition(" test images")[0])


def test_links_to_what_the_model_learnt_from_and_copies_are_left_out_too_and_a_missed_threshold_ends_with_3(
    home: Path, evaluate: Evaluate
) -> None:
    for kind in ("images", "masks"):
        (home / "mixed" / kind).mkdir(parents=True)
        for number, path in enumerate(sorted((home / "own" / kind).iterdir())):
            repeat = (os.symlink, shutil.copyfile)[number % 2]
            repeat(path, home / "mixed" / kind / f"own{path.name}")
        for path in (home / "other" / kind).iterdir():
            (home / "mixed" / kind / path.name).write_bytes(path.read_bytes())
    done = evaluate("--data", "mixed", "--set", "evaluation.min_mean_iou=0.99")
    assert "17 pairs left out" in done.out and "On 10 test images" in done.out
    assert done.code == 3
    assert "The gate would refuse it:\n  mean IoU 0." in done.out
    assert "is under evaluation.min_mean_iou 0.990" in done.out
    assert "Evaluated: the gate would refuse it" in (home / "evaluation/index.html").read_text()


def says_that_it_learnt_from(model: Path, dataset: DatasetConfig) -> Path:
    """A directory that tells of a model's settings, and has no model."""
    (model / LABELS_FILE).parent.mkdir(parents=True)
    (model / LABELS_FILE).write_text(json.dumps({"recipe": {"dataset": dataset.model_dump(mode="json")}}))
    return model


def unseen_keys(learnt: _Learnt, dataset: DatasetConfig) -> set[str]:
    """What is left to be scored of a folder."""
    with opened_root(dataset) as root:
        plan = plan_evaluation(dataset, root, learnt.of(dataset))
    return {entry.key for shard in plan.shards for entry in shard.entries}


def test_drawn_pictures_that_a_model_learnt_from_are_left_out_of_more_of_the_same_seed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def drawn(num_images: int, seed: int = 0) -> DatasetConfig:
        return DatasetConfig(shapes=ShapesConfig(num_images=num_images, seed=seed))

    learnt = _Learnt(says_that_it_learnt_from(tmp_path / "model", drawn(60)))
    own_test = unseen_keys(learnt, drawn(60))
    assert 0 < len(own_test) < 30
    assert unseen_keys(learnt, drawn(100)) == own_test | {f"{index:06d}" for index in range(60, 100)}
    assert len(unseen_keys(learnt, drawn(100, seed=1))) == 100
    with caplog.at_level("INFO", logger="components"):
        learnt.tell()
    assert caplog.messages == [
        f"{2 * (60 - len(own_test))} pairs left out, which the model learnt from: its train and val"
    ]


def test_records_that_a_model_learnt_from_are_left_out_of_copies_of_their_set_and_as_files(
    tmp_path: Path,
) -> None:
    prepare(TinyPets, tmp_path / "sets")
    shutil.copytree(tmp_path / "sets", tmp_path / "copy")

    def records(root: str) -> DatasetConfig:
        return DatasetConfig(layout="tfds", root=str(tmp_path / root), name="tiny_pets", classes=tuple(NAMES))

    pictures = records("sets").source
    for entry in pictures.scan(tmp_path / "sets").entries:
        for folder, file in (("images", pictures.image_file(tmp_path / "sets", entry)), ("masks", None)):
            (tmp_path / "files" / folder).mkdir(parents=True, exist_ok=True)
            (tmp_path / "files" / folder / f"{entry.key}.png").write_bytes(
                file.open("rb").read() if file else b"no matter"
            )
    files = DatasetConfig(
        layout="folder",
        root=str(tmp_path / "files"),
        images="images/*.png",
        masks="masks/*.png",
        label_values={"pet": 0, "background": 1},
        splits=SplitConfig(test=DeclaredSplit(pattern="test-*")),
    )
    of_records = _Learnt(says_that_it_learnt_from(tmp_path / "model", records("sets")))
    own_test = unseen_keys(of_records, records("sets"))
    assert len(own_test) == COUNTS["test"] and all(key.startswith("test-") for key in own_test)
    assert unseen_keys(of_records, records("copy")) == own_test
    assert unseen_keys(of_records, files) == own_test
    of_files = _Learnt(says_that_it_learnt_from(tmp_path / "other", files))
    assert unseen_keys(of_files, records("sets")) == own_test


def test_a_folder_that_cannot_be_read_as_the_recipe_says_ends_with_1_and_its_cause(
    home: Path, evaluate: Evaluate, monkeypatch: pytest.MonkeyPatch
) -> None:
    # An earlier page beside this one's log would be taken for what came of it.
    assert evaluate("--data", "other").code in (0, 3)
    assert (home / "evaluation/index.html").exists()
    Image.fromarray(np.full((10, 10), 77, np.uint8)).save(home / "other/masks/000.png")
    done = evaluate("--data", "other")
    assert done.code == 1
    assert "Failed: " in done.out and "dataset.max_rejected_fraction" in done.out
    assert sorted(path.name for path in (home / "evaluation").iterdir()) == ["evaluation.log"]

    # On a disk without locks another one may be at work.
    (home / "evaluation/.evaluation-other").mkdir()
    with monkeypatch.context() as without_locks:
        without_locks.setattr(fcntl, "flock", Mock(side_effect=OSError(errno.ENOLCK, "No locks available")))
        done = evaluate("--data", "other")
    assert done.code == 1 and "dataset.max_rejected_fraction" in done.out
    assert (home / "evaluation/.evaluation-other").is_dir()

    done = evaluate("--data", "other", "--set", "beam.options=[--direct_runner_bundle_repeat=x]")
    assert done.code == 1 and "Failed: Beam refuses beam.options; the log has its words" in done.out


@pytest.mark.parametrize(
    ("model", "args", "said"),
    [
        (
            "nobody",
            [],
            "--model nobody: no such model in runs/tiny/serving (tiny), and no folder of that name",
        ),
        ("~nobody-x/m", [], "--model ~nobody-x/m: no such model in runs/tiny/serving (tiny), and no folder"),
        ("own", [], "--model own: no such model in runs/tiny/serving (tiny), and no folder of that name"),
        ("tiny", ["--data", "nowhere"], "dataset.root: no folder"),
        (
            "tiny",
            ["--set", f"dataset.label_values={{{BRIGHT}: 255, {DARK}: 0}}"],
            f"has {DARK}, {BRIGHT}; recipe tiny has {BRIGHT}, {DARK}. Names and order must agree",
        ),
        (
            "tiny",
            ["--set", "dataset.max_pixels=1001"],
            "refuses images of more than 1000 pixels, and dataset.max_pixels lets in 1001",
        ),
        (
            "tiny",
            ["--set", "dataset.exif=upright"],
            "takes the pixels of an image with an EXIF orientation as stored, the recipe does not: "
            "--set dataset.exif=stored",
        ),
        (
            "tiny",
            ["--set", "transform.channels=[4, 3, 2]"],
            "reads no list of bands and recipe tiny the bands [4, 3, 2]: --set transform.channels='3'",
        ),
        (
            "tiny",
            ["--set", "dataset.value_range=[0, 4095]"],
            "take other values of pictures of more than 8 bits for 0 and 255: --set dataset.value_range=null",
        ),
        ("tiny", ["--set", "evaluation.min_mean_ius=1"], "min_mean_iou"),
        ("tiny", ["--output", "evaluation/u?"], "evaluation/u?: TensorFlow and Beam take ? in a path for a"),
        ("[1]", [], "/[1]/3: TensorFlow and Beam take [ in a path for a part of a pattern"),
        ("tiny", ["--output", "/proc"], "/proc/evaluation.log: No such file or directory"),
        ("tiny", ["--data", "other", "--output", "other/."], "--output other is the folder of the data"),
    ],
)
def test_a_mistake_ends_with_2_and_a_line_before_anything_is_written(
    home: Path, evaluate: Evaluate, model: str, args: list[str], said: str
) -> None:
    shutil.copytree("runs/tiny/serving/tiny", "[1]")
    done = evaluate(*args, model=model)
    assert (done.code, done.out) == (2, "")
    assert said in done.err and done.err.count("\n") == 1
    assert not (home / "evaluation").exists()


def test_a_second_evaluation_into_one_folder_ends_with_2_and_leaves_the_first_ones_files(
    home: Path, evaluate: Evaluate
) -> None:
    output = home / "evaluation"
    output.mkdir()
    files = [output / name for name in ("evaluation.log", "index.html", "report.json", "splits.csv")]
    for file in files:
        file.write_text("the first one's")
    with files[0].open() as log:
        fcntl.flock(log, fcntl.LOCK_EX)
        done = evaluate()
    said = "another evaluation is at work in evaluation; choose another --output\n"
    assert done == (2, "", said)
    assert {file.read_text() for file in files} == {"the first one's"}
    assert set(output.iterdir()) == set(files)


@pytest.mark.parametrize("name", ["index.html", "report.json", "splits.csv"])
def test_results_without_an_evaluations_log_are_somebody_elses_and_stay(
    home: Path, evaluate: Evaluate, name: str
) -> None:
    # A broken link is a file of that name, too, which writing would replace.
    (home / "mine/.evaluation-mine").mkdir(parents=True)
    (home / "mine" / name).symlink_to("nowhere")
    done = evaluate("--output", "mine")
    said = f"--output mine has {name} and no evaluation.log, so that no evaluation wrote it; choose another\n"
    assert done == (2, "", said)
    assert sorted(path.name for path in (home / "mine").iterdir()) == [".evaluation-mine", name]


def test_what_an_evaluation_that_was_killed_has_left_goes_with_the_next(tmp_path: Path) -> None:
    (remains := tmp_path / ".evaluation-killed").mkdir()
    (remains / "examples").touch()
    for name in (".index.html.7", ".report.json.7", ".splits.csv.7"):
        (tmp_path / name).touch()
    (log := tmp_path / "evaluation.log").write_text("killed")
    with sole_evaluation(log), scratch(tmp_path) as folder:
        assert set(tmp_path.iterdir()) == {folder, log}
    assert list(tmp_path.iterdir()) == [log] and not log.read_text()


@pytest.mark.parametrize("named", ["tiny", "runs/tiny/serving/tiny", "runs/tiny/serving/tiny/3"])
def test_a_name_or_a_directory_stands_for_a_version_or_the_newest(home: Path, named: str) -> None:
    workdir = WorkDir(Path("runs/tiny"))
    assert find_model(named, workdir) == home / "runs/tiny/serving/tiny/3"
    shutil.copytree("runs/tiny/serving/tiny/3", "runs/tiny/serving/tiny/20")
    version = 3 if named.endswith("3") else 20
    assert find_model(named, workdir) == home / f"runs/tiny/serving/tiny/{version}"


def test_a_link_stands_for_the_version_that_it_leads_to_at_first(home: Path) -> None:
    version = home / "runs/tiny/serving/tiny/3"
    Path("current").symlink_to(version)
    Path("versions").symlink_to(version.parent)
    workdir = WorkDir(Path("runs/tiny"))
    assert find_model("./current", workdir) == find_model("./versions", workdir) == version


def test_a_model_that_changes_while_it_is_evaluated_has_no_page(
    home: Path, evaluate: Evaluate, monkeypatch: pytest.MonkeyPatch
) -> None:
    score = _Work.score

    def score_and_change(work: _Work, model: Path) -> None:
        score(work, model)
        shutil.copy2(model / LABELS_FILE, model / "more.json")

    monkeypatch.setattr(_Work, "score", score_and_change)
    done = evaluate("--data", "other")
    assert done.code == 1
    assert f"{home}/runs/tiny/serving/tiny/3 changed while it was evaluated; run again" in done.out
    assert not (home / "evaluation/index.html").exists()


class EarlierLabels(tf.Module):
    """What the signature ``labels`` was before it told of label values and orientations (7a9e1ea)."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="ignored")])
    def labels(self, ignored: tf.Tensor) -> dict[str, tf.Tensor]:
        rows = tf.size(ignored)
        names, colors = tf.constant(LABELS.names), tf.constant(LABELS.palette, tf.uint8)
        return {
            "names": tf.tile(names[tf.newaxis], [rows, 1]),
            "colors": tf.tile(colors[tf.newaxis], [rows, 1, 1]),
        }


@pytest.fixture
def from_before(exported: Path, home: Path) -> Path:
    """A model with the signatures and the ``labels.json`` that the code of 7a9e1ea gave it, in place of the
    pushed one. The graphs behind the other signatures are today's.
    """
    version = home / "runs/tiny/serving/tiny/3"
    told = json.loads((version / LABELS_FILE).read_text())
    shutil.rmtree(version)
    module, model = EarlierLabels(), tf.saved_model.load(str(exported))
    module.model = model
    kept = ("serving_default", "serving_pixels", "evaluate")
    signatures = {name: model.signatures[name] for name in kept} | {"labels": module.labels}
    tf.saved_model.save(module, str(version), signatures=signatures)
    earlier = {key: told[key] for key in ("limits", "recipe", "versions")}
    earlier["labels"] = {key: told["labels"][key] for key in ("names", "colors", "ignore_label")}
    (version / LABELS_FILE).parent.mkdir()
    (version / LABELS_FILE).write_text(json.dumps(earlier))
    return version


def test_a_model_of_earlier_code_from_a_folder_that_is_gone_is_scored_with_a_warning(
    from_before: Path, home: Path, evaluate: Evaluate
) -> None:
    answer = tf.saved_model.load(str(from_before)).signatures["labels"](ignored=tf.constant([""]))
    assert set(answer) == {"names", "colors"}
    dataset = load_recipe("tiny.yaml").dataset.model_dump(mode="json")
    say_what_it_learnt_from(home, dataset | {"root": "/no/such/folder"})
    done = evaluate("--data", "other")
    assert done.code == 0 and "On 7 test images" in done.out
    assert "WARNING  it is not known whether the model learnt from these pairs: /no/such/folder" in done.out
    names = sorted(path.name for path in (home / "other/images").iterdir())
    expected = counted(from_before, home / "other", names)
    assert ReportData.load(home / "evaluation").confusion == tuple(map(tuple, expected.tolist()))
