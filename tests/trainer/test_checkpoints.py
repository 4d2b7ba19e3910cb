"""What survives when a training is killed."""

import json
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest

from components.errors import StageError
from components.trainer.checkpoints import IOU, Checkpoints, History
from components.trainer.optimizers import averaged_weights, build_optimizer, phases
from components.trainer.training_config import TrainingConfig

SCORE = f"val_{IOU}"


def network(policy: str = "float32", name: Any = "adamw", steps_per_epoch: int = 4) -> keras.Model:
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy(policy)
    try:
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2), keras.layers.Dense(1)])
    finally:
        keras.config.set_dtype_policy("float32")
    training = TrainingConfig(
        epochs=5,
        optimizer=name,
        learning_rate=0.05,
        weight_decay=0.01,
        schedule="cosine",
        ema_momentum=0.8,
    )
    model.compile(build_optimizer(training, phases(training)[0], steps_per_epoch), "mse")
    model.optimizer.build(model.trainable_variables)
    return model


def measured_weights(model: keras.Model) -> list[np.ndarray]:
    with averaged_weights(model):
        return model.get_weights()


def assert_same(actual: list[np.ndarray], expected: list[np.ndarray]) -> None:
    for one, other in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(one, other)


X = np.random.default_rng(0).normal(size=(16, 3)).astype(np.float32)
Y = X.sum(1, keepdims=True)


def optimizer_state(model: keras.Model) -> list[np.ndarray]:
    return [keras.ops.convert_to_numpy(variable) for variable in model.optimizer.variables]


class Scored(Checkpoints):
    """Hears given scores instead of measured ones."""

    def __init__(self, directory: Path, *scores: float):
        super().__init__(directory)
        self._scores = iter(scores)

    def on_epoch_end(self, epoch: int, logs: object = None) -> None:
        super().on_epoch_end(epoch, {SCORE: next(self._scores)})


class DiesInEpoch(keras.callbacks.Callback):
    def __init__(self, epoch: int):
        super().__init__()
        self._epoch = epoch

    def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
        if epoch == self._epoch:
            raise KeyboardInterrupt


def fit(
    model: keras.Model, checkpoints: Checkpoints, epochs: int, *callbacks: keras.callbacks.Callback
) -> None:
    model.fit(
        X,
        Y,
        4,
        epochs,
        initial_epoch=checkpoints.epochs_done,
        shuffle=False,
        callbacks=[checkpoints, *callbacks],
        verbose=0,
    )


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_an_interrupted_training_ends_bit_for_bit_as_an_uninterrupted_one(
    tmp_path: Path, policy: str
) -> None:
    for name in ("through", "interrupted"):
        (tmp_path / name).mkdir()
    through, killed = network(policy), network(policy)
    fit(through, Checkpoints(tmp_path / "through"), 5)
    with pytest.raises(KeyboardInterrupt):
        fit(killed, Checkpoints(tmp_path / "interrupted"), 5, DiesInEpoch(3))

    resumed = network(policy)
    checkpoints = Checkpoints(tmp_path / "interrupted")
    assert checkpoints.epochs_done == 3
    checkpoints.restore(resumed, 4)
    # The step, the moments and the averages; the step lags behind where loss scaling left some out.
    assert_same(optimizer_state(resumed), optimizer_state(killed))
    assert 0 < int(resumed.optimizer.iterations) <= 12
    fit(resumed, checkpoints, 5)
    assert checkpoints.epochs_done == 5
    assert_same(resumed.get_weights(), through.get_weights())


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_with_other_steps_an_epoch_the_learning_rate_stays_that_of_the_epoch(
    tmp_path: Path, policy: str
) -> None:
    """As with other devices: several leave out what does not fill a batch."""
    trained, resumed = network(policy), network(policy, steps_per_epoch=3)
    fit(trained, Checkpoints(tmp_path), 2)
    Checkpoints(tmp_path).restore(resumed, 3)
    steps = int(trained.optimizer.iterations)
    assert 4 < steps <= 8
    assert int(resumed.optimizer.iterations) == round(steps * 3 / 4)
    # Where loss scaling left a step out, not all of the epochs' steps can be divided.
    rates = [float(model.optimizer.learning_rate) for model in (resumed, trained)]
    assert rates[0] == pytest.approx(rates[1], rel=0.1)


