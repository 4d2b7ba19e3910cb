"""Training, from transformed data to a SavedModel that answers."""

import io
import json
import logging
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from logging.handlers import BufferingHandler
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_transform as tft
from conftest import Pair, RunTransform, TransformRun
from PIL import Image
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2
from tensorflow_serving.apis import prediction_log_pb2
from trainer_arguments import fn_args

from components.dataset.labels import LabelSet
from components.errors import StageError
from components.imaging.decode import decode_image
from components.imaging.reading import InputSize, Reading
from components.trainer import network
from components.trainer import run_fn as trainer
from components.trainer.checkpoints import IOU, Checkpoints
from components.trainer.config import Constants, TrainerSettings
from components.trainer.decoding import raw_pairs, read_constants
from components.trainer.model_config import ModelConfig
from components.trainer.network import with_test_time_augmentation
from components.trainer.progress_callback import Progress
from components.trainer.run_fn import run_fn
from components.trainer.training_config import AugmentationConfig, TrainingConfig
from models.folded_normalization import fold_batch_normalization

LABELS = LabelSet(names=("ground", "disc"))


@pytest.fixture(scope="module")
def transform_run(run_transform: RunTransform) -> TransformRun:
    return run_transform(height=16, width=24, resize="letterbox")


def train_on(
    data: TransformRun,
    directory: Path,
    model: Any = None,
    augmentation: Any = None,
    channels: int = 3,
    exporting: bool = False,
    **training: Any,
) -> Path:
    """Trains a tiny network; returns the directory with ``run``, ``checkpoints`` and, if asked, ``model``."""
    settings = TrainerSettings(
        name="discs",
        labels=LABELS,
        input_size=InputSize(16, 24, "letterbox"),
        reading=Reading(channels=channels),
        materialized=False,
        model=ModelConfig(**{"filters": 4, "normalization": "batch"} | (model or {"depth": 2})),
        augmentation=AugmentationConfig(**augmentation or {}),
        training=TrainingConfig(**{"epochs": 2, "batch_size": 5, "early_stopping_patience": None} | training),
        checkpoint_dir=str(directory / "checkpoints"),
    )
    with pytest.MonkeyPatch.context() as patched:
        if not exporting:
            patched.setattr(trainer, "export", lambda network, *_, **__: save_weights(directory, network))
        run_fn(fn_args(data, settings, directory))
    return directory


Train = Callable[..., Path]


@pytest.fixture
def train(transform_run: TransformRun, tmp_path: Path) -> Train:
    """``train_on``, in a folder of the test's and on its module's data unless there are others."""

    def run(name: str = "training", data: TransformRun = transform_run, **settings: Any) -> Path:
        return train_on(data, tmp_path / name, **settings)

    return run


def save_weights(directory: Path, network: keras.Model) -> None:
    np.savez(directory / "served.npz", *network.get_weights())


def served_weights(directory: Path) -> list[np.ndarray]:
    """Of the network that a training without an export would have exported."""
    with np.load(directory / "served.npz") as saved:
        return [saved[f"arr_{number}"] for number in range(len(saved))]


def history(directory: Path) -> dict[str, Any]:
    return json.loads((directory / "run" / "history.json").read_text())


