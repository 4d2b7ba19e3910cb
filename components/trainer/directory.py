"""Where a training keeps what it needs to go on after an interruption."""

import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tfx.v1.components import FnArgs

from components.trainer.distribution import is_chief

PIXELS = "pixels"
"""Below the directory: decoded pixels that do not outlive the process."""
_KEPT_TRAININGS = 3
"""Checkpoints of other settings or data that wait to be gone on with."""


@contextmanager
def training_directory(fn_args: FnArgs, checkpoint_dir: str | None) -> Iterator[Path]:
    """The directory of this training's checkpoints, records and cached pixels.

    Trainings of the same settings and data share one, and so go on from each other's checkpoints. Without
    a place to keep it, it lasts as long as the training.

    Of several workers that train together, the chief alone writes into the kept directory. The others start
    from a copy, which they find before the chief can have changed it: no epoch ends without them.
    """
    with tempfile.TemporaryDirectory(prefix="segmentation-training-") as temporary:
        if checkpoint_dir is None:
            yield Path(temporary)
            return
        kept = Path(checkpoint_dir) / _key(fn_args)
        if not is_chief():
            copy = Path(temporary) / kept.name
            if kept.exists():
                shutil.copytree(kept, copy, ignore=shutil.ignore_patterns(PIXELS))
            copy.mkdir(exist_ok=True)
            yield copy
            return
        kept.mkdir(parents=True, exist_ok=True)
        kept.touch()
        _remove_outdated(Path(checkpoint_dir))
        # A killed training could not take its pixels along, and half a cache is none.
        shutil.rmtree(kept / PIXELS, ignore_errors=True)
        try:
            yield kept
        finally:
            shutil.rmtree(kept / PIXELS, ignore_errors=True)


def _key(fn_args: FnArgs) -> str:
    parts = [
        fn_args.custom_config["settings"],
        *fn_args.train_files,
        *fn_args.eval_files,
        fn_args.transform_output,
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _remove_outdated(checkpoint_dir: Path) -> None:
    trainings = sorted(checkpoint_dir.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
    for outdated in trainings[1 + _KEPT_TRAININGS :]:
        shutil.rmtree(outdated)
