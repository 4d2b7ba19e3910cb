"""Training, from transformed data to a SavedModel that answers."""

import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_transform as tft
from conftest import RunTransform, TransformRun
from PIL import Image
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2
from tensorflow_serving.apis import prediction_log_pb2
from tfx.v1.components import FnArgs

from components.dataset.labels import LabelSet
from components.errors import StageError
from components.imaging.resize import InputSize
from components.trainer import data
from components.trainer.config import AugmentationConfig, ModelConfig, TrainerSettings, TrainingConfig
from components.trainer.run_fn import run_fn

LABELS = LabelSet(names=("ground", "disc"))


@pytest.fixture(scope="module")
def transform_run(run_transform: RunTransform) -> TransformRun:
    return run_transform(height=16, width=24, resize="letterbox")


Train = Callable[..., Path]


@pytest.fixture
def train(transform_run: TransformRun, tmp_path: Path) -> Train:
    """Trains a tiny network; returns the directory with ``model``, ``run`` and ``checkpoints``."""

    def run(name: str = "training", patience: int | None = None, **training: Any) -> Path:
        settings = TrainerSettings(
            recipe={"name": "discs"},
            labels=LABELS,
            height=16,
            width=24,
            resize="letterbox",
            materialized=False,
            model=ModelConfig(filters=4, depth=3, normalization="batch"),
            augmentation=AugmentationConfig(horizontal_flip=True),
            training=TrainingConfig(
                **{"epochs": 2, "batch_size": 5, "early_stopping_patience": patience} | training
            ),
            checkpoint_dir=str(tmp_path / name / "checkpoints"),
        )
        run_fn(fn_args(transform_run, settings, tmp_path / name))
        return tmp_path / name

    return run


def fn_args(run: TransformRun, settings: TrainerSettings, directory: Path) -> FnArgs:
    return FnArgs(
        train_files=[str(run.examples / "Split-train" / "*")],
        eval_files=[str(run.examples / "Split-val" / "*")],
        transform_output=str(run.graph),
        serving_model_dir=str(directory / "model"),
        model_run_dir=str(directory / "run"),
        custom_config={"settings": settings.model_dump_json()},
    )


def history(directory: Path) -> dict[str, Any]:
    return json.loads((directory / "run" / "history.json").read_text())


