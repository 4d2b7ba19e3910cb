"""The stage itself: real Examples, a real SavedModel, and the page that comes out."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from conftest import Pair, disc_pair
from known_run import Page
from tfx.types import standard_artifacts

import components
import models
from components.dataset import features
from components.dataset.artifacts import HtmlReport, IngestionReportArtifact
from components.dataset.contracts import EVALUATION_FILE, Evaluation, GateCheck, Metrics
from components.dataset.labels import LabelSet
from components.fingerprint import source_fingerprint
from components.metrics.confusion import count_pixels, margins
from components.metrics.table import MEAN_IOU, METRICS, class_iou
from components.report import executor
from components.report import lineage as lineage_module
from components.report.component import Driver
from components.report.data import ReportData

LABELS = LabelSet(names=("ground", "disc", "unicorn"))
RECIPE = {
    "name": "discs",
    "description": "discs",
    "dataset": {"root": None},
    "transform": {"channels": 3},
    "training": {"epochs": None, "learning_rate": None, "seed": 3},
    "evaluation": {"min_mean_iou": None},
    "serving": {"model_name": "discs"},
}


class Thresholding(tf.Module):
    """Calls a pixel a disc where its red is above 120; a third class is never predicted."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "examples")])
    def evaluate(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        parsed = tf.io.parse_example(examples, {features.IMAGE_ENCODED: tf.io.FixedLenFeature([], tf.string)})

        def predict(encoded: tf.Tensor) -> tf.Tensor:
            return tf.io.encode_png(tf.cast(tf.io.decode_png(encoded)[..., :1] > 120, tf.uint8))

        return {"mask_bytes": tf.map_fn(predict, parsed[features.IMAGE_ENCODED])}


def confusion(pair: Pair) -> np.ndarray:
    return count_pixels(pair.class_ids, (pair.image[..., 0] > 120).astype(np.uint8), 3, 255)


def found(test: list[Pair]) -> Evaluation:
    """What the Evaluator would have found; it is tested elsewhere."""
    total = np.sum([confusion(pair) for pair in test], axis=0)
    counts = margins(total)
    ious = class_iou(counts).ratio()
    return Evaluation(
        metrics=Metrics(
            **{metric.name: float(metric(counts)) for metric in METRICS},
            iou={
                name: None if np.isnan(iou) else float(iou)
                for name, iou in zip(LABELS.names, ious, strict=True)
            },
            examples=len(test),
        ),
        confusion=total.tolist(),
        checks=(
            GateCheck(
                what="mean IoU",
                setting="evaluation.min_mean_iou",
                threshold=0.2,
                value=float(MEAN_IOU(counts)),
                passed=True,
                message="reached",
            ),
        ),
    )


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """What the other stages leave behind of a run with two test images."""
    root = tmp_path_factory.mktemp("artifacts")
    kinds: dict[str, Any] = {
        "examples": standard_artifacts.Examples,
        "ingestion": IngestionReportArtifact,
        "model": standard_artifacts.Model,
        "model_run": standard_artifacts.ModelRun,
        "evaluation": standard_artifacts.ModelEvaluation,
        "infra_blessing": standard_artifacts.InfraBlessing,
        "pushed_model": standard_artifacts.PushedModel,
        "baseline_model": standard_artifacts.Model,
    }
    made = {key: kind() for key, kind in kinds.items()}
    for key, artifact in made.items():
        (root / key).mkdir()
        artifact.uri = str(root / key)
    made["examples"].split_names = '["train", "test"]'
    for split, seeds in (("train", range(3)), ("test", range(10, 12))):
        directory = root / "examples" / f"Split-{split}"
        directory.mkdir()
        with tf.io.TFRecordWriter(str(directory / "data_tfrecord-00000-of-00001")) as writer:
            for seed in seeds:
                writer.write(disc_pair(seed).example(f"{seed}.png", LABELS.num_classes))
    rejected = {"file": "9.png", "reason": "truncated", "found": "ends early"}
    (root / "ingestion" / "ingestion.json").write_text(
        json.dumps({"examples": {"train": 3, "test": 2}, "rejected": [rejected]})
    )
    model = Thresholding()
    tf.saved_model.save(
        model, str(root / "model" / "Format-Serving"), signatures={"evaluate": model.evaluate}
    )
    (root / "model_run" / "history.json").write_text(
        json.dumps(
            {
                "best_epoch": 1,
                "epochs": [{"phase": 1, "loss": 0.5, "val_loss": float("nan")}],
                "untrained_classes": ["disc"],
            }
        )
    )
    made["pushed_model"].set_int_custom_property("pushed", 1)
    made["pushed_model"].set_string_custom_property("pushed_version", "7")
    made["pushed_model"].set_string_custom_property("pushed_destination", "/serving/discs/7")
    return {key: [artifact] for key, artifact in made.items()}


def run_stage(artifacts: dict[str, list[Any]], directory: Path, evaluation: Evaluation) -> ReportData:
    evaluation.save(Path(artifacts["evaluation"][0].uri, EVALUATION_FILE))
    report = HtmlReport()
    report.uri = str(directory)
    executor.Executor().Do(
        artifacts,
        {"report": [report]},
        {
            "recipe": json.dumps(RECIPE),
            "labels": LABELS.model_dump_json(),
            "data_path": "/data/discs",
            "epochs": 2,
            "learning_rate": 0.5,
            "min_mean_iou": 0.2,
        },
    )
    return ReportData.load(directory)


TEST = [disc_pair(10), disc_pair(11)]


def test_a_run_with_two_test_images_gets_a_page_with_all_that_was_found(
    artifacts: dict[str, list[Any]], tmp_path: Path
) -> None:
    data = run_stage(artifacts, tmp_path, found(TEST))
    summary = data.summary
    assert (summary.outcome, summary.pushed_version, summary.pushed_now) == ("pushed", 7, True)
    assert summary.serving_dir == "/serving/discs"
    assert summary.examples == {"train": 3, "test": 2, "rejected": 1}
    assert summary.untrained_classes == ("disc",)
    assert data.recipe["dataset"] == {"root": "/data/discs"}
    assert data.recipe["training"] == {"epochs": 2, "learning_rate": 0.5, "seed": 3}
    assert data.recipe["evaluation"] == {"min_mean_iou": 0.2}
    assert data.moved_pixels == 0

    def iou(name: str) -> float:
        return float(MEAN_IOU(margins(confusion(disc_pair(int(name[:2]))))))

    assert [item.name for item in data.gallery] == sorted(["10.png", "11.png"], key=iou)
    mean_iou = data.intervals["mean_iou"]
    assert mean_iou
    ious = sorted(map(iou, ("10.png", "11.png")))
    assert [item.iou for item in data.gallery] == pytest.approx(ious)
    assert (mean_iou.low, mean_iou.high) == pytest.approx(ious, abs=1e-9)
    assert [data.iou(each.name) is None for each in data.classes] == [False, False, True]
    assert data.history and data.history.epochs[0]["val_loss"] is None
    assert data.lineage.seeds == {"training.seed": 3}
    assert data.lineage.code_fingerprint == source_fingerprint(components, models)
    text = Page((tmp_path / "index.html").read_text()).text
    for part in (
        "Pushed as version 7",
        "With so few images",
        "unicorn –",
        "1 truncated",
        "ends early",
        data.lineage.code_fingerprint,
    ):
        assert part in text
    assert f"{found(TEST).metrics['mean_iou']:.3f}" in text


def test_a_prediction_that_is_not_the_evaluations_is_said(
    artifacts: dict[str, list[Any]], tmp_path: Path
) -> None:
    evaluation = found(TEST)
    (first, second, *others), *rows = evaluation.confusion
    moved = ((first - 5, second + 5, *others), *rows)
    data = run_stage(artifacts, tmp_path, evaluation.model_copy(update={"confusion": moved}))
    assert data.moved_pixels == 5
    assert "5 pixels fell into another class" in Page((tmp_path / "index.html").read_text()).text


def test_a_refused_model_gets_a_page_with_the_reasons(
    artifacts: dict[str, list[Any]], tmp_path: Path
) -> None:
    evaluation = found(TEST)
    refusal = evaluation.checks[0].model_copy(update={"passed": False, "message": "mean IoU is too low"})
    refused = {**artifacts, "pushed_model": [standard_artifacts.PushedModel()]}
    data = run_stage(refused, tmp_path, evaluation.model_copy(update={"checks": (refusal,)}))
    assert (data.summary.outcome, data.summary.pushed_version) == ("rejected", None)
    assert data.summary.reasons == ("mean IoU is too low",)


def test_an_execution_is_answered_from_the_cache_until_code_commit_or_libraries_are_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    driver = Driver(metadata_handle=None)
    before = driver.token({}, {})
    assert driver.token({}, {}) == before
    for name in ("source_fingerprint", "git_commit", "version"):
        with monkeypatch.context() as changed:
            changed.setattr(lineage_module, name, lambda *_: "another")
            assert driver.token({}, {}) != before
