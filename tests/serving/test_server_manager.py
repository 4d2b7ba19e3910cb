"""Versions come and go while requests are answered."""

import functools
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from saved_models import expected_class_ids, write_model

from components.serving.messages import State
from components.serving.server.batching_parameters import BatchingParameters
from components.serving.server.errors import ServingError
from components.serving.server.manager import ModelManager
from components.serving.server.model_config import All, Latest, ModelConfig, Specific
from components.serving.server.versions import Step, VersionStatus, find_versions, next_step
from components.serving.server.warmup import REQUESTS_FILE

PIXELS = np.random.default_rng(0).integers(0, 256, (1, 4, 5, 3), np.uint8)
POLL = 0.05

MakeManager = Callable[..., ModelManager]


@pytest.fixture
def make_manager() -> Iterator[MakeManager]:
    made = []

    def make(*configs: ModelConfig, start: bool = True, **options: Any) -> ModelManager:
        options = {"poll_seconds": 0, "batching": None, "warmup": False, **options}
        made.append(ModelManager(configs, **options))
        if start:
            made[-1].start()
        return made[-1]

    yield make
    for manager in made:
        manager.stop()


@pytest.fixture
def base(tmp_path: Path) -> Path:
    path = tmp_path / "bands"
    path.mkdir()
    return path


def answer(manager: ModelManager, name: str = "bands", **which: Any) -> tuple[int, np.ndarray]:
    """The version that answered, and its answer."""
    with manager.acquire(name, **which) as servable:
        return servable.version, servable.run("serving_pixels", {"images": PIXELS})["class_ids"]


def states(manager: ModelManager, name: str = "bands") -> dict[int, State]:
    return {status.version: status.state for status in manager.status(name)}


def available(manager: ModelManager, name: str = "bands") -> set[int]:
    try:
        return {version for version, state in states(manager, name).items() if state is State.AVAILABLE}
    except ServingError:
        return set()


def serves_only(manager: ModelManager, version: int) -> bool:
    return available(manager) == {version}


