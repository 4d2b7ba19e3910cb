"""Whole runs on real datasets as they unpack, and their numbers checked from outside."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from commands import REPOSITORY, command
from pets_run import PAIRS, UNLISTED, PetsRun, pets_run
from warm_process import WarmSubprocess

from benchmarks import startup
from components.dataset import features
from pipeline.config import load_recipe

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

_INDEPENDENT = """
import io, json, sys
from pathlib import Path
import numpy as np, tensorflow as tf
from PIL import Image

model, root = tf.saved_model.load(sys.argv[1]), Path(sys.argv[2])
segment = model.signatures["serving_default"]
names = [line.split()[0] for line in (root / "annotations/test.txt").read_text().splitlines()]
both, truth, found, pixels, right, per_image = np.zeros(3), np.zeros(3), np.zeros(3), 0, 0, 0
for name in names:
    answer = segment(image_bytes=tf.constant([(root / "images" / f"{name}.jpg").read_bytes()]))
    predicted = np.array(Image.open(io.BytesIO(answer["mask_bytes"].numpy()[0])))
    trimap = np.array(Image.open(root / "annotations/trimaps" / f"{name}.png"))
    assert predicted.shape == trimap.shape
    for class_id in range(3):
        is_true, is_found = trimap == class_id + 1, predicted == class_id
        both[class_id] += np.logical_and(is_true, is_found).sum()
        truth[class_id] += is_true.sum()
        found[class_id] += is_found.sum()
    pixels += trimap.size
    right += (trimap == predicted + 1).sum()
