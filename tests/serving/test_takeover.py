"""Versions that come and go, and a server that is away for a while, under load: no client notices."""

import dataclasses
import itertools
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from running_server import decoded, encoded, image
from saved_models import expected_class_ids, write_model

from components.model_store import store
from components.serving.client import Prediction, SegmentationClient
from components.serving.process import ServerProcess
from components.serving.server.options import ServerOptions

_CLIENTS = 16
_CLASSES = 5
_IMAGES = [image(height=8 + index, width=11, seed=index) for index in range(4)]
_FILES = [encoded(pixels) for pixels in _IMAGES]


def _options(base: Path, batching: bool = False) -> ServerOptions:
    return ServerOptions(
        port=0,
        model_name="pets",
        model_base_path=str(base),
        file_system_poll_wait_seconds=1,
        enable_batching=batching,
    )


def _is_right(answer: Prediction, pixels: np.ndarray, offset: int) -> bool:
    expected = expected_class_ids(pixels, classes=_CLASSES, offset=offset)
    return np.array_equal(decoded(answer.mask_bytes), expected)


def _wait_for(client: SegmentationClient, version: int) -> None:
    """Until new requests are answered by this version."""
    end = time.monotonic() + 60
    while client.predict(_FILES[:1])[0].version != version:
        assert time.monotonic() < end, f"version {version} is not served"
        time.sleep(0.05)


def test_while_versions_are_pushed_and_rolled_back_every_mask_is_that_of_the_version_named(
    tmp_path: Path,
) -> None:
    base = tmp_path / "pets"
    models = [write_model(tmp_path / f"model-{n}", classes=_CLASSES, offset=n) for n in range(4)]
    offsets = {store.publish(models[0], base, {}): 0}
    done = threading.Event()

    def ask(target: str) -> list[tuple[int, Prediction]]:
        answers: list[tuple[int, Prediction]] = []
        with SegmentationClient(target, "pets", patience=0) as client:
            for index in itertools.cycle(range(len(_FILES))):
                if done.is_set():
                    return answers
                answers += [(index, answer) for answer in client.predict([_FILES[index]])]
        return answers

    with (
        # With batching, a version that goes has to see its batches out, too.
        ServerProcess(_options(base, batching=True), log=tmp_path / "server.log") as process,
        SegmentationClient(process.target, "pets") as client,
        ThreadPoolExecutor(_CLIENTS) as pool,
    ):
        asking = [pool.submit(ask, process.target) for _ in range(_CLIENTS)]
        try:
            for offset in (1, 2, 3):
                newest = store.publish(models[offset], base, {})
                offsets[newest] = offset
                _wait_for(client, newest)
            (base / str(newest)).rename(base / f".withdrawn-{newest}")
            _wait_for(client, sorted(offsets)[-2])
        finally:
            done.set()
        # A request that failed raises here.
        answers = [answer for asker in asking for answer in asker.result()]

    counts = Counter(answer.version for _, answer in answers)
    assert counts.keys() == offsets.keys()
    wrong = [
        answer.version
        for index, answer in answers
        if not _is_right(answer, _IMAGES[index], offsets[answer.version])
    ]
    assert wrong == []


def test_a_restart_in_the_middle_of_many_images_leaves_none_unanswered(tmp_path: Path) -> None:
    write_model(tmp_path / "pets" / "1", classes=_CLASSES, offset=2)
    options = _options(tmp_path / "pets")
    process = ServerProcess(options, log=tmp_path / "server.log")
    process.start()
    try:
        with SegmentationClient(process.target, "pets", patience=60) as client:
            answers = client.predict_many((_FILES[index % 4] for index in range(200)), concurrency=4)
            first = list(itertools.islice(answers, 50))
            process.stop()
            process = ServerProcess(
                dataclasses.replace(options, port=process.grpc_port), log=tmp_path / "server.log"
            )
            starting = threading.Timer(1.0, process.start)
            starting.start()
            everything = [*first, *answers]
            starting.join()
    finally:
        process.stop()
    assert len(everything) == 200
    for index, answer in enumerate(everything):
        assert isinstance(answer, Prediction), answer
        assert _is_right(answer, _IMAGES[index % 4], 2)
    assert (tmp_path / "server.log").read_text().count("Loaded pets version 1") == 2
