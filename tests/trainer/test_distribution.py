"""Who trains with whom: TF_CONFIG, and trainings that share their batches against one that does not."""

import json
import os
import pickle
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from replica_training import TRAIN, Outcome, images, train
from warm_process import WarmProcess

from components.errors import StageError
from components.trainer.distribution import full_batches, is_chief, training_strategy
from models.batch_statistics import batch_moments, set_population_statistics
from models.unet import unet

_LIMIT_SECONDS = 200
"""Far more than the processes take, and less than a test may."""
_TWO = ["10.0.0.1:2222", "10.0.0.2:2222"]

Outcomes = Mapping[str, Outcome]


def cluster(task: str, index: int, **members: list[str]) -> str:
    return json.dumps({"cluster": members, "task": {"type": task, "index": index}})


@pytest.mark.parametrize(
    ("config", "chief"),
    [
        (None, True),
        ("{}", True),
        (cluster("worker", 0, worker=["localhost:2222"]), True),
        (cluster("worker", 0, worker=_TWO), True),
        (cluster("worker", 1, worker=_TWO), False),
        (cluster("chief", 0, chief=["10.0.0.3:2222"], worker=_TWO), True),
        (cluster("worker", 0, chief=["10.0.0.3:2222"], worker=_TWO), False),
    ],
)
def test_one_process_of_a_cluster_is_its_chief(
    monkeypatch: pytest.MonkeyPatch, config: str | None, chief: bool
) -> None:
    if config is None:
        monkeypatch.delenv("TF_CONFIG", raising=False)
    else:
        monkeypatch.setenv("TF_CONFIG", config)
    assert is_chief() is chief


@pytest.mark.parametrize("config", [None, "{}", cluster("worker", 0, worker=["localhost:2222"])])
def test_a_process_without_others_and_gpus_trains_alone(
    monkeypatch: pytest.MonkeyPatch, config: str | None
) -> None:
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: [])
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if config is not None:
        monkeypatch.setenv("TF_CONFIG", config)
    assert training_strategy() is tf.distribute.get_strategy()


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        ("", "no JSON"),
        ("{", "no JSON"),
        ("[]", "no JSON object"),
        (json.dumps({"cluster": {"worker": _TWO}}), "task: Field required"),
        (cluster("worker", 2, worker=_TWO), "task.index is 2, but cluster.worker has 2 addresses"),
        (cluster("chief", 0, worker=_TWO), "task.index is 0, but cluster.chief has 0 addresses"),
        (cluster("worker", -1, worker=_TWO), "task.index"),
        (cluster("evaluator", 0, worker=_TWO), "task.type"),
        (cluster("worker", 0, worker=_TWO, ps=["10.0.0.3:2222"]), "cluster.ps"),
        (cluster("worker", 0, worker=["10.0.0.1", "10.0.0.2"]), "cluster.worker.0"),
        (cluster("chief", 0, chief=_TWO), "cluster.chief"),
    ],
)
def test_a_malformed_cluster_is_one_clear_line(
    monkeypatch: pytest.MonkeyPatch, config: str, complaint: str
) -> None:
    monkeypatch.setenv("TF_CONFIG", config)
    for ask in (is_chief, training_strategy):
        with pytest.raises(StageError) as raised:
            ask()
        message = str(raised.value)
        assert message.startswith("TF_CONFIG is no description of a cluster") and complaint in message
        assert "HOST:PORT" in message and "\n" not in message