iou = both / (truth + found - both)
print(json.dumps({
    "mean_iou": iou.mean(), "mean_dice": (2 * both / (truth + found)).mean(),
    "pixel_accuracy": right / pixels,
    "frequency_weighted_iou": (truth / pixels * iou).sum(), "iou": list(iou), "examples": len(names),
}))
"""


@pytest.fixture(scope="module")
def pets(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> PetsRun:
    made = pets_run(shared_data, tmp_path_factory)
    assert made.code == 0, made.output
    return made


def test_official_lists_decide_and_unlisted_images_are_said(pets: PetsRun) -> None:
    examples = pets.summary["examples"]
    assert examples["train"] + examples["val"] == PAIRS["trainval"]
    assert examples["test"] == PAIRS["test"]
    rejected = [(file["file"], file["reason"]) for file in pets.summary["rejected_files"]]
    assert rejected == [(f"images/{name}.jpg", "unlisted") for name in UNLISTED]
    assert "2 set aside, in no declared split" in pets.output


def test_the_slices_of_the_recipe_are_measured(pets: PetsRun) -> None:
    slices = pets.summary["slices"]
    assert slices.keys() == {"species=cat", "species=dog"}
    assert all(0 < iou < 1 for iou in slices.values())
    assert f"species=cat  {slices['species=cat']:.3f}" in pets.output


def test_every_metric_equals_one_computed_from_the_pushed_model_and_the_original_files(
    pets: PetsRun, tmp_path: Path
) -> None:
    """In a fresh process that knows nothing of this project, through the serving signature."""
    summary = pets.summary
    version = Path(summary["serving_dir"], str(summary["pushed_version"]))
    done = subprocess.run(
        [sys.executable, "-c", _INDEPENDENT, str(version), str(pets.data)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=True,
    )
    expected = json.loads(done.stdout)
    metrics = summary["metrics"]
    assert metrics["examples"] == expected.pop("examples")
    assert all(metrics["iou"].values()), "masks of one class would hide who confuses classes"
    assert list(metrics["iou"].values()) == pytest.approx(expected.pop("iou"), abs=1e-6)
    for name, value in expected.items():
        assert metrics[name] == pytest.approx(value, abs=1e-6), name


@contextmanager
def _served(model_name: str, base: Path) -> Iterator[str]:
    """Runs the command as a person would, at a free port; yields the address that it says."""
    command = [sys.executable, "-m", "pipeline.serve", "--backend=embedded", "--port=0"]
    with subprocess.Popen(
        [*command, f"--model_name={model_name}", f"--model_base_path={base}"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
        # Masks from two devices differ where classes nearly tie.
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1"},
    ) as server:
        assert server.stdout
        try:
            said = ""
            while not said.endswith("Ready\n"):
                line = server.stdout.readline()
                assert line, f"it ended: {said}"
                said += line
            [address] = re.findall(r"gRPC API at (\S+)", said)
            yield address
        finally:
            server.terminate()
            server.stdout.read()
    assert server.returncode == 0


def test_files_sent_to_the_served_model_get_the_masks_of_their_examples_byte_by_byte(
    pets: PetsRun, tmp_path: Path
) -> None:
    import tensorflow as tf

    base, version = Path(pets.summary["serving_dir"]), str(pets.summary["pushed_version"])
    [split] = (pets.workdir / "artifacts").glob("*/examples/*/Split-test")
    records = tf.data.TFRecordDataset([str(path) for path in split.iterdir()])
    expected: dict[str, bytes] = {}
    with tf.device("CPU:0"):
        evaluate = tf.saved_model.load(str(base / version)).signatures["evaluate"]
        for record in records.as_numpy_iterator():
            values = tf.train.Example.FromString(record).features.feature
            name = values[features.IMAGE_FILENAME].bytes_list.value[0].decode()
            expected[name] = evaluate(examples=tf.constant([record]))["mask_bytes"].numpy()[0]
    with _served("pets", base) as address:
        command = [sys.executable, "-m", "pipeline.predict", "-", "--raw", "--model=pets"]
        subprocess.run(
            [*command, f"--server={address}", f"--output={tmp_path}"],
            input="".join(f"{pets.data / name}\n" for name in expected),
            text=True,
            cwd=REPOSITORY,
            check=True,
        )
    answered = {path.name.removesuffix(".png"): path.read_bytes() for path in tmp_path.iterdir()}
    assert len(answered) == PAIRS["test"]
    assert answered == {Path(name).name: mask for name, mask in expected.items()}


class Gone(NamedTuple):
    """A run of a named recipe that went all the way."""

    workdir: Path
    arguments: list[str]
    waits: dict[str, float]
    """What `benchmarks.startup` makes of the events that it tells of, in seconds."""


def go(recipe: str, data: Path, workdir: Path, side: int, **changes: object) -> Gone:
    """Runs a named recipe on a smaller input, with a smaller decoder, for an epoch.

    What the recipe's own network is, `tests/pipeline/test_recipe_networks.py` knows.
    """
    _, _, _, *arguments = command(
        workdir,
        f"--recipe={recipe}",
        f"--data={data}",
        transform__height=side,
        transform__width=side,
        model__filters=8,
        training__epochs=1,
        serving__check_examples=2,
        evaluation__min_mean_iou=0.0,
        evaluation__allow_unmeasured_classes=load_recipe(recipe, str(data)).dataset.label_set().names,
        **changes,
    )
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(startup, "subprocess", WarmSubprocess)
        return Gone(workdir, arguments, startup.run_waits(*arguments))


def check_that_all_is_there(workdir: Path, pairs: int, classes: int) -> None:
    summary = json.loads((workdir / "summary.json").read_text())
    examples = summary["examples"]
    assert examples["train"] + examples["val"] + examples["test"] == pairs
    assert min(examples["train"], examples["test"]) >= 1 and examples["rejected"] == 0
    assert len(summary["metrics"]["iou"]) == classes
    [record] = (workdir / "artifacts/Trainer/model_run").iterdir()
    history = json.loads((record / "history.json").read_text())
    assert len(history["epochs"]) == 1
    assert (record / "curves.png").exists() and (record / "predictions/epoch-0001.png").exists()


def test_a_frozen_encoder_goes_all_the_way(shared_data: Path, tmp_path: Path) -> None:
    # Nothing is downloaded in a test. One of Beam's workers, as the other runs have one a core.
    changes = {"dataset__limit": 16, "model__encoder_weights": None, "beam__workers": 1}
    gone = go("pets_mobilenetv2", shared_data / "oxford_iiit_pet", tmp_path, 32, **changes)
    check_that_all_is_there(gone.workdir, pairs=16, classes=3)


def test_a_dataset_without_a_val_split_and_with_masks_of_matlab_goes_all_the_way(
    shared_data: Path, tmp_path: Path
) -> None:
    changes = {"dataset__limit": 20, "training__warmup_epochs": 0, "beam__workers": 1}
    gone = go("ccp_best", shared_data / "clothing_co_parsing", tmp_path, 32, **changes)
    check_that_all_is_there(gone.workdir, pairs=20, classes=59)


@pytest.fixture(scope="module")
def streets(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Gone:
    workdir = tmp_path_factory.mktemp("streets")
    return go("kitti_unet", shared_data / "kitti_semantics", workdir, 64, model__depth=2)


def test_streets_go_all_the_way(streets: Gone) -> None:
    check_that_all_is_there(streets.workdir, pairs=5, classes=20)


def test_how_long_one_waits_is_measured(streets: Gone, monkeypatch: pytest.MonkeyPatch) -> None:
    """`benchmarks.startup` runs the drawn shapes so, three times."""
    order = ["the first stage begins after", "the first epoch is over after", "all is done after"]
    assert [streets.waits[what] for what in order] == sorted(streets.waits[what] for what in order)
    tried = streets.waits["of which the server that tries the model is ready in"]
    assert 0 < tried < streets.waits[order[-1]]
    monkeypatch.setattr(startup, "subprocess", WarmSubprocess)
    again = startup.run_waits(*streets.arguments)
    assert again.keys() == {order[0], order[-1]}
