"""The client against a server that answers, refuses, stalls, and goes away."""

import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from fake_server import (
    COLORS,
    NAMES,
    FakeServer,
    asked,
    class_ids_of,
    expected_class_ids,
    picture,
    running,
    two_versions,
)

from components.imaging.drawing import read_class_ids
from components.imaging.palette import default_palette
from components.serving import connection
from components.serving.client import Prediction, SegmentationClient
from components.serving.failures import ServingClientError

_REPOSITORY = Path(__file__).resolve().parents[2]

server = two_versions


def test_each_image_gets_its_mask_its_fractions_and_the_version_that_answered(server: FakeServer) -> None:
    images = [picture(1), picture(2, 5, 7)]
    with asked(server) as client:
        answers = client.predict(images)
    for image, answer in zip(images, answers, strict=True):
        class_ids = expected_class_ids(image)
        assert np.array_equal(read_class_ids(answer.mask_bytes), class_ids)
        assert answer.class_fraction == pytest.approx(
            np.bincount(class_ids.ravel(), minlength=3) / class_ids.size
        )
        assert answer.version == 3


def test_pixels_give_class_ids_and_confidence(server: FakeServer) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 6, 8, 3), np.uint8)
    with asked(server) as client:
        answer = client.predict_pixels(images)
        assert np.array_equal(answer.class_ids, class_ids_of(images))
        assert answer.class_ids.dtype == np.uint8
        assert answer.confidence.tolist() == np.full((2, 6, 8), 0.75).tolist()
        with pytest.raises(ValueError, match=r"float64 \[6, 8, 3\], not uint8"):
            client.predict_pixels(np.zeros((6, 8, 3)))


def test_a_version_or_a_label_chooses_who_answers(server: FakeServer) -> None:
    server.labels["stable"] = 2
    with asked(server, version=2) as client:
        assert client.predict([picture(1)])[0].version == 2
    with asked(server, label="stable") as client:
        assert client.predict([picture(1)])[0].version == 2


def test_classes_come_with_the_models_own_names_and_colours(server: FakeServer) -> None:
    with asked(server) as client:
        labels = client.labels()
        assert (labels.names, labels.colors, labels.version) == (NAMES, COLORS, 3)
        assert client.labels(2).version == 2
    more = labels.covering(5)
    assert more.names == (*NAMES, "class-3", "class-4")
    assert more.colors == (*COLORS, *default_palette(5)[3:])


def test_classes_of_a_model_that_names_none_are_numbered() -> None:
    with running(FakeServer(has_labels=False)) as server, asked(server) as client:
        labels = client.labels()
    assert labels.names == ("class-0", "class-1", "class-2")
    assert labels.colors == default_palette(3)


def test_many_images_are_answered_in_order_by_several_requests_at_once(server: FakeServer) -> None:
    server.seconds = 0.02
    images = [picture(seed) for seed in range(25)]
    with asked(server) as client:
        answers = list(client.predict_many(iter(images), concurrency=4, batch_size=3))
    assert [masks(answer) for answer in answers] == [expected_class_ids(image).tolist() for image in images]
    assert 1 < server.most_at_once <= 4
    assert sorted(server.requests) == [1, *[3] * 8]


def test_no_more_images_are_read_than_are_on_their_way(server: FakeServer) -> None:
    read = 0

    def images() -> Iterator[bytes]:
        nonlocal read
        for seed in range(100):
            read += 1
            yield picture(seed)

    with asked(server) as client:
        ahead = [read - number for number, _ in enumerate(client.predict_many(images(), concurrency=2))]
    assert len(ahead) == 100
    assert max(ahead) <= 2 * 2


def test_memory_stays_flat_however_many_images_there_are(server: FakeServer) -> None:
    big = picture(0) + bytes(200_000)
    with asked(server) as client:
        list(client.predict_many([big] * 20))
        tracemalloc.start()
        for _ in client.predict_many(bytes(bytearray(big)) for _ in range(150)):
            pass
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    # 150 images are 30 MB. Those under way exist several times: as read, in the message, on both sides.
    assert peak < 15_000_000


