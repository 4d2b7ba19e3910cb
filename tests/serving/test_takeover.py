"""Versions that come and go, and a server that is away for a while, under load: no client notices."""

import itertools
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from conftest import png_bytes
from running_server import decoded, image, running
from saved_models import expected_class_ids, write_model
from waiting import until

from components.model_store import publishing
from components.serving.client import Prediction, SegmentationClient

_CLIENTS = 16
_CLASSES = 5
_IMAGES = [image(height=8 + index, width=11, seed=index) for index in range(4)]
_FILES = [png_bytes(pixels) for pixels in _IMAGES]


def _is_right(answer: Prediction, pixels: np.ndarray, offset: int) -> bool:
    expected = expected_class_ids(pixels, classes=_CLASSES, offset=offset)
    return np.array_equal(decoded(answer.mask_bytes), expected)


def _wait_for(client: SegmentationClient, version: int) -> None:
    """Until new requests are answered by this version."""
    until(lambda: client.predict(_FILES[:1])[0].version == version, 60)


def test_while_versions_are_pushed_and_rolled_back_every_mask_is_that_of_the_version_named(
    tmp_path: Path,
) -> None:
    base = tmp_path / "pets"
    models = [write_model(tmp_path / f"model-{n}", classes=_CLASSES, offset=n) for n in range(3)]
    offsets = {publishing.publish(models[0], base, {}): 0}
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
        running(base, enable_batching=True, enable_model_warmup=True) as server,
        SegmentationClient(f"127.0.0.1:{server.port}", "pets") as client,
        ThreadPoolExecutor(_CLIENTS) as pool,
    ):
        asking = [pool.submit(ask, f"127.0.0.1:{server.port}") for _ in range(_CLIENTS)]
        try:
            for offset in (1, 2):
                newest = publishing.publish(models[offset], base, {})
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
    sent = 0

    def files() -> Iterator[bytes]:
        nonlocal sent
        for index in range(200):
            sent += 1
            yield _FILES[index % 4]

    with running(tmp_path / "pets") as server:
        client = SegmentationClient(f"127.0.0.1:{server.port}", "pets", patience=60)
        answers = client.predict_many(files(), concurrency=4)
        everything = list(itertools.islice(answers, 50))

    def restart() -> None:
        time.sleep(1)
        with running(tmp_path / "pets", port=server.port):
            done.wait()

    done = threading.Event()
    with client, ThreadPoolExecutor(1) as pool:
        assert sent < 200
        restarted = pool.submit(restart)
        try:
            everything += answers
        finally:
            done.set()
        restarted.result()
    assert len(everything) == 200
    for index, answer in enumerate(everything):
        assert isinstance(answer, Prediction), answer
        assert _is_right(answer, _IMAGES[index % 4], 2)
