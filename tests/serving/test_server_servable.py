"""One loaded version: its signatures, its answers, and what it says to wrong requests."""

import gc
import shutil
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from conftest import png_bytes
from saved_models import expected_class_ids, write_model

from components.serving.server.errors import ServingError, one_line
from components.serving.server.servable import Servable


@pytest.fixture(scope="module")
def servable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servable]:
    path = write_model(tmp_path_factory.mktemp("bands") / "7")
    servable = Servable("bands", 7, path)
    yield servable
    servable.close()


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def encoded(*images: np.ndarray) -> np.ndarray:
    return np.array([png_bytes(image) for image in images], object)


def refused(call: Callable[[], Any], code: grpc.StatusCode) -> str:
    with pytest.raises(ServingError) as caught:
        call()
    assert caught.value.code is code
    assert "\n" not in caught.value.message
    return caught.value.message


def test_signatures_are_those_of_the_saved_model(servable: Servable) -> None:
    assert {"serving_default", "serving_pixels", "evaluate"} <= set(servable.signatures)
    assert servable.signatures["serving_default"].inputs["image_bytes"].dtype == tf.string.as_datatype_enum


def test_answers_are_the_models(servable: Servable) -> None:
    images = noise(8, 9, 3), noise(5, 4, 3)
    answer = servable.run("serving_default", {"image_bytes": encoded(*images)})
    assert set(answer) == {"mask_bytes", "class_fraction"}
    for image, mask, fraction in zip(images, answer["mask_bytes"], answer["class_fraction"], strict=True):
        class_ids = tf.io.decode_png(mask).numpy()[:, :, 0]
        np.testing.assert_array_equal(class_ids, expected_class_ids(image))
        np.testing.assert_allclose(fraction, np.bincount(class_ids.ravel(), minlength=3) / class_ids.size)


def test_tensors_are_inputs_as_good_as_arrays(servable: Servable) -> None:
    images = noise(2, 4, 5, 3)
    answer = servable.run("serving_pixels", {"images": tf.constant(images)})
    np.testing.assert_array_equal(answer["class_ids"], expected_class_ids(images))


def test_no_signature_name_means_serving_default(servable: Servable) -> None:
    assert "mask_bytes" in servable.run("", {"image_bytes": encoded(noise(2, 2, 3))})


def test_only_the_outputs_asked_for_come_back(servable: Servable) -> None:
    answer = servable.run("serving_default", {"image_bytes": encoded(noise(2, 2, 3))}, ["class_fraction"])
    assert set(answer) == {"class_fraction"}


@pytest.mark.parametrize("signature", ["segment", "__saved_model_init_op"])
def test_an_unknown_signature_is_a_failed_precondition_that_names_the_known(
    servable: Servable, signature: str
) -> None:
    message = refused(lambda: servable.run(signature, {}), grpc.StatusCode.FAILED_PRECONDITION)
    assert f'"{signature}" not found' in message
    assert "evaluate, serving_default, serving_pixels" in message


@pytest.mark.parametrize(
    ("signature", "inputs", "told"),
    [
        ("serving_default", {}, "Missing but required: {image_bytes: string [?]}"),
        (
            "serving_default",
            {"image": np.zeros(1)},
            "Sent extra: {image}. Missing but required: {image_bytes",
        ),
        ("serving_default", {"image_bytes": np.zeros(1, np.float32)}, '"image_bytes" is float32 [1], but'),
        ("serving_default", {"image_bytes": np.array(b"", object)}, '"image_bytes" is string [], but'),
        ("serving_pixels", {"images": noise(1, 2, 2, 4)}, "takes uint8 [?, ?, ?, 3]"),
        ("serving_pixels", {"images": noise(2, 2, 3)}, '"images" is uint8 [2, 2, 3], but'),
        ("serving_pixels", {"images": np.zeros((1, 2, 2, 3), np.int64)}, '"images" is int64 [1, 2, 2, 3]'),
    ],
)
def test_wrong_inputs_are_told_with_what_is_right(
    servable: Servable, signature: str, inputs: dict[str, np.ndarray], told: str
) -> None:
    message = refused(lambda: servable.run(signature, inputs), grpc.StatusCode.INVALID_ARGUMENT)
    assert told in message