@pytest.fixture(scope="module")
def exported(transform_run: TransformRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("exported")
    settings = TrainerSettings(
        recipe={"name": "discs"},
        labels=LABELS,
        height=16,
        width=24,
        resize="letterbox",
        materialized=False,
        model=ModelConfig(filters=8, depth=3, normalization="batch"),
        augmentation=AugmentationConfig(),
        training=TrainingConfig(
            epochs=25, batch_size=4, learning_rate=5e-3, class_weights="median_frequency"
        ),
    )
    run_fn(fn_args(transform_run, settings, directory))
    return directory


def test_a_disc_is_learnt_and_found_at_the_images_own_size(
    exported: Path, transform_run: TransformRun
) -> None:
    model = tf.saved_model.load(str(exported / "model"))
    pairs = transform_run.pairs["val"]
    answer = model.signatures["serving_default"](image_bytes=tf.constant([pair.png() for pair in pairs]))
    agreement = []
    for pair, mask, fraction in zip(
        pairs, answer["mask_bytes"].numpy(), answer["class_fraction"].numpy(), strict=True
    ):
        predicted = np.asarray(Image.open(io.BytesIO(mask)))
        assert predicted.shape == pair.class_ids.shape
        np.testing.assert_allclose(fraction, [(predicted == 0).mean(), (predicted == 1).mean()], rtol=1e-5)
        agreement.append((predicted == pair.class_ids)[pair.class_ids != 255].mean())
    assert np.mean(agreement) > 0.9


def test_all_signatures_give_the_same_masks(exported: Path, transform_run: TransformRun) -> None:
    signatures = tf.saved_model.load(str(exported / "model")).signatures
    for pair in transform_run.pairs["val"]:
        from_bytes = signatures["serving_default"](image_bytes=tf.constant([pair.png()]))[
            "mask_bytes"
        ].numpy()
        from_example = signatures["evaluate"](examples=tf.constant([pair.example("x")]))["mask_bytes"].numpy()
        from_pixels = signatures["serving_pixels"](images=tf.constant(pair.image[None]))
        assert from_bytes[0] == from_example[0]
        np.testing.assert_array_equal(
            np.asarray(Image.open(io.BytesIO(from_bytes[0]))), from_pixels["class_ids"].numpy()[0]
        )
        assert from_pixels["confidence"].shape == (1, *pair.class_ids.shape)


def test_training_and_serving_see_the_same_pixels_bit_for_bit(
    exported: Path, transform_run: TransformRun
) -> None:
    """Through the training input pipeline and through the model's own graph, after normalisation."""
    size = InputSize(16, 24, "letterbox")
    graph = tft.TFTransformOutput(str(transform_run.graph))
    constants = data.read_constants(graph)
    files = [str(path) for path in (transform_run.examples / "Split-val").iterdir()]
    trained_on = np.stack([image for image, _ in data.raw_pairs(files, graph, size).as_numpy_iterator()])
    normalise = keras.layers.Rescaling(list(constants.pixel_scale), list(constants.pixel_offset))

    model = tf.saved_model.load(str(exported / "model"))
    serving = model.signatures["serving_default"]
    # The normalised pixels are an intermediate tensor of the served graph: the first layer's output.
    image_bytes = tf.constant([pair.png() for pair in transform_run.pairs["val"]])
    served = normalised_inside(serving, image_bytes)
    np.testing.assert_array_equal(served, normalise(trained_on).numpy())


def normalised_inside(signature: Any, image_bytes: tf.Tensor) -> np.ndarray:
    """Cuts the served graph itself behind its normalisation layer and runs the first part."""
    inlined = convert_variables_to_constants_v2(signature, lower_control_flow=False)
    (normalised,) = [
        op.outputs[0]
        for op in inlined.graph.get_operations()
        if "normalization" in op.name and op.type == "AddV2"
    ]
    return inlined.prune(inlined.inputs, normalised)(image_bytes).numpy()


def test_the_best_epoch_is_exported_not_the_last(train: Train) -> None:
    directory = train(epochs=6, learning_rate=0.05)
    recorded = history(directory)
    scores = [epoch["val_iou_at_input_size"] for epoch in recorded["epochs"]]
    assert len(scores) == 6
    assert recorded["best_epoch"] == 1 + int(np.argmax(scores))


def test_training_stops_when_patience_is_over(train: Train) -> None:
    directory = train(epochs=50, patience=1, learning_rate=1e-12)
    recorded = history(directory)
    assert len(recorded["epochs"]) == recorded["best_epoch"] + 1 < 50


def test_training_repeats_itself_for_one_seed_and_differs_for_another(train: Train) -> None:
    first, second, other = (
        history(train(name, seed=seed))["epochs"] for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    losses = [[epoch["loss"] for epoch in epochs] for epochs in (first, second, other)]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)
    assert abs(losses[0][0] - losses[2][0]) > 1e-4


def test_divergence_is_said_in_plain_words(train: Train) -> None:
    with pytest.raises(StageError, match=r"diverged in epoch \d+.*training\.learning_rate"):
        train(learning_rate=1e30, epochs=5)


def test_labels_and_warm_up_requests_travel_with_the_model(exported: Path) -> None:
    assets = exported / "model" / "assets.extra"
    description = json.loads((assets / "labels.json").read_text())
    assert description["labels"]["names"] == ["ground", "disc"]
    assert len(description["labels"]["colors"]) == 2 and description["labels"]["ignore_label"] == 255
    assert description["versions"]["tensorflow"] == tf.__version__
    signatures = tf.saved_model.load(str(exported / "model")).signatures
    seen = []
    for record in tf.data.TFRecordDataset(str(assets / "tf_serving_warmup_requests")):
        request = prediction_log_pb2.PredictionLog.FromString(record.numpy()).predict_log.request
        inputs = {name: tf.constant(tf.make_ndarray(value)) for name, value in request.inputs.items()}
        signatures[request.model_spec.signature_name](**inputs)
        seen.append(request.model_spec.signature_name)
    assert seen == ["serving_default", "serving_pixels"]


def test_the_model_loads_without_this_projects_code_and_carries_no_optimiser_state(
    exported: Path, tmp_path: Path
) -> None:
    """A fresh process, outside the source tree, with nothing imported but TensorFlow."""
    script = (
        "import sys, tensorflow as tf\n"
        "model = tf.saved_model.load(sys.argv[1])\n"
        "print(sorted(model.signatures))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(exported / "model")],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=True,
    )
    assert done.stdout.strip() == "['evaluate', 'serving_default', 'serving_pixels']"
    stored = tf.train.list_variables(str(exported / "model" / "variables" / "variables"))
    assert not [name for name, _ in stored if "optimizer" in name]