@pytest.fixture(scope="module")
def exported(transform_run: TransformRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("exported")
    settings = TrainerSettings(
        name="discs",
        labels=LABELS,
        input_size=InputSize(16, 24, "letterbox"),
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
    check_that_signatures_agree(signatures, transform_run.pairs["val"])


def test_images_of_four_channels_are_trained_on_and_served(run_transform: RunTransform, train: Train) -> None:
    data = run_transform(height=16, width=24, resize="letterbox", channels=4)
    directory = train(data=data, channels=4, epochs=1, exporting=True)
    signatures = tf.saved_model.load(str(directory / "model")).signatures
    check_that_signatures_agree(signatures, data.pairs["val"], channels=4)


def check_that_signatures_agree(signatures: Any, pairs: Sequence[Pair], channels: int = 3) -> None:
    for pair in pairs:
        from_bytes = signatures["serving_default"](image_bytes=tf.constant([pair.png()]))[
            "mask_bytes"
        ].numpy()
        from_example = signatures["evaluate"](examples=tf.constant([pair.example("x")]))["mask_bytes"].numpy()
        images = decode_image(tf.constant(pair.png()), Reading(channels=channels))[None]
        from_pixels = signatures["serving_pixels"](images=images)
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
    constants = read_constants(graph)
    files = [str(path) for path in (transform_run.examples / "Split-val").iterdir()]
    trained_on = np.stack([image for image, _ in raw_pairs(files, graph, size, 3).as_numpy_iterator()])
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


def test_a_model_of_grey_images_averages_what_it_says_of_one_its_mirror_image_and_other_sizes(
    run_transform: RunTransform, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[keras.Model] = []

    def average(network: keras.Model, settings: TrainerSettings) -> keras.Model:
        trained.append(network)
        return with_test_time_augmentation(network, settings)

    monkeypatch.setattr(trainer, "with_test_time_augmentation", average)
    data = run_transform(height=16, width=24, resize="letterbox", channels=1)
    directory = train(
        data=data,
        channels=1,
        model={
            "depth": 2,
            "test_time_augmentation": {"horizontal_flip": True, "scales": (1.5,)},
        },
        epochs=1,
        exporting=True,
    )
    signatures = tf.saved_model.load(str(directory / "model")).signatures
    check_that_signatures_agree(signatures, data.pairs["val"], channels=1)

    # Of the network's own size, so that nothing is resized.
    images = np.random.default_rng(0).integers(0, 256, (4, 16, 24, 1), dtype=np.uint8)
    [network] = trained
    enlarged = tf.image.resize(images, (24, 36), antialias=True).numpy()
    versions = [
        network.predict(images, verbose=0),
        network.predict(images[:, :, ::-1], verbose=0)[:, :, ::-1],
        tf.image.resize(network.predict(enlarged, verbose=0), (16, 24)),
        tf.image.resize(network.predict(enlarged[:, :, ::-1], verbose=0)[:, :, ::-1], (16, 24)),
    ]
    assert not any(np.allclose(versions[0], other, atol=0.01) for other in versions[1:])
    odds = np.exp(np.mean(versions, axis=0))
    probabilities = odds / odds.sum(axis=-1, keepdims=True)
    answer = signatures["serving_pixels"](tf.constant(images))
    np.testing.assert_array_equal(answer["class_ids"], probabilities.argmax(axis=-1))
    np.testing.assert_allclose(answer["confidence"], probabilities.max(axis=-1), rtol=1e-4)


@contextmanager
def copied_in_epochs(directory: Path, *numbers: int) -> Iterator[None]:
    """Copies a training's directory as these epochs begin: what a process leaves that is killed then.

    The copies are beside it, ``killed-in-3`` for one.
    """
    begin = Progress.on_epoch_begin

    def copying(self: Progress, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        if epoch + 1 in numbers:
            shutil.copytree(directory, directory.with_name(f"killed-in-{epoch + 1}"))
        begin(self, epoch, logs)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Progress, "on_epoch_begin", copying)
        yield


def assert_same_training(actual: Path, expected: Path) -> None:
    """What was measured, what is served, and what there is to look at."""

    def measured(directory: Path) -> list[dict[str, float]]:
        return [
            {name: value for name, value in epoch.items() if name != "seconds"}
            for epoch in history(directory)["epochs"]
        ]

    assert measured(actual) == measured(expected)
    ours, theirs = served_weights(actual), served_weights(expected)
    assert len(theirs) > 10
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one, other)
    pictures = sorted((expected / "run" / "predictions").iterdir())
    assert pictures
    for picture in pictures:
        assert (actual / "run" / "predictions" / picture.name).read_bytes() == picture.read_bytes()


def saved(directory: Path) -> dict[str, np.ndarray]:
    """What a training has left to go on from, by name: weights and the optimiser's state."""
    values: dict[str, np.ndarray] = {}

    def note(name: str, item: h5py.Dataset | h5py.Group) -> None:
        if isinstance(item, h5py.Dataset):
            values[name] = item[()]

    [checkpoint] = directory.glob("checkpoints/discs/*/epoch-*.weights.h5")
    with h5py.File(checkpoint) as file:
        file.visititems(note)
    return values


def test_a_killed_training_goes_on_and_ends_bit_for_bit_as_if_nothing_had_happened(
    train: Train, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With everything in play that draws random numbers or keeps a state."""
    settings: dict[str, Any] = {
        "model": {"depth": 2, "dropout": 0.3},
        "augmentation": {"horizontal_flip": True, "rotate": 20.0, "noise": 0.1},
        "epochs": 3,
        "optimizer": "adamw",
        "weight_decay": 0.01,
        "learning_rate": 0.01,
        "schedule": "cosine",
        "warmup_epochs": 1,
        "ema_momentum": 0.9,
        "gradient_clip_norm": 1.0,
        "loss": {"cross_entropy": 1.0, "dice": 1.0},
        "seed": 3,
    }
    with copied_in_epochs(tmp_path / "through", 2):
        through = train("through", **settings)
    with caplog.at_level(logging.INFO, "components.trainer"):
        killed = train("killed-in-2", **settings)
    assert "going on after epoch 1" in caplog.messages
    assert_same_training(killed, through)
    rates = [epoch["learning_rate"] for epoch in history(killed)["epochs"]]
    # Where the warm-up ends, half-way down the cosine, and before its end, which no step takes.
    assert rates[0] == pytest.approx(0.01) and rates[0] > rates[1] > rates[2] > 0
    # What a resumed training saves is as good as what any other does: it could be killed again.
    assert any("optimizer" in name for name in saved(through))
    np.testing.assert_equal(saved(killed), saved(through))


def test_fine_tuning_is_a_second_phase_that_survives_kills_stops_by_itself_and_may_be_worse(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Three epochs with half of the network frozen, four with all of it; killed in two of these.

    With given scores: the second epoch of all is best, and fine-tuning is at its best in its second.
    """
    keeps_a_small_network_for_an_encoder(monkeypatch)
    scores = [0.5, 0.9, 0.6, 0.2, 0.4, 0.3, 0.1]
    weights: list[list[np.ndarray]] = []
    measured = Checkpoints.on_epoch_end

    def scored(self: Checkpoints, epoch: int, logs: Mapping[str, Any]) -> None:
        weights.append(fold_batch_normalization(self.model).get_weights())
        measured(self, epoch, {**logs, f"val_{IOU}": scores[epoch]})

    monkeypatch.setattr(Checkpoints, "on_epoch_end", scored)
    settings: dict[str, Any] = {
        "model": {"encoder": "MobileNetV2", "freeze_encoder": True},
        "learning_rate": 0.01,
        "epochs": 3,
        "fine_tuning_epochs": 20,
        "early_stopping_patience": 2,
    }
    caplog.set_level(logging.INFO, "components.trainer")
    with copied_in_epochs(tmp_path / "through", 4, 5):
        through = train("through", **settings)
    counted = [message.split(":")[0] for message in caplog.messages if message.startswith("epoch ")]
    assert counted == [f"epoch {number}/23" for number in range(1, 8)]
    recorded = history(through)
    epochs = recorded["epochs"]
    assert [epoch["phase"] for epoch in epochs] == [1, 1, 1, 2, 2, 2, 2]
    assert epochs[3]["learning_rate"] == pytest.approx(0.001)
    assert recorded["best_epoch"] == 2
    exported = served_weights(through)

    def missing(expected: list[np.ndarray]) -> int:
        return sum(not any(np.array_equal(one, other) for other in exported) for one in expected)

    assert missing(weights[1]) == 0
    assert all(missing(weights[epoch]) for epoch in (0, 2, 3, 4, 5, 6))

    for number in (4, 5):
        caplog.clear()
        killed = train(f"killed-in-{number}", **settings)
        trained = [message.split(":")[0] for message in caplog.messages if message.startswith("epoch ")]
        assert trained == counted[number - 1 :]
        assert_same_training(killed, through)


@pytest.mark.parametrize(
    ("weights", "frozen", "warns"), [(None, True, True), ("imagenet", True, False), (None, False, False)]
)
def test_a_frozen_encoder_that_knows_nothing_is_warned_of(
    train: Train,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    weights: str | None,
    frozen: bool,
    warns: bool,
) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(trainer, "training_strategy", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(model={"encoder": "MobileNetV2", "encoder_weights": weights, "freeze_encoder": frozen})
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == warns
    assert all("frozen encoder" in line and "model.encoder_weights to" in line for line in warnings)


def keeps_a_small_network_for_an_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Real encoders take half a minute each to trace."""

    def frozen_unet(
        *args: Any, encoder: str, encoder_weights: None, freeze_encoder: bool, **kwargs: Any
    ) -> Any:
        model = network.unet(*args, depth=2, **kwargs)
        for layer in model.layers:
            layer.trainable = not (freeze_encoder and layer.name.startswith("encoder"))
        return model

    def unfreeze(model: keras.Model) -> None:
        assert not all(layer.trainable for layer in model.layers)
        for layer in model.layers:
            layer.trainable = True

    monkeypatch.setattr(network, "encoder_unet", frozen_unet)
    monkeypatch.setattr(trainer, "unfreeze", unfreeze)


def test_machines_that_do_not_start_from_the_same_train_nothing(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(strategy: tf.distribute.Strategy, training: str, checkpoint: str, kept_in: str) -> None:
        raise StageError(f"{training} {checkpoint!r} {kept_in}")

    monkeypatch.setattr(trainer, "check_same_start", refuse)
    monkeypatch.delattr(trainer, "build_network")
    with pytest.raises(StageError, match=r"^training-[0-9a-f]{16} '[0-9a-f]{64}' /.*/checkpoints$"):
        train()


def test_what_is_ignored_throughout_is_not_trained_on(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    def ignored(graph: tft.TFTransformOutput) -> Constants:
        return read_constants(graph)._replace(class_pixels=(0, 0))

    monkeypatch.setattr(trainer, "read_constants", ignored)
    with pytest.raises(StageError, match="every pixel of the train split is ignored"):
        train()


def test_a_model_that_cannot_be_built_is_an_error_of_the_recipe(train: Train) -> None:
    with pytest.raises(StageError, match=r"model cannot be built.*height 16 is not divisible by 128"):
        train(model={"depth": 8})


class Stalled(NamedTuple):
    """A training without a pixel of the second class, in which nothing gets better."""

    directory: Path
    steps_traced: int
    messages: list[str]


@pytest.fixture(scope="module")
def stalled(transform_run: TransformRun, tmp_path_factory: pytest.TempPathFactory) -> Stalled:
    traced = []
    step = keras.Model.train_step

    def noting(self: keras.Model, data: Any) -> Any:
        traced.append(data)
        return step(self, data)

    def lacking(graph: tft.TFTransformOutput) -> Constants:
        constants = read_constants(graph)
        return constants._replace(class_pixels=(constants.class_pixels[0], 0))

    directory = tmp_path_factory.mktemp("stalled")
    logger, log = logging.getLogger("components.trainer"), BufferingHandler(1000)
    logger.addHandler(log)
    logger.setLevel(logging.INFO)
    try:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(keras.Model, "train_step", noting)
            patched.setattr(trainer, "read_constants", lacking)
            train_on(transform_run, directory, epochs=50, early_stopping_patience=1, learning_rate=1e-12)
    finally:
        logger.setLevel(logging.NOTSET)
        logger.removeHandler(log)
    return Stalled(directory, len(traced), [record.getMessage() for record in log.buffer])


def test_training_stops_when_patience_is_over_and_exports_the_best_epoch(stalled: Stalled) -> None:
    recorded = history(stalled.directory)
    scores = [epoch["val_iou_at_input_size"] for epoch in recorded["epochs"]]
    assert recorded["best_epoch"] == 1 + int(np.argmax(scores))
    assert len(scores) == recorded["best_epoch"] + 1 < 50


def test_a_step_is_traced_once(stalled: Stalled) -> None:
    """Twice, if the first one made the optimiser's variables: the wait for a deep network's first step."""
    assert stalled.steps_traced == 1


def test_classes_without_a_training_pixel_are_named_before_the_training_and_kept_in_its_record(
    stalled: Stalled,
) -> None:
    warned, *later = stalled.messages
    assert warned.startswith("the training split has no pixel of disc: no number of epochs can teach ")
    assert any(message.startswith("epoch 1/50") for message in later)
    assert history(stalled.directory)["untrained_classes"] == ["disc"]


def test_a_val_split_without_a_pixel_that_counts_chooses_no_epoch_which_is_said_once(
    train: Train, transform_run: TransformRun, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(transform_run.examples, tmp_path / "examples")
    blank = [
        replace(pair, class_ids=np.full_like(pair.class_ids, 255)) for pair in transform_run.pairs["val"]
    ]
    [file] = (tmp_path / "examples/Split-val").iterdir()
    with tf.io.TFRecordWriter(str(file)) as writer:
        for pair in blank:
            writer.write(pair.example("blank"))
    with caplog.at_level(logging.INFO, logger="components.trainer"):
        directory = train(
            data=replace(transform_run, examples=tmp_path / "examples"), epochs=3, early_stopping_patience=1
        )
    recorded = json.loads((directory / "run/history.json").read_text(), parse_constant=pytest.fail)
    assert recorded["best_epoch"] == len(recorded["epochs"]) == 3
    assert all(IOU in epoch and f"val_{IOU}" not in epoch for epoch in recorded["epochs"])
    warned = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert [message[:50] for message in warned] == ["no pixel of the val split counts, all are to be ig"]
    assert "val mean IoU" not in caplog.text and "exporting epoch 3 of 3" in caplog.text


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
        "import json, sys, tensorflow as tf\n"
        "model = tf.saved_model.load(sys.argv[1])\n"
        "print(json.dumps(sorted(model.signatures)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(exported / "model")],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=True,
    )
    assert json.loads(done.stdout) == ["evaluate", "labels", "serving_default", "serving_pixels"]
    saved = SavedModel.FromString((exported / "model" / "saved_model.pb").read_bytes())
    [module, *_] = saved.meta_graphs[0].object_graph_def.nodes
    held = {child.local_name for child in module.children}
    # The transform graph's layer, for one, would be saved with signatures of its own.
    assert held == {"signatures", "_network_variables", *json.loads(done.stdout)}
    stored = tf.train.list_variables(str(exported / "model" / "variables" / "variables"))
    assert not [name for name, _ in stored if "optimizer" in name]