@pytest.mark.parametrize(("count", "batch_size", "batches"), [(1, 3, 1), (3, 3, 1), (4, 3, 2), (4, 1, 4)])
def test_the_last_batch_is_filled_up_with_pairs_that_do_not_count(
    count: int, batch_size: int, batches: int
) -> None:
    images = np.ones((count, 1, 2, 3), np.uint8)
    pairs = tf.data.Dataset.from_tensor_slices((images, np.zeros((count, 1, 2), np.uint8)))
    made = list(full_batches(pairs, count, batch_size).as_numpy_iterator())
    assert [image.shape for image, _, _ in made] == [(batch_size, 1, 2, 3)] * batches
    class_ids, is_pair = (np.concatenate([batch[part] for batch in made]) for part in (1, 2))
    assert (class_ids[:count] == 0).all() and (class_ids[count:] == 255).all()
    assert is_pair[:count].all() and not is_pair[count:].any()
    assert {part.dtype for batch in made for part in batch[:2]} == {np.dtype(np.uint8)}


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def run_together(directory: Path, programs: Mapping[str, tuple[list[str], dict[str, str]]]) -> dict[str, Any]:
    """Runs the trainings side by side, arguments and environment by name; ends all of them if one fails."""
    program = str(Path(__file__).with_name("replica_training.py"))
    running: dict[str, WarmProcess] = {}
    outcomes = {}
    try:
        for name, (arguments, variables) in programs.items():
            (directory / name).mkdir()
            with (directory / name / "log").open("wb") as log:
                running[name] = WarmProcess(
                    [program, str(directory / name / "outcome"), *arguments],
                    environment={**os.environ, **variables},
                    stdout=log.fileno(),
                    merged=True,
                )
        deadline = time.monotonic() + _LIMIT_SECONDS
        while any(process.poll() is None for process in running.values()):
            failed = [name for name, process in running.items() if process.poll()]
            if failed or time.monotonic() > deadline:
                break
            time.sleep(0.1)
        # Those that failed first: the others only wait for them.
        for name, process in sorted(running.items(), key=lambda item: not item[1].poll()):
            text = (directory / name / "log").read_text(errors="replace")
            assert process.poll() == 0, f"{name}: {process.poll()}\n{text[-3000:]}"
            outcomes[name] = pickle.loads((directory / name / "outcome").read_bytes())
    finally:
        for process in running.values():
            process.kill()
            process.wait()
    return outcomes


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcomes]:
    """The same trainings by two processes, by two devices of a process, and by one device."""
    directory = tmp_path_factory.mktemp("replicas")
    workers = [f"127.0.0.1:{port}" for port in free_ports(2)]
    programs: dict[str, tuple[list[str], dict[str, str]]] = {
        f"worker {index}": ([], {"TF_CONFIG": cluster("worker", index, worker=workers)}) for index in (0, 1)
    }
    programs["two devices"] = (["virtual"], {"TF_CONFIG": "{}"})
    shared = run_together(directory, programs)
    made = {name: {key: Outcome(*values) for key, values in both.items()} for name, both in shared.items()}
    return {**made, "one device": {"none": train(tf.distribute.get_strategy(), "none", directory)}}


SHARED = ["worker 0", "worker 1", "two devices"]


@pytest.mark.parametrize("name", SHARED)
def test_sharing_the_batches_gives_the_weights_of_whole_batches(
    outcomes: dict[str, Outcomes], name: str
) -> None:
    alone, together = outcomes["one device"]["none"], outcomes[name]["none"]
    assert (alone.replicas, together.replicas) == (1, 2)
    for one, other in zip(alone.weights, together.weights, strict=True):
        np.testing.assert_allclose(other, one, atol=1e-5)


@pytest.mark.parametrize("name", SHARED)
def test_sharing_the_batches_measures_what_one_device_measures(
    outcomes: dict[str, Outcomes], name: str
) -> None:
    """The val split, 6 examples in batches of 4, leaves a replica without any of its last batch.

    All of the last example is ignored: with it the other replica's part weighs as much as on one device.
    """
    alone, together = outcomes["one device"]["none"].history, outcomes[name]["none"].history
    for metric in ("loss", "val_loss", "iou_at_input_size", "val_iou_at_input_size"):
        np.testing.assert_allclose(together[metric], alone[metric], rtol=1e-4)


@pytest.mark.parametrize("normalization", ["none", "batch"])
def test_workers_stay_identical(outcomes: dict[str, Outcomes], normalization: str) -> None:
    first, second = (outcomes[f"worker {index}"][normalization] for index in (0, 1))
    assert first.history == second.history
    for one, other in zip(first.weights, second.weights, strict=True):
        np.testing.assert_array_equal(one, other)
    assert (first.chief, second.chief) == (True, False)


def test_workers_that_do_not_start_from_the_same_all_say_so(outcomes: dict[str, Outcomes]) -> None:
    for index in (0, 1):
        same, training, checkpoint = outcomes[f"worker {index}"]["none"].refusals
        assert same == ""
        assert "would not train the same: settings, data, code" in training
        assert checkpoint == (
            "the machines that train together start from different checkpoints; keep them "
            "(kubeflow.checkpoint_dir, /claim) on storage that all of them see"
        )
    assert outcomes["two devices"]["none"].refusals == outcomes["one device"]["none"].refusals == [""] * 3


def test_two_processes_train_as_two_devices_of_one(outcomes: dict[str, Outcomes]) -> None:
    """Also with batch normalisation, which sees the same parts of the batches."""
    processes, devices = outcomes["worker 0"]["batch"], outcomes["two devices"]["batch"]
    for one, other in zip(processes.weights, devices.weights, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("name", SHARED)
def test_batch_normalisation_has_the_statistics_of_its_images_on_every_replica(
    outcomes: dict[str, Outcomes], name: str
) -> None:
    alone = unet((8, 8, 3), 2, filters=4, depth=2, normalization="batch")
    alone.set_weights(outcomes[name]["batch"].weights)
    batches = np.split(images()[:TRAIN], TRAIN // 2)
    set_population_statistics(alone, [batch_moments(alone, batch) for batch in batches])
    for one, other in zip(outcomes[name]["batch"].weights, alone.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", SHARED)
def test_shared_weights_survive_saving(outcomes: dict[str, Outcomes], name: str) -> None:
    for outcome in outcomes[name].values():
        for one, other in zip(outcome.weights, outcome.restored, strict=True):
            np.testing.assert_array_equal(one, other)
