"""Where a training keeps what it needs to go on after an interruption."""

import fcntl
import hashlib
import logging
import math
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import tensorflow as tf
from tfx.components.trainer.fn_args_utils import FnArgs

from components.errors import StageError
from components.files import sha256
from components.fingerprint import source_fingerprint
from components.trainer.checkpoints import STATE_FILE
from components.trainer.config import Constants, TrainerSettings
from components.trainer.distribution import is_chief
from components.trainer.hardware import training_policy
from components.training_code import TRAINING_CODE
from models.options import IMAGENET

PIXELS = "pixels"
"""Below the directory: decoded pixels that do not outlive the process."""
_TRAINING = re.compile(r"training-[0-9a-f]{16}(\.damaged)?")
"""A training's directory, or what `Checkpoints` has put aside."""
_KEPT_TRAININGS = 3
"""Checkpoints of other settings or data that wait to be gone on with."""
_CLEANING_SECONDS = 5.0
"""More than it takes to remove a training's files."""
_BLOCK_BYTES = 1 << 20

logger = logging.getLogger(__name__)


@contextmanager
def training_directory(fn_args: FnArgs, settings: TrainerSettings, constants: Constants) -> Iterator[Path]:
    """The directory of this training's checkpoints, records and cached pixels.

    Trainings of the same settings and data share one, and so go on from each other's checkpoints; for that
    the data are read once more, as one epoch reads them. It lies in
    a folder of the recipe's name below ``settings.checkpoint_dir``, beside the newest of its other trainings;
    older ones are removed. Without a place to keep it, it lasts as long as the training.

    Of several workers that train together, the chief alone writes into the kept directory. The others start
    from a copy, which they find before the chief can have changed it: no epoch ends without them.

    Raises:
        StageError: another process is at work on the same training, or the encoder's weights are there and
            cannot be read.
    """
    with tempfile.TemporaryDirectory(prefix="segmentation-training-") as temporary:
        if settings.checkpoint_dir is None:
            yield Path(temporary)
            return
        kept = Path(settings.checkpoint_dir, settings.name, _name(fn_args, settings, constants))
        if not is_chief():
            yield _copied(kept, Path(temporary, kept.name))
            return
        kept.parent.mkdir(parents=True, exist_ok=True)
        with _locked(kept, wait_seconds=_CLEANING_SECONDS):
            # Not before: until it is locked, another run may remove it as outdated.
            kept.mkdir(exist_ok=True)
            os.utime(kept)
            _remove_outdated(kept.parent)
            # A killed training could not take its pixels along, and half a cache is none.
            shutil.rmtree(kept / PIXELS, ignore_errors=True)
            try:
                yield kept
            finally:
                shutil.rmtree(kept / PIXELS, ignore_errors=True)


def _copied(kept: Path, copy: Path) -> Path:
    """Copies what a training has kept, if anything; returns the copy, which is there.

    The chief may put it aside meanwhile, for it is damaged: nothing is to be gone on with then.

    Raises:
        StageError: it is there, and cannot be copied.
    """
    try:
        if kept.exists():
            shutil.copytree(kept, copy, ignore=shutil.ignore_patterns(PIXELS))
    except (OSError, shutil.Error) as error:
        if _is_there(kept / STATE_FILE):
            raise StageError(f"the checkpoint in {kept} cannot be copied: {error}") from error
        shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir(exist_ok=True)
    return copy


def _is_there(path: Path) -> bool:
    """Whether a file is there, or nobody can say."""
    try:
        return path.exists()
    except OSError:
        return True


@contextmanager
def _locked(kept: Path, wait_seconds: float = 0.0) -> Iterator[None]:
    """Keeps others out; the lock ends with the process, however that ends.

    A run that removes outdated trainings has it for a moment; one that trains, for hours.

    It lies beside the directory, which may be removed and made again, and which NFS would not remove with an
    open file in it.
    """
    until = time.monotonic() + wait_seconds
    while (file := _take(_lock_of(kept))) is None:
        if time.monotonic() >= until:
            raise StageError(
                f"another run is at work on the same training, in {kept}; wait for it, or end it"
            )
        time.sleep(0.05)
    with file:
        yield


