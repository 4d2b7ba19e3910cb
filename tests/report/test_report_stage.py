"""The stage itself: real Examples, a real SavedModel, and the page that comes out."""

import json
from pathlib import Path
from types import SimpleNamespace
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
from components.dataset.artifacts import IngestionReportArtifact
from components.dataset.labels import LabelSet
from components.evaluation.confusion import count_pixels, margins, scores
from components.evaluation.gate import GateCheck
from components.fingerprint import source_fingerprint
from components.report import executor
from components.report.artifacts import HtmlReport
from components.report.data import ReportData
from components.report.driver import Driver

LABELS = LabelSet(names=("ground", "disc", "unicorn"))
RECIPE = {
    "name": "discs",
    "description": "discs",
    "training": {"epochs": 2, "seed": 3},
    "evaluation": {"min_mean_iou": 0.5},
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


def found(test: list[Pair]) -> Any:
    """What the Evaluator would have found; it is tested elsewhere."""
    total = np.sum([confusion(pair) for pair in test], axis=0)
    result = scores(margins(total))
    check = GateCheck(
        "mean IoU", "evaluation.min_mean_iou", 0.2, float(result.mean_iou), None, True, "reached"
    )
    return SimpleNamespace(
        metrics={
            **{key: float(getattr(result, key)) for key in result._fields if key not in ("iou", "dice")},
            "iou": {
                name: None if np.isnan(iou) else float(iou)
                for name, iou in zip(LABELS.names, result.iou, strict=True)
            },
            "examples": len(test),
        },
        baseline_metrics=None,
        slices={},
        confusion_matrix=total,
        checks=(check,),
        reasons=[],
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
                writer.write(disc_pair(seed).example(f"{seed}.png"))
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


def run_stage(
    artifacts: dict[str, list[Any]], directory: Path, monkeypatch: pytest.MonkeyPatch, result: Any
) -> ReportData:
    monkeypatch.setattr(executor, "load_evaluation", lambda uri, version: result)
    report = HtmlReport()
    report.uri = str(directory)
    executor.Executor().Do(
        artifacts,
        {"report": [report]},
        {
            "recipe": json.dumps(RECIPE),
            "labels": LABELS.model_dump_json(),
            "min_mean_iou": 0.2,
        },
    )
    return ReportData.load(directory)


TEST = [disc_pair(10), disc_pair(11)]


def test_a_run_with_two_test_images_gets_a_page_with_all_that_was_found(
    artifacts: dict[str, list[Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = run_stage(artifacts, tmp_path, monkeypatch, found(TEST))
    assert data.evaluation and data.dataset and data.training
    assert (data.verdict.outcome, data.verdict.version, data.verdict.pushed_now) == ("pushed", 7, True)
    assert data.verdict.serving_dir == "/serving/discs"
    assert data.recipe["evaluation"]["min_mean_iou"] == 0.2, "this run's, not the recipe's"
    assert data.evaluation.moved_pixels == 0
    assert [item.name for item in data.gallery] == sorted(
        ["10.png", "11.png"],
        key=lambda name: float(scores(margins(confusion(disc_pair(int(name[:2]))))).mean_iou),
    )
    ious = sorted(float(scores(margins(confusion(pair))).mean_iou) for pair in TEST)
    mean_iou = data.metric("mean_iou")
    assert mean_iou and mean_iou.interval
    assert (mean_iou.interval.low, mean_iou.interval.high) == pytest.approx(ious, abs=1e-9)
    assert [each.iou is None for each in data.classes] == [False, False, True]
    assert data.training.epochs[0]["val_loss"] is None
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
    artifacts: dict[str, list[Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = found(TEST)
    result.confusion_matrix[0, 0] -= 5
    result.confusion_matrix[0, 1] += 5
    data = run_stage(artifacts, tmp_path, monkeypatch, result)
    assert data.evaluation and data.evaluation.moved_pixels == 5
    assert "5 pixels fell into another class" in Page((tmp_path / "index.html").read_text()).text


def test_a_refused_model_gets_a_page_with_the_reasons(
    artifacts: dict[str, list[Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = found(TEST)
    result.reasons.append("mean IoU is under what was asked for")
    refused = {**artifacts, "pushed_model": [standard_artifacts.PushedModel()]}
    data = run_stage(refused, tmp_path, monkeypatch, result)
    assert (data.verdict.outcome, data.verdict.version) == ("rejected", None)
    assert data.verdict.reasons == ("mean IoU is under what was asked for",)


def test_no_execution_is_answered_from_the_cache() -> None:
    driver = Driver(metadata_handle=None)
    assert driver.token({}, {}) != driver.token({}, {})
