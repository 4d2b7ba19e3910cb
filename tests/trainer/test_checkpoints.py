"""What survives when a training is killed."""

from pathlib import Path

import keras
import numpy as np
import pytest

from components.trainer.checkpoints import MONITOR, Checkpoints, History


def network() -> keras.Model:
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2), keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(0.05), "mse")
    return model


X = np.random.default_rng(0).normal(size=(16, 3)).astype(np.float32)
Y = X.sum(1, keepdims=True)


def fit(model: keras.Model, checkpoints: Checkpoints, epochs: int) -> None:
    model.fit(
        X,
        Y,
        4,
        epochs,
        initial_epoch=checkpoints.epochs_done,
        shuffle=False,
        callbacks=[checkpoints],
        verbose=0,
    )


class DiesInEpoch(keras.callbacks.Callback):
    def __init__(self, epoch: int):
        super().__init__()
        self._epoch = epoch

    def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
        if epoch == self._epoch:
            raise KeyboardInterrupt


def test_an_interrupted_training_ends_as_an_uninterrupted_one(tmp_path: Path) -> None:
    for name in ("through", "interrupted"):
        (tmp_path / name).mkdir()
    through = network()
    fit(through, Checkpoints(tmp_path / "through", None), epochs=5)

    interrupted = network()
    first = Checkpoints(tmp_path / "interrupted", None)
    with pytest.raises(KeyboardInterrupt):
        interrupted.fit(X, Y, 4, 5, shuffle=False, callbacks=[first, DiesInEpoch(3)], verbose=0)

    resumed = network()
    second = Checkpoints(tmp_path / "interrupted", None)
    assert second.epochs_done == 3
    second.restore(resumed)
    assert int(resumed.optimizer.iterations) == 12
    fit(resumed, second, epochs=5)
    assert second.epochs_done == 5
    for expected, actual in zip(through.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-5)


def test_a_checkpoint_cut_short_is_not_taken_for_one(tmp_path: Path) -> None:
    model = network()
    fit(model, Checkpoints(tmp_path, None), epochs=2)
    # Killed while the third epoch's weights were being written: the state still names the second's.
    (tmp_path / "epoch-0003.weights.h5").write_bytes(b"half a fi")
    checkpoints = Checkpoints(tmp_path, None)
    assert checkpoints.epochs_done == 2
    restored = network()
    checkpoints.restore(restored)
    for expected, actual in zip(model.get_weights(), restored.get_weights(), strict=True):
        np.testing.assert_array_equal(actual, expected)


def test_a_kill_between_weights_and_state_cannot_change_which_epoch_is_best(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([0.5, 0.9])

    class Scored(Checkpoints):
        def on_epoch_end(self, epoch: int, logs: object = None) -> None:
            super().on_epoch_end(epoch, {MONITOR: next(scores)})

    model = network()
    fit(model, Scored(tmp_path, None), epochs=1)
    best = model.get_weights()
    monkeypatch.setattr(Checkpoints, "_replace_state", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fit(model, Scored(tmp_path, None), epochs=2)

    found = Checkpoints(tmp_path, None)
    assert found.history.epochs == [{MONITOR: 0.5}]
    restored = network()
    found.load_best(restored)
    for expected, actual in zip(best, restored.get_weights(), strict=True):
        np.testing.assert_array_equal(actual, expected)


def interrupted(_: object) -> None:
    raise KeyboardInterrupt


def test_only_the_latest_and_the_best_epoch_are_kept(tmp_path: Path) -> None:
    scores = iter([0.1, 0.9, 0.3, 0.2])

    class Scored(Checkpoints):
        def on_epoch_end(self, epoch: int, logs: object = None) -> None:
            super().on_epoch_end(epoch, {MONITOR: next(scores)})

    fit(network(), Scored(tmp_path, None), epochs=4)
    kept = sorted(path.name for path in tmp_path.iterdir())
    assert kept == ["epoch-0002.weights.h5", "epoch-0004.weights.h5", "state.json"]


def test_a_damaged_checkpoint_means_training_anew(tmp_path: Path) -> None:
    fit(network(), Checkpoints(tmp_path, None), epochs=2)
    weights = tmp_path / "epoch-0002.weights.h5"
    weights.write_bytes(weights.read_bytes()[:100])
    checkpoints = Checkpoints(tmp_path, None)
    checkpoints.restore(network())
    assert checkpoints.epochs_done == 0


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
    history = History([{MONITOR: score} for score in scores], patience)
    assert (history.best_epoch, history.has_stalled) == (best, stalled)


def test_without_validation_the_last_epoch_is_the_one_to_keep() -> None:
    assert History([{"loss": 1.0}, {"loss": 2.0}], None).best_epoch == 1
