"""What the stages make of a model that answers window by window: everywhere the masks that it serves."""

import io
import json
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
import yaml
from conftest import Pair, png_bytes
from PIL import Image
from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
from tfx.types import artifact_utils, channel_utils, standard_artifacts
from tiny_export import LABELS, export_tiny_model
from windows_by_hand import Network, by_hand

from components.baseline.executor import Executor as BaselineExecutor
from components.dataset.contracts import EVALUATION_FILE, LABELS_FILE, SERVING_CHECK_FILE, Evaluation
from components.dataset.contracts import ServingCheck as ServingReport
from components.evaluator.component import Evaluator
from components.evaluator.config import EvaluationConfig
from components.evaluator.executor import Executor as EvaluatorExecutor
from components.imaging import sliding_window
from components.imaging.reading import RGB, InputSize
from components.imaging.resize import resize_image
from components.imaging.sliding_window import segment_windows
from components.model_store import publishing, tokens
from components.report.data import ReportData
from components.serving.config import ServingCheckConfig, ServingLimits
from components.serving_check import trial
from components.serving_check.executor import Executor as ServingCheckExecutor
from components.trainer.config import Constants, TrainerSettings
from components.trainer.model_config import ModelConfig
from components.trainer.model_config import TestTimeAugmentation as Versions
from components.trainer.network import build_served_network, whole_picture_stride, with_test_time_augmentation
from components.trainer.training_config import AugmentationConfig, TrainingConfig
from pipeline.evaluate.__main__ import main

SIZE = InputSize(16, 24, "native", scale=0.5, overlap=0.25)
STRIDE = 2
WHOLE_PIXELS = 960
"""So that all pictures but the first one are answered in one piece."""
LIMITS = ServingLimits(max_pixels=10_000)
SHAPES = [(70, 90), (9, 110), (33, 48), (1, 1), (61, 20)]


def settings_of(scales: tuple[float, ...]) -> TrainerSettings:
    return TrainerSettings(
        name="native",
        labels=LABELS,
        input_size=SIZE,
        materialized=False,
        model=ModelConfig(
            filters=2, depth=2, test_time_augmentation=Versions(horizontal_flip=True, scales=scales)
        ),
        augmentation=AugmentationConfig(),
        training=TrainingConfig(),
    )


@pytest.fixture(scope="module")
def network() -> keras.Model:
    """As the Trainer serves it; random weights that find both classes."""
    keras.utils.set_random_seed(3)
    made = build_served_network(settings_of((1.5,)), Constants((1 / 64,) * 3, (-2.0,) * 3, (1, 1)))
    logits = made(patches(64, 64, 9)[np.newaxis]).numpy()
    kernel, bias = made.get_layer("logits").get_weights()
    made.get_layer("logits").set_weights([kernel, bias - np.median(logits, axis=(0, 1, 2))])
    return made


def versions(network: keras.Model, windows: np.ndarray, scales: tuple[float, ...]) -> tf.Tensor:
    """The mean of what a network answers for windows, for them mirrored and for them resized."""
    windows = windows.astype(np.float32)
    answers = []
    for scale in (1.0, *scales):
        size = [round(side * scale / STRIDE) * STRIDE for side in windows.shape[1:3]]
        scaled = tf.image.resize(windows, size, antialias=True)
        logits = (network(scaled) + network(scaled[:, :, ::-1])[:, :, ::-1]) / 2
        answers.append(tf.image.resize(logits, windows.shape[1:3]))
    return sum(answers) / len(answers)


def say_how_it_resizes(model: Path, size: InputSize) -> None:
    """Writes it where the export does."""
    description = model / LABELS_FILE
    told = json.loads(description.read_text())
    transform = dict(zip(("height", "width", "resize", "scale", "overlap"), size, strict=True))
    told["recipe"] = {"name": "tiny", "transform": transform}
    description.write_text(json.dumps(told))


@pytest.fixture(scope="module")
def models(network: keras.Model, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root, settings = tmp_path_factory.mktemp("models"), settings_of(())
    stride = whole_picture_stride(network, settings)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sliding_window, "_WHOLE_PIXELS", WHOLE_PIXELS)
        native = export_tiny_model(
            root / "native" / "Format-Serving",
            LIMITS,
            RGB,
            SIZE,
            stride,
            with_test_time_augmentation(network, settings),
        )
    say_how_it_resizes(native, SIZE)
    return {"native": native, "resized": export_tiny_model(root / "resized" / "Format-Serving", LIMITS)}


def patches(height: int, width: int, seed: int) -> np.ndarray:
    """Patches of 8 x 8 pixels in some colour each."""
    colors = np.random.default_rng(seed).integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), np.uint8)
    return colors.repeat(8, 0).repeat(8, 1)[:height, :width]