def _lock_of(kept: Path) -> Path:
    return kept.parent / f".{kept.name}.lock"


def _take(lock: Path) -> IO[str] | None:
    """Takes a file's lock if nobody has it, and returns the file, which has it as long as it is open.

    Raises:
        StageError: it cannot be locked.
    """
    file = lock.open("a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Another run may have removed the file meanwhile: its lock keeps nobody out.
        if os.path.samestat(os.fstat(file.fileno()), lock.stat()):
            return file
    except (BlockingIOError, FileNotFoundError):
        pass
    except OSError as error:
        file.close()
        raise StageError(
            f"{lock.parent} cannot be locked: {error.strerror}; keep checkpoints on a disk that can"
        ) from None
    file.close()
    return None


def _name(fn_args: FnArgs, settings: TrainerSettings, constants: Constants) -> str:
    """A name by what is read, not by where it lies: a repeated run writes the same records elsewhere.

    Of the transform graph what it learnt counts, and its code. Its file does not: TensorFlow numbers the
    functions in it as they come.
    """
    own = (
        settings.identity(),
        # What null decides on, too: weights of another number format are those of another training.
        training_policy(settings.training),
        repr(constants),
        # The settings know code and weights of the machine that made the pipeline, which may be another one.
        source_fingerprint(*TRAINING_CODE),
        _digest_of_weights(settings.model.encoder_weights),
    )
    digest = hashlib.sha256("\0".join(own).encode())
    for pattern in (*fn_args.train_files, *fn_args.eval_files):
        _update(digest, sorted(tf.io.gfile.glob(pattern)))
    return f"training-{digest.hexdigest()[:16]}"


def _digest_of_weights(path: str | None) -> str:
    """Empty where there is no file to read: if there should be one, building the network says so.

    Raises:
        StageError: it is there, and cannot be read.
    """
    if path is None or path == IMAGENET:
        return ""
    try:
        return sha256(Path(path)) if Path(path).is_file() else ""
    except OSError as error:
        raise StageError(
            f"model.encoder_weights is {path!r}, which cannot be read: {error.strerror}; make that possible"
        ) from error


def _update(digest: "hashlib._Hash", paths: list[str]) -> None:
    for path in paths:
        with tf.io.gfile.GFile(path, "rb") as file:
            digest.update(f"\0{Path(path).name}\0{file.size()}\0".encode())
            while block := file.read(_BLOCK_BYTES):
                digest.update(block)


def _remove_outdated(directory: Path) -> None:
    """Removes all but the newest trainings, their locks, and what a killed one has left of its pixels.

    What else lies there is not ours.
    """
    trainings = [path for path in directory.iterdir() if _TRAINING.fullmatch(path.name)]
    trainings.sort(key=_age)
    for kept in trainings[: 1 + _KEPT_TRAININGS]:
        # As large as the data. One that is at work, this one too, needs its own.
        if (kept / PIXELS).is_dir():
            with suppress(StageError, FileNotFoundError), _locked(kept):
                status = kept.stat()
                shutil.rmtree(kept / PIXELS, ignore_errors=True)
                # It is no newer for that.
                os.utime(kept, ns=(status.st_atime_ns, status.st_mtime_ns))
    for outdated in trainings[1 + _KEPT_TRAININGS :]:
        # One that another run is at work on stays.
        with suppress(StageError), _locked(outdated):
            try:
                shutil.rmtree(outdated)
            except OSError as error:
                logger.warning("%s, an older training, cannot be removed: %s", outdated, error)
    for lock in directory.glob(_lock_of(directory / "training-*").name):
        kept = directory / lock.name.removeprefix(".").removesuffix(".lock")
        if not kept.exists():
            # One that is just begun has it before its directory.
            with suppress(StageError), _locked(kept):
                if not kept.exists():
                    lock.unlink(missing_ok=True)


def _age(training: Path) -> float:
    try:
        return -training.stat().st_mtime
    except FileNotFoundError:
        # Another run has just removed it.
        return math.inf