def test_a_refused_image_is_an_error_in_its_place_and_the_rest_of_its_batch_is_answered(
    server: FakeServer,
) -> None:
    images = [picture(1), b"text", picture(2), picture(3)]
    with asked(server) as client:
        first, second, *others = client.predict_many(images, batch_size=3)
    assert isinstance(second, ServingClientError)
    assert second.code == grpc.StatusCode.INVALID_ARGUMENT
    assert str(second) == (
        "INVALID_ARGUMENT: Unknown image file format. One of JPEG, PNG, GIF, BMP required."
    )
    assert [masks(answer) for answer in (first, *others)] == [
        expected_class_ids(image).tolist() for image in (images[0], *images[2:])
    ]


def test_batches_larger_than_the_model_takes_are_noticed_once_and_smaller_from_then_on(
    server: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.max_images = 3
    images = [picture(seed) for seed in range(40)]
    with asked(server) as client:
        answers = list(client.predict_many(images, concurrency=1, batch_size=8))
    assert [masks(answer) for answer in answers] == [expected_class_ids(image).tolist() for image in images]
    assert server.requests == [8, 4, *[2] * 20]
    assert [record.getMessage() for record in caplog.records] == [
        "a request of 4 images was refused, its images were not (INVALID_ARGUMENT: 4 images at once; 1 to 3 "
        "are accepted); from now on at most 2 go together"
    ]


def test_an_image_that_is_refused_makes_no_batch_smaller(
    server: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    images = [picture(1), b"text", picture(2), picture(3), *map(picture, range(4, 12))]
    with asked(server) as client:
        answers = list(client.predict_many(images, concurrency=1, batch_size=4))
    assert [isinstance(answer, ServingClientError) for answer in answers] == [False, True, *[False] * 10]
    assert server.requests == [4, 2, 1, 1, 2, 4, 4]
    assert not caplog.records


def test_servers_behind_one_name_share_the_requests(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Stands for a name with two addresses, as that of a headless Service has.
    monkeypatch.setattr(connection, "check_address", str)
    with running(FakeServer()) as other:
        address = f"ipv4:127.0.0.1:{server.port},127.0.0.1:{other.port}"
        with SegmentationClient(address, "pets", patience=10) as client:
            answers = list(client.predict_many(map(picture, range(40)), concurrency=2))
            assert min(len(server.requests), len(other.requests)) > 10
            other.stop()
            answers += client.predict_many(map(picture, range(10)), concurrency=2)
    assert len(list(map(masks, answers))) == 50


def test_an_address_may_name_its_resolver(server: FakeServer) -> None:
    with SegmentationClient(f"dns:///{server.address}", "pets", patience=0) as client:
        assert client.labels().names == NAMES


def test_a_run_survives_a_server_that_restarts_in_the_middle(
    server: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.seconds = 0.01
    images = [picture(seed) for seed in range(500)]

    def restart() -> None:
        server.stop()
        time.sleep(0.7)
        server.start()

    answers = []
    with asked(server, patience=30) as client:
        for answer in client.predict_many(images, concurrency=4):
            answers.append(masks(answer))
            if len(answers) == 150:
                restarting = threading.Thread(target=restart)
                restarting.start()
        restarting.join()
    assert answers == [expected_class_ids(image).tolist() for image in images]
    assert len(caplog.records) == 1


def test_the_client_works_without_tensorflow(server: FakeServer) -> None:
    script = """
import sys
from components.serving.client import SegmentationClient
with SegmentationClient(sys.argv[1], "pets") as client:
    client.labels()
    client.predict([open(0, "rb").read()])
assert not {"tensorflow", "keras", "pydantic"} & set(sys.modules)
"""
    run = subprocess.run(
        [sys.executable, "-c", script, server.address], input=picture(1), cwd=_REPOSITORY, capture_output=True
    )
    assert run.returncode == 0, run.stderr.decode()


def masks(answer: Prediction | ServingClientError) -> list[list[int]]:
    assert isinstance(answer, Prediction), answer
    return read_class_ids(answer.mask_bytes).tolist()