@pytest.fixture(scope="module")
def pairs() -> list[Pair]:
    made = []
    for number, shape in enumerate(SHAPES):
        image = patches(*shape, number)
        class_ids = (image.mean(axis=-1) > 128).astype(np.uint8)
        class_ids[:1, 5:8] = 255
        made.append(Pair(image, class_ids))
    return made


@pytest.fixture(scope="module")
def examples(pairs: list[Pair], tmp_path_factory: pytest.TempPathFactory) -> standard_artifacts.Examples:
    artifact = standard_artifacts.Examples()
    artifact.uri = str(tmp_path_factory.mktemp("examples"))
    artifact.split_names = artifact_utils.encode_split_names(["train", "val", "test"])
    Path(artifact.uri, "Split-test").mkdir()
    file = Path(artifact.uri, "Split-test", "data_tfrecord-00000-of-00001")
    with tf.io.TFRecordWriter(str(file)) as writer:
        for number, pair in enumerate(pairs):
            writer.write(pair.example(f"{number}.png"))
    return artifact


@pytest.fixture(scope="module")
def masks(models: dict[str, Path], pairs: list[Pair]) -> dict[str, list[np.ndarray]]:
    """What each model answers for the encoded pictures."""
    encoded = tf.constant([pair.png() for pair in pairs])
    answers = {}
    for name, model in models.items():
        ask = tf.saved_model.load(str(model)).signatures["serving_default"]
        answer = ask(image_bytes=encoded)["mask_bytes"].numpy()
        answers[name] = [np.asarray(Image.open(io.BytesIO(each))) for each in answer]
    return answers


def confusion(masks: list[np.ndarray], pairs: list[Pair]) -> np.ndarray:
    counts = np.zeros((2, 2), int)
    for pair, answer in zip(pairs, masks, strict=True):
        np.add.at(counts, (pair.class_ids[pair.class_ids < 2], answer[pair.class_ids < 2]), 1)
    return counts


def iou(counts: np.ndarray) -> dict[str, float]:
    hits = np.diag(counts)
    return dict(zip(LABELS.names, hits / (counts.sum(0) + counts.sum(1) - hits), strict=True))