def until(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def refused(call: Callable[[], Any], code: grpc.StatusCode) -> str:
    with pytest.raises(ServingError) as caught:
        call()
    assert caught.value.code is code
    return caught.value.message


def break_warmup(path: Path) -> None:
    (path / REQUESTS_FILE).write_bytes(b"these are no records")


@pytest.mark.parametrize(
    ("states_now", "wanted", "step"),
    [
        ({}, [], None),
        ({1: State.START, 2: State.START}, [1, 2], (Step.LOAD, 2)),
        ({1: State.AVAILABLE, 2: State.START}, [2], (Step.LOAD, 2)),
        ({1: State.AVAILABLE, 2: State.AVAILABLE}, [2], (Step.UNLOAD, 1)),
        ({1: State.AVAILABLE, 2: State.END}, [2], None),
        ({1: State.AVAILABLE, 2: State.AVAILABLE, 3: State.START}, [2, 3], (Step.UNLOAD, 1)),
        ({1: State.AVAILABLE, 2: State.AVAILABLE, 3: State.START}, [3], (Step.UNLOAD, 1)),
        ({1: State.AVAILABLE}, [], (Step.UNLOAD, 1)),
        ({1: State.AVAILABLE, 2: State.END}, [1], None),
    ],
)
def test_some_version_answers_at_every_step(
    states_now: dict[int, State], wanted: list[int], step: tuple[Step, int] | None
) -> None:
    assert next_step(states_now, wanted) == step


def test_versions_are_directories_with_integer_names(base: Path) -> None:
    for name in ("1", "0002", "-3", "4.tmp", "v5", ".6", " 7", "9" * 30, "٣"):
        (base / name).mkdir()
    (base / "8").write_text("a file")
    assert find_versions(base) == {1: base / "1", 2: base / "0002", -3: base / "-3"}


def test_the_highest_version_answers_unless_another_is_asked_for(
    base: Path, make_manager: MakeManager
) -> None:
    write_model(base / "1")
    write_model(base / "10", offset=1)
    write_model(base / "2", offset=2)
    manager = make_manager(ModelConfig("bands", base, All()))
    for asked, version, offset in ((None, 10, 1), (1, 1, 0), (2, 2, 2)):
        answered, class_ids = answer(manager, version=asked)
        assert answered == version
        np.testing.assert_array_equal(class_ids, expected_class_ids(PIXELS, offset=offset))
    assert [status.version for status in manager.status("bands")] == [10, 2, 1]


@pytest.mark.parametrize(("policy", "served"), [(Latest(2), {2, 3}), (Specific(frozenset({1})), {1})])
def test_only_what_the_policy_picks_is_loaded(
    base: Path, make_manager: MakeManager, policy: Latest | Specific, served: set[int]
) -> None:
    for version in (1, 2, 3):
        write_model(base / str(version))
    assert set(states(make_manager(ModelConfig("bands", base, policy)))) == served


def test_a_new_version_takes_over_and_the_old_one_ends(base: Path, make_manager: MakeManager) -> None:
    write_model(base / "1")
    manager = make_manager(ModelConfig("bands", base), poll_seconds=POLL)
    assert answer(manager)[0] == 1
    write_model(base / "2", offset=1)
    until(lambda: states(manager) == {1: State.END, 2: State.AVAILABLE})
    np.testing.assert_array_equal(answer(manager)[1], expected_class_ids(PIXELS, offset=1))
    assert manager.status("bands", version=1) == [VersionStatus(1, State.END)]


def test_a_rollback_loads_the_old_version_again(base: Path, make_manager: MakeManager) -> None:
    write_model(base / "1")
    manager = make_manager(ModelConfig("bands", base), poll_seconds=POLL)
    write_model(base / "2", offset=1)
    until(lambda: available(manager) == {2})
    shutil.rmtree(base / "2")
    until(lambda: available(manager) == {1})
    np.testing.assert_array_equal(answer(manager)[1], expected_class_ids(PIXELS))


def test_states_are_reported_in_order(base: Path, make_manager: MakeManager) -> None:
    seen: list[tuple[str, int, State]] = []
    write_model(base / "1")
    manager = make_manager(
        ModelConfig("bands", base),
        on_state_change=lambda name, status: seen.append((name, status.version, status.state)),
    )
    assert seen == [("bands", 1, state) for state in (State.START, State.LOADING, State.AVAILABLE)]
    manager.stop()
    assert seen[3:] == [("bands", 1, State.UNLOADING), ("bands", 1, State.END)]


def test_a_version_in_use_is_unloaded_when_it_comes_back(base: Path, make_manager: MakeManager) -> None:
    write_model(base / "1")
    manager = make_manager(ModelConfig("bands", base), poll_seconds=POLL)
    with manager.acquire("bands") as servable:
        write_model(base / "2")
        until(lambda: states(manager) == {1: State.UNLOADING, 2: State.AVAILABLE})
        assert answer(manager)[0] == 2
        refused(lambda: answer(manager, version=1), grpc.StatusCode.NOT_FOUND)
        assert set(servable.run("serving_pixels", {"images": PIXELS})) == {"class_ids", "confidence"}
    until(lambda: states(manager)[1] is State.END)


def test_a_version_that_does_not_load_leaves_the_old_one_serving(
    base: Path, make_manager: MakeManager
) -> None:
    write_model(base / "1")
    manager = make_manager(ModelConfig("bands", base), poll_seconds=POLL)
    (base / "2").mkdir()
    until(lambda: states(manager) == {1: State.AVAILABLE, 2: State.END})
    (failed,) = manager.status("bands", version=2)
    assert failed.code is grpc.StatusCode.NOT_FOUND
    assert str(base / "2") in failed.message
    assert answer(manager)[0] == 1


def test_a_failed_version_is_tried_again_when_it_has_been_away(base: Path, make_manager: MakeManager) -> None:
    (base / "2").mkdir()
    manager = make_manager(ModelConfig("bands", base), poll_seconds=POLL)
    assert states(manager) == {2: State.END}
    (base / "2").rmdir()
    until(lambda: not manager._models["bands"]._failed)
    write_model(base / "2")
    until(lambda: available(manager) == {2})


def test_a_version_that_fails_its_warm_up_is_not_served(base: Path, make_manager: MakeManager) -> None:
    break_warmup(write_model(base / "1"))
    config = ModelConfig("bands", base)
    (status,) = make_manager(config, warmup=True).status("bands")
    assert (status.state, status.code) == (State.END, grpc.StatusCode.DATA_LOSS)
    assert states(make_manager(config, warmup=False)) == {1: State.AVAILABLE}


def test_a_model_may_appear_after_the_server(tmp_path: Path, make_manager: MakeManager) -> None:
    base = tmp_path / "later"
    manager = make_manager(ModelConfig("bands", base), poll_seconds=POLL)
    assert refused(lambda: answer(manager), grpc.StatusCode.NOT_FOUND) == (
        "Servable not found for request: Latest(bands)"
    )
    write_model(base / "1")
    until(lambda: available(manager) == {1})


def test_a_base_path_that_goes_away_takes_no_model_with_it(base: Path, make_manager: MakeManager) -> None:
    write_model(base / "1")
    manager = make_manager(ModelConfig("bands", base), poll_seconds=POLL)
    base.rename(base.with_name("elsewhere"))
    until(lambda: "bands" in manager._warnings)
    assert answer(manager)[0] == 1


def test_without_any_version_left_the_model_ends(base: Path, make_manager: MakeManager) -> None:
    write_model(base / "1")
    manager = make_manager(ModelConfig("bands", base), poll_seconds=POLL)
    shutil.rmtree(base / "1")
    until(lambda: states(manager) == {1: State.END})


@pytest.mark.parametrize("poll_seconds", [0, -1])
def test_the_disk_is_looked_at_once_or_never(
    base: Path, make_manager: MakeManager, poll_seconds: float
) -> None:
    write_model(base / "1")
    manager = make_manager(ModelConfig("bands", base), poll_seconds=poll_seconds)
    assert manager._poller is None
    assert available(manager) == ({1} if poll_seconds == 0 else set())


def test_what_is_unknown_is_not_found_in_the_words_of_tensorflow_serving(
    base: Path, make_manager: MakeManager
) -> None:
    write_model(base / "1")
    manager = make_manager(ModelConfig("bands", base))
    code = grpc.StatusCode.NOT_FOUND
    assert refused(lambda: answer(manager, "pets"), code) == "Servable not found for request: Latest(pets)"
    assert refused(lambda: answer(manager, version=3), code) == (
        "Servable not found for request: Specific(bands, 3)"
    )
    assert refused(lambda: manager.status("pets"), code) == "Could not find any versions of model pets"
    assert refused(lambda: manager.status("bands", 3), code) == "Could not find version 3 of model bands"
    assert refused(lambda: answer(manager, label="stable"), grpc.StatusCode.INVALID_ARGUMENT) == (
        "Unrecognized servable version label: stable"
    )


def test_labels_are_given_to_available_versions_and_can_be_moved(
    base: Path, make_manager: MakeManager
) -> None:
    write_model(base / "1")
    write_model(base / "2", offset=1)
    manager = make_manager(ModelConfig("bands", base, All()))
    manager.reload([ModelConfig("bands", base, All(), {"stable": 1, "canary": 2})])
    assert [answer(manager, label=label)[0] for label in ("stable", "canary")] == [1, 2]
    assert [status.version for status in manager.status("bands", label="stable")] == [1]
    manager.reload([ModelConfig("bands", base, All(), {"stable": 2})])
    assert answer(manager, label="stable")[0] == 2
    refused(lambda: answer(manager, label="canary"), grpc.StatusCode.INVALID_ARGUMENT)


def test_a_label_for_a_version_that_is_not_available_is_refused_and_changes_nothing(
    base: Path, make_manager: MakeManager
) -> None:
    write_model(base / "1")
    manager = make_manager(ModelConfig("bands", base))
    other = ModelConfig("other", base)
    message = refused(
        lambda: manager.reload([ModelConfig("bands", base, labels={"stable": 9}), other]),
        grpc.StatusCode.FAILED_PRECONDITION,
    )
    assert "version 9 of model bands, which is not currently available for inference" in message
    assert manager.names() == ["bands"]
    refused(
        lambda: make_manager(ModelConfig("bands", base, labels={"stable": 1})),
        grpc.StatusCode.FAILED_PRECONDITION,
    )


def test_labels_may_come_before_their_versions_if_allowed_but_do_not_move_ahead(
    base: Path, make_manager: MakeManager
) -> None:
    write_model(base / "1")
    manager = make_manager(
        ModelConfig("bands", base, labels={"stable": 1, "canary": 2}), allow_unassigned_labels=True
    )
    assert answer(manager, label="stable")[0] == 1
    refused(lambda: answer(manager, label="canary"), grpc.StatusCode.NOT_FOUND)
    refused(
        lambda: manager.reload([ModelConfig("bands", base, labels={"stable": 2})]),
        grpc.StatusCode.FAILED_PRECONDITION,
    )
    assert answer(manager, label="stable")[0] == 1


def test_a_reload_adds_and_removes_models(base: Path, make_manager: MakeManager) -> None:
    write_model(base / "1")
    manager = make_manager(ModelConfig("old", base))
    manager.reload([ModelConfig("new", base)])
    assert manager.names() == ["new"]
    assert answer(manager, "new")[0] == 1
    refused(lambda: answer(manager, "old"), grpc.StatusCode.NOT_FOUND)
    assert states(manager, "old") == {1: State.END}


def test_a_reload_serves_the_same_number_from_another_directory(
    base: Path, tmp_path: Path, make_manager: MakeManager
) -> None:
    write_model(base / "1")
    (base / "2").mkdir()
    manager = make_manager(ModelConfig("bands", base, All()))
    assert states(manager) == {1: State.AVAILABLE, 2: State.END}
    for number in (1, 2):
        write_model(tmp_path / "other" / str(number), offset=number)
    manager.reload([ModelConfig("bands", tmp_path / "other", All())])
    for number in (1, 2):
        np.testing.assert_array_equal(
            answer(manager, version=number)[1], expected_class_ids(PIXELS, offset=number)
        )


def test_a_reload_with_a_model_listed_twice_changes_nothing(base: Path, make_manager: MakeManager) -> None:
    write_model(base / "1")
    manager = make_manager(ModelConfig("bands", base))
    twice = [ModelConfig("twin", base), ModelConfig("twin", base)]
    refused(lambda: manager.reload(twice), grpc.StatusCode.INVALID_ARGUMENT)
    assert answer(manager)[0] == 1


def test_a_reload_tells_which_new_model_does_not_load(base: Path, make_manager: MakeManager) -> None:
    write_model(base / "1")
    manager = make_manager(ModelConfig("bands", base))
    absent = ModelConfig("absent", base / "nowhere")
    message = refused(lambda: manager.reload([ModelConfig("bands", base), absent]), grpc.StatusCode.UNKNOWN)
    assert "1 model(s) did not become available: {absent" in message
    assert answer(manager)[0] == 1


@pytest.mark.parametrize("batching", [None, BatchingParameters(max_batch_size=8, num_batch_threads=2)])
def test_versions_are_swapped_under_load_without_a_failed_request(
    base: Path, make_manager: MakeManager, batching: BatchingParameters | None
) -> None:
    """A half-loaded model would fail or answer with another offset than its version's."""
    write_model(base / "1", offset=1)
    manager = make_manager(ModelConfig("bands", base), poll_seconds=POLL, batching=batching, warmup=True)
    done = threading.Event()

    def client() -> set[int]:
        answered = set()
        while not done.is_set():
            version, class_ids = answer(manager)
            np.testing.assert_array_equal(class_ids, expected_class_ids(PIXELS, offset=version % 3))
            answered.add(version)
            # A client on the wire leaves the interpreter to others now and then, too.
            time.sleep(0.05)
        return answered

    with ThreadPoolExecutor(8) as clients:
        answers = [clients.submit(client) for _ in range(8)]
        try:
            for version in (2, 3, 4):
                write_model(base / str(version), offset=version % 3)
                until(functools.partial(serves_only, manager, version))
            shutil.rmtree(base / "4")
            until(lambda: available(manager) == {3})
        finally:
            done.set()
        assert set().union(*(answered.result(60) for answered in answers)) == {1, 2, 3, 4}


def test_stop_waits_for_requests_in_flight_and_refuses_new_ones(
    base: Path, make_manager: MakeManager
) -> None:
    write_model(base / "1", seconds=0.5)
    manager = make_manager(ModelConfig("bands", base), batching=BatchingParameters(num_batch_threads=1))
    with ThreadPoolExecutor(4) as clients:
        answers = [clients.submit(answer, manager) for _ in range(3)]
        until(lambda: manager._models["bands"]._versions[1].requests == 3)
        manager.stop()
        assert [answered.result(60)[0] for answered in answers] == [1, 1, 1]
    refused(lambda: answer(manager), grpc.StatusCode.UNAVAILABLE)
    assert states(manager) == {1: State.END}