def test_unknown_and_repeated_outputs_are_refused(servable: Servable) -> None:
    inputs = {"image_bytes": encoded(noise(2, 2, 3))}
    code = grpc.StatusCode.INVALID_ARGUMENT
    message = refused(lambda: servable.run("", inputs, ["mask"]), code)
    assert "mask Outputs expected to be in the set {class_fraction,mask_bytes}" in message
    message = refused(lambda: servable.run("", inputs, ["mask_bytes", "mask_bytes"]), code)
    assert message == "duplicate output tensor alias: mask_bytes"


@pytest.mark.parametrize("image", [b"", b"no image", png_bytes(noise(30, 30, 3))[:60]])
def test_an_image_that_cannot_be_decoded_is_an_invalid_argument_without_graph_nodes(
    servable: Servable, image: bytes
) -> None:
    inputs = {"image_bytes": np.array([image], object)}
    message = refused(lambda: servable.run("", inputs), grpc.StatusCode.INVALID_ARGUMENT)
    assert "[[" not in message
    assert "Graph execution error" not in message


def test_a_model_that_has_gone_leaves_nothing_behind(tmp_path: Path) -> None:
    servable = Servable("bands", 1, write_model(tmp_path / "1"))
    servable.run("serving_pixels", {"images": noise(1, 2, 2, 3)})
    graph = weakref.ref(servable._graph)
    gc.disable()
    try:
        servable.close()
        del servable
        assert graph() is None
    finally:
        gc.enable()


def test_a_directory_without_saved_model_is_not_found(tmp_path: Path) -> None:
    message = refused(lambda: Servable("bands", 1, tmp_path), grpc.StatusCode.NOT_FOUND)
    assert str(tmp_path) in message


@pytest.mark.parametrize("damaged", ["saved_model.pb", "variables/variables.data-00000-of-00001"])
def test_a_truncated_model_does_not_load(tmp_path: Path, damaged: str) -> None:
    path = write_model(tmp_path / "1")
    content = (path / damaged).read_bytes()
    (path / damaged).write_bytes(content[: len(content) // 2])
    with pytest.raises(ServingError) as caught:
        Servable("bands", 1, path)
    assert caught.value.message
    assert "\n" not in caught.value.message


def test_a_model_without_its_variables_does_not_load(tmp_path: Path) -> None:
    path = write_model(tmp_path / "1")
    shutil.rmtree(path / "variables")
    assert "variables" in refused(lambda: Servable("bands", 1, path), grpc.StatusCode.INVALID_ARGUMENT)


def test_of_several_errors_the_first_cause_is_kept() -> None:
    message = (
        "Graph execution error:\n\n2 root error(s) found.\n"
        "  (0) INVALID_ARGUMENT: Input is empty.\n\t [[{{node map/while/DecodeImage}}]]\n"
        "\t [[map/while/LoopCond/_25]]\n  (1) INVALID_ARGUMENT: Input is empty.\n"
        "0 successful operations.\n\nOriginal stack trace for 'map/while':\n  File \"export.py\", line 3\n"
    )
    assert one_line(message) == "Input is empty."


@pytest.mark.parametrize("character", ["x", "\n", "\u2028", "\ud800", "猫", "😀"])
def test_a_message_is_one_line_that_fits_a_status_whatever_it_quotes(character: str) -> None:
    message = ServingError(grpc.StatusCode.NOT_FOUND, f"no {character * 100_000}").message
    assert message.startswith("no ") and message.endswith(" …")
    assert message.isprintable() and len(message.encode()) <= 1024


def test_bytes_that_tensorflow_quotes_are_an_invalid_argument(servable: Servable) -> None:
    example = np.array([b"\xff\xff no Example"], object)
    message = refused(
        lambda: servable.run("evaluate", {"examples": example}), grpc.StatusCode.INVALID_ARGUMENT
    )
    assert "Example" in message and r"\xff" in message