def assert_as_by_hand(
    picture: np.ndarray, answer: Sequence[np.ndarray], network: Network, in_one_piece: bool
) -> None:
    """Where rounding cannot decide about the class."""
    size = SIZE
    if in_one_piece:
        content = SIZE.content(*picture.shape[:2])
        height, width = (-(-max(sides) // STRIDE) * STRIDE for sides in zip(content, SIZE[:2], strict=True))
        size = InputSize(height, width, "native", SIZE.scale)
    ids, confidence = by_hand(picture, size, network, 2)
    np.testing.assert_allclose(answer[1], confidence, atol=1e-4)
    sure = confidence > 0.5 + 1e-4
    np.testing.assert_array_equal(answer[0][sure], ids[sure])


def test_an_image_and_its_mirror_image_are_averaged_in_every_window_and_in_one_piece(
    models: dict[str, Path], network: keras.Model, masks: dict[str, list[np.ndarray]], pairs: list[Pair]
) -> None:
    ask = tf.saved_model.load(str(models["native"])).signatures["serving_pixels"]
    for number, (pair, mask) in enumerate(zip(pairs, masks["native"], strict=True)):
        answer = ask(images=pair.image[np.newaxis])
        ids, confidence = (answer[key].numpy()[0] for key in ("class_ids", "confidence"))
        assert_as_by_hand(
            pair.image, (ids, confidence), lambda seen: versions(network, seen, ()), in_one_piece=number > 0
        )
        np.testing.assert_array_equal(mask, ids)
    assert len(np.unique(masks["native"][0])) == 2


def test_an_image_at_several_scales_is_averaged_in_every_window(
    network: keras.Model, pairs: list[Pair]
) -> None:
    settings = settings_of((1.5,))
    stride, served = whole_picture_stride(network, settings), with_test_time_augmentation(network, settings)

    @tf.function(input_signature=[tf.TensorSpec([None, None, 3], tf.uint8)])
    def graph(picture: tf.Tensor) -> tuple[tf.Tensor, ...]:
        height, width = tf.unstack(tf.shape(picture)[:2])
        scaled = resize_image(picture, SIZE)
        return segment_windows(scaled, SIZE, height, width, served, 2, stride=stride, confidence=True)

    for pair in pairs:
        answer = [part.numpy() for part in graph(pair.image)]
        assert_as_by_hand(
            pair.image, answer, lambda seen: versions(network, seen, (1.5,)), in_one_piece=False
        )


def test_the_serving_check_finds_the_masks_that_evaluate_gives_byte_by_byte(
    models: dict[str, Path],
    examples: standard_artifacts.Examples,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trial, "_TIMED_SECONDS", 0.0)
    model, approval = standard_artifacts.Model(), standard_artifacts.ModelBlessing()
    verdict = standard_artifacts.InfraBlessing()
    model.uri, verdict.uri = str(models["native"].parent), str(tmp_path)
    approval.set_int_custom_property("blessed", 1)
    config = ServingCheckConfig(check_examples=len(SHAPES))
    ServingCheckExecutor().Do(
        {"model": [model], "model_blessing": [approval], "examples": [examples]},
        {"infra_blessing": [verdict]},
        {"config": config.model_dump_json(), "code_fingerprint": ""},
    )
    report = ServingReport.load(tmp_path / SERVING_CHECK_FILE)
    assert report.reasons == ()
    assert report.masks == report.same_bytes >= len(SHAPES)


def test_as_a_baseline_it_is_measured_by_what_it_serves(
    models: dict[str, Path],
    masks: dict[str, list[np.ndarray]],
    pairs: list[Pair],
    examples: standard_artifacts.Examples,
    tmp_path: Path,
) -> None:
    model, reference = standard_artifacts.Model(), standard_artifacts.Model()
    evaluation, blessing = standard_artifacts.ModelEvaluation(), standard_artifacts.ModelBlessing()
    for artifact, name in ((reference, "baseline"), (evaluation, "evaluation"), (blessing, "blessing")):
        artifact.uri = str(tmp_path / name)
    model.uri = str(models["resized"].parent)
    Path(reference.uri).mkdir()
    number = publishing.publish(
        models["native"], tmp_path / "serving", {tokens.BASELINE_TOKEN_KEY: tokens.NO_BASELINE}
    )
    BaselineExecutor().Do(
        {"model": [model]}, {"baseline_model": [reference]}, {"serving_dir": str(tmp_path / "serving")}
    )
    assert reference.get_string_custom_property("version") == str(number)

    config = EvaluationConfig(max_regression=0.01)
    component = Evaluator(
        examples=channel_utils.as_channel([examples]),
        model=channel_utils.as_channel([model]),
        baseline_model=channel_utils.as_channel([reference]),
        config=config,
        labels=LABELS,
        min_mean_iou=config.min_mean_iou,
    )
    context = BaseBeamExecutor.Context(
        beam_pipeline_args=["--direct_running_mode=in_memory", "--sdk_container_image=none"],
        tmp_dir=str(tmp_path / "tmp"),
    )
    EvaluatorExecutor(context).Do(
        {"examples": [examples], "model": [model], "baseline_model": [reference]},
        {"evaluation": [evaluation], "blessing": [blessing]},
        dict(component.exec_properties),
    )
    result = Evaluation.load(Path(evaluation.uri, EVALUATION_FILE))
    counts = confusion(masks["resized"], pairs)
    np.testing.assert_array_equal(result.confusion, counts)
    assert result.metrics.iou == pytest.approx(iou(counts))
    assert result.baseline and result.baseline.metrics
    assert result.baseline.metrics.iou == pytest.approx(iou(confusion(masks["native"], pairs)))


def test_pipeline_evaluate_counts_the_masks_that_are_served(
    models: dict[str, Path],
    masks: dict[str, list[np.ndarray]],
    pairs: list[Pair],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    for kind in ("images", "masks"):
        Path("data", kind).mkdir(parents=True)
    for number, pair in enumerate(pairs):
        Path(f"data/images/{number}.png").write_bytes(pair.png())
        Path(f"data/masks/{number}.png").write_bytes(png_bytes(pair.class_ids))
    recipe = {
        "dataset": {
            "layout": "folder",
            "root": "data",
            "images": "images/*.png",
            "masks": "masks/*.png",
            "label_values": dict(zip(LABELS.names, (0, 1), strict=True)),
            "ignore_label": 255,
            "max_pixels": LIMITS.max_pixels,
        },
        "evaluation": {"min_mean_iou": 0.999},
        "beam": {"workers": 1},
    }
    Path("recipe.yaml").write_text(yaml.safe_dump(recipe, allow_unicode=True, sort_keys=False))
    assert main(["--model", str(models["native"]), "--recipe", "recipe.yaml", "--output", "found"]) == 3
    found = ReportData.load(tmp_path / "found")
    np.testing.assert_array_equal(found.confusion, confusion(masks["native"], pairs))
    # What helps a picture that is shrunk before windows are cut is to shrink it less.
    assert found.summary.reasons[0].endswith(": enlarge transform.scale")
    assert found.moved_pixels == 0 and len(found.gallery) == len(SHAPES)
