"""A whole local run on some real pets: made once in a session, by whichever process asks first."""

import fcntl
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
from commands import Finished, run

from components.dataset.contracts import write_whole

SETTINGS: Final = {
    "transform.height": 64,
    "transform.width": 64,
    "model.filters": 8,
    "model.depth": 3,
    "model.normalization": "batch",
    "training.epochs": 2,
    "training.batch_size": 8,
    "training.learning_rate": 0.01,
    # So that so short a training predicts every class: masks of one alone would hide who confuses classes.
    "training.class_weights": "median_frequency",
    "evaluation.min_mean_iou": 0.05,
    "serving.check_examples": 4,
}
PAIRS: Final = {"trainval": 44, "test": 16}
UNLISTED: Final = ("Abyssinian_34", "Abyssinian_82")
"""In no list of the dataset's; the first is a GIF."""
_ODD: Final = ("Abyssinian_17", "Abyssinian_5", "Abyssinian_33", "Abyssinian_75")
"""Files that are no plain JPEGs: a PNG with transparency, and orientations that EXIF does not know."""


@dataclass(frozen=True)
class PetsRun(Finished):
    """The run, and what it was of."""

    data: Path


def copy_pets(source: Path, target: Path) -> None:
    """Takes pets from all over the official lists, and those that are in none."""
    for folder in ("images", "annotations/trimaps"):
        (target / folder).mkdir(parents=True)
    taken = list(UNLISTED)
    for split, count in PAIRS.items():
        lines = (source / f"annotations/{split}.txt").read_text().splitlines()
        odd = [line for line in lines if line.split()[0] in _ODD]
        others = [line for line in lines if line not in odd]
        wanted = count - len(odd)
        chosen = sorted(odd + others[:: len(others) // wanted][:wanted], key=lines.index)
        (target / f"annotations/{split}.txt").write_text("\n".join(chosen) + "\n")
        taken += [line.split()[0] for line in chosen]
    for name in taken:
        shutil.copy(source / f"images/{name}.jpg", target / "images")
        shutil.copy(source / f"annotations/trimaps/{name}.png", target / "annotations/trimaps")


def pets_run(shared_data: Path, factory: pytest.TempPathFactory) -> PetsRun:
    """Returns the session's run; makes it, where no other process has."""
    session = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        session = session.parent
    root = session / "pets-run"
    with (session / "pets-run.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        said = root / "said.json"
        if not said.exists():
            # Another process may have been ended over it.
            shutil.rmtree(root, ignore_errors=True)
            copy_pets(shared_data / "oxford_iiit_pet", root / "data")
            made = run(root / "work", "--recipe=pets_unet", f"--data={root / 'data'}", **SETTINGS)
            write_whole(said, json.dumps([made.code, made.output]))
    code, output = json.loads(said.read_text())
    return PetsRun(code, output, root / "work", root / "data")