@pytest.mark.parametrize(("policy", "name"), [("mixed_float16", "adamw"), ("float32", "sgd")])
def test_a_checkpoint_is_not_gone_on_from_without_its_optimisers_state(
    tmp_path: Path, policy: str, name: str
) -> None:
    fit(network(), Checkpoints(tmp_path), 1)
    with pytest.raises(StageError, match=r"not that of this network and its optimiser; remove"):
        Checkpoints(tmp_path).restore(network(policy, name), 4)


def test_a_checkpoint_cut_short_is_not_taken_for_one(tmp_path: Path) -> None:
    model = network()
    fit(model, Checkpoints(tmp_path), 2)
    # Killed while the third epoch's weights were being written: the state still names the second's.
    (tmp_path / "epoch-0003.weights.h5").write_bytes(b"half a fi")
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.epochs_done == 2
    restored = network()
    checkpoints.restore(restored, 4)
    assert_same(measured_weights(restored), model.get_weights())


def test_a_kill_between_weights_and_state_cannot_change_which_epoch_is_best(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = network()
    fit(model, Scored(tmp_path, 0.5), 1)
    best = model.get_weights()
    monkeypatch.setattr(Checkpoints, "_replace_state", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fit(model, Scored(tmp_path, 0.9), 2)

    found = Checkpoints(tmp_path)
    assert [epoch[SCORE] for epoch in found.history.epochs] == [0.5]
    restored = network()
    found.load_best(restored)
    assert_same(restored.get_weights(), best)


def interrupted(_: object) -> None:
    raise KeyboardInterrupt


def test_only_what_to_go_on_from_and_the_best_weights_are_kept(tmp_path: Path) -> None:
    fit(network(), Scored(tmp_path, 0.1, 0.9, 0.3, 0.2), 4)
    kept = sorted(path.name for path in tmp_path.iterdir())
    assert kept == ["epoch-0002.npz", "epoch-0004.weights.h5", "state.json"]


def test_the_averaged_weights_are_the_best_epochs_and_the_trained_ones_go_on(tmp_path: Path) -> None:
    fit(network(), checkpoints := Checkpoints(tmp_path), 2)
    restored, best = network(), network()
    checkpoints.restore(restored, 4)
    checkpoints.load_best(best)
    assert_same(best.get_weights(), measured_weights(restored))
    assert not np.allclose(best.get_weights()[0], restored.get_weights()[0])


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def overwrite_the_middle(path: Path) -> None:
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 64] = bytes(64)
    path.write_bytes(content)


def turn_a_weights_bit(path: Path) -> None:
    """Leaves a file that HDF5 and Keras read without a word."""
    with h5py.File(path, "r+") as file:
        bias = file["layers/dense/vars/1"]
        bias[...] = -bias[...]


def make_an_epoch_better(path: Path) -> None:
    state = json.loads(path.read_text())
    state["epochs"][0]["loss"] /= 2
    path.write_text(json.dumps(state))


@pytest.fixture(scope="module")
def two_epochs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a training of two epochs."""
    directory = tmp_path_factory.mktemp("two epochs")
    fit(network(), Checkpoints(directory), 2)
    return directory


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("epoch-0002.weights.h5", cut_short),
        ("epoch-0002.weights.h5", Path.unlink),
        ("epoch-0002.npz", cut_short),
        ("epoch-0002.npz", overwrite_the_middle),
        ("state.json", cut_short),
        ("epoch-0002.weights.h5", turn_a_weights_bit),
        ("state.json", make_an_epoch_better),
    ],
)
def test_a_damaged_checkpoint_means_training_anew_and_without_what_was_recorded(
    two_epochs: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    name: str,
    damage: Callable[[Path], None],
) -> None:
    directory = tmp_path / "training"
    shutil.copytree(two_epochs, directory)
    assert Checkpoints(directory).epochs_done == 2
    (directory / "tensorboard").mkdir()
    damage(directory / name)
    damaged = sorted(path.name for path in directory.iterdir())
    # An earlier one, which this one replaces.
    (tmp_path / "training.damaged" / "tensorboard" / "events").mkdir(parents=True)
    with caplog.at_level("WARNING"):
        anew = Checkpoints(directory)
    assert anew.epochs_done == 0
    assert list(directory.iterdir()) == []
    # On the first of several machines, and on one that found nothing there any more.
    assert anew.digest == Checkpoints(directory).digest
    assert sorted(path.name for path in (tmp_path / "training.damaged").iterdir()) == damaged
    assert not (tmp_path / "training.damaged" / "tensorboard" / "events").exists()
    [record] = caplog.records
    assert record.message == (
        f"the checkpoint in {directory} is damaged, and kept as {directory}.damaged: training anew"
    )


def test_a_state_without_digests_is_damaged(two_epochs: Path, tmp_path: Path) -> None:
    directory = tmp_path / "training"
    shutil.copytree(two_epochs, directory)
    state = directory / "state.json"
    state.write_text(state.read_text().replace('"sha256":', '"sha2u6":'))
    assert Checkpoints(directory).epochs_done == 0


@pytest.mark.parametrize("name", ["epoch-0002.weights.h5", "epoch-0002.npz", "state.json"])
@pytest.mark.parametrize(
    # Linux reads no process's memory at 0.
    ("target", "why"),
    [("/proc/self/mem", "Input/output error"), (None, "Too many levels of symbolic links")],
)
def test_a_checkpoint_that_cannot_be_read_is_not_damaged_and_stays(
    two_epochs: Path, tmp_path: Path, name: str, target: str | None, why: str
) -> None:
    directory = tmp_path / "training"
    shutil.copytree(two_epochs, directory)
    unreadable = directory / name
    unreadable.unlink()
    unreadable.symlink_to(target or name)
    before = sorted(path.name for path in directory.iterdir())
    with pytest.raises(StageError) as refused:
        Checkpoints(directory)
    assert str(refused.value) == (
        f"{unreadable} cannot be read: {why}; make that possible, or remove {directory} to train anew"
    )
    assert sorted(path.name for path in directory.iterdir()) == before
    assert list(tmp_path.iterdir()) == [directory]


def test_weights_that_the_disk_does_not_take_are_an_exception_and_spoil_no_earlier_epoch(
    tmp_path: Path,
) -> None:
    """HDF5 answers a write that fails, in the making of a file, with a segmentation fault."""
    model = network()
    fit(model, Checkpoints(tmp_path), 1)
    going_on = Checkpoints(tmp_path)
    going_on.set_model(model)
    going_on.set_params({"steps": 4})
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, limit[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            going_on.on_epoch_end(1, {"loss": 0.5})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert Checkpoints(tmp_path).epochs_done == 1


def history(*phases: list[float], patience: int | None = None) -> History:
    epochs = [{"phase": phase, SCORE: score} for phase, scores in enumerate(phases, 1) for score in scores]
    return History(epochs, patience)


@pytest.mark.parametrize(
    ("scores", "patience", "best", "stalled"),
    [
        ([0.1], 1, 0, False),
        ([0.1, 0.2, 0.15], 2, 1, False),
        ([0.1, 0.2, 0.15, 0.2], 2, 1, True),
        ([0.3, 0.2, 0.1], None, 0, False),
        ([0.0, 0.0], 1, 0, True),
    ],
)
def test_the_best_epoch_is_the_first_highest_and_patience_counts_from_it(
    scores: list[float], patience: int | None, best: int, stalled: bool
) -> None:
    watched = history(scores, patience=patience)
    assert (watched.best_epoch, watched.has_stalled(1)) == (best, stalled)


def test_patience_begins_anew_with_each_phase_and_the_best_is_the_best_of_all() -> None:
    watched = history([0.5, 0.4, 0.3], [0.1, 0.2], patience=2)
    assert (watched.has_stalled(1), watched.has_stalled(2)) == (True, False)
    assert watched.best_epoch == 0


def test_without_validation_the_last_epoch_is_the_one_to_keep() -> None:
    assert History([{"phase": 1, "loss": 1.0}, {"phase": 1, "loss": 2.0}], None).best_epoch == 1
