"""The test images that a served model is tried on, and the masks it must answer with."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from components.dataset import features
from components.pillow import Image

_SHARE_TOLERANCE = 1e-6
"""Above the rounding of a float32, below one pixel of a million."""
SPLIT = "test"
"""What the Evaluator has looked at, too."""

_BATCH = 8
_OVERHEAD = 1 << 16
"""Bytes of a request besides its images; far fewer are needed."""


@dataclass(frozen=True)
class CheckedExample:
    """An image as its file has it."""

    name: str
    image: bytes
    mask: bytes
    """What the signature ``evaluate`` gives for it, PNG of class ids."""


@dataclass(frozen=True)
class Examples:
    """What the served model is asked for."""

    singles: list[CheckedExample]
    """To be sent one by one."""
    batch: list[CheckedExample]
    """To be sent at once: some of the same, with what ``evaluate`` gives for them at once."""
    too_large: list[tuple[str, int]]
    """Names of those that no request can hold, and the bytes of one that would."""


def read_examples(split_dir: Path, count: int) -> list[bytes]:
    """Returns the first serialised Examples of a split, at most ``count``."""
    files = sorted(map(str, split_dir.iterdir()))
    return list(tf.data.TFRecordDataset(files).take(count).as_numpy_iterator())


def with_expected_masks(model_dir: Path, examples: Sequence[bytes], request_bytes: int) -> Examples:
    """Asks the model itself, in this process, through ``evaluate``: the signature that the Evaluator calls.

    The Evaluator keeps numbers, no masks; so they are computed once more.

    Args:
        model_dir: the SavedModel.
        examples: serialised.
        request_bytes: the largest request that the server takes.
    """
    model = tf.saved_model.load(str(model_dir))
    evaluate = model.signatures["evaluate"]
    room = request_bytes - _OVERHEAD

    def checked(serialized: Sequence[bytes]) -> list[CheckedExample]:
        masks = evaluate(examples=tf.constant(serialized))["mask_bytes"].numpy()
        return [
            CheckedExample(*_name_and_image(example), mask)
            for example, mask in zip(serialized, masks, strict=True)
        ]

    singles, batch, too_large = [], [], []
    for example in examples:
        name, image = _name_and_image(example)
        if len(image) > room:
            too_large.append((name, len(image) + _OVERHEAD))
            continue
        singles += checked([example])
        if len(singles) <= _BATCH and sum(len(each.image) for each in singles) <= room:
            batch.append(example)
    return Examples(singles, checked(batch) if batch else [], too_large)


def _name_and_image(serialized: bytes) -> tuple[str, bytes]:
    values = tf.train.Example.FromString(serialized).features.feature
    name, image = (
        values[key].bytes_list.value[0] for key in (features.IMAGE_FILENAME, features.IMAGE_ENCODED)
    )
    return name.decode("utf-8", "replace"), image


def difference(mask: bytes, expected: bytes) -> str:
    """Says in what a mask, PNG of class ids, differs from the one expected; empty where no pixel does."""
    given = _pixels(mask)
    if given is None:
        return f"is no picture but {len(mask)} bytes of something else"
    wanted = np.asarray(Image.open(io.BytesIO(expected)))
    if given.shape != wanted.shape:
        return f"is {_size(given)} pixels, not {_size(wanted)}"
    pixels = np.count_nonzero(given != wanted)
    return f"differs in {pixels:,} of {wanted.size:,} pixels" if pixels else ""


def wrong_share(mask: bytes, class_fraction: np.ndarray, names: Sequence[str]) -> str:
    """Says which of the shares, float [C], is most unlike that of the mask's pixels; empty where none is.

    What is no mask is `difference`'s to say.
    """
    if class_fraction.shape != (len(names),):
        return f"has the shape {list(class_fraction.shape)}, not [{len(names)}]"
    pixels = _pixels(mask)
    if pixels is None or not pixels.size:
        return ""
    shares = np.bincount(pixels.ravel(), minlength=len(names))[: len(names)] / pixels.size
    # What is not a number is as wrong as can be.
    apart = np.nan_to_num(np.abs(class_fraction.astype(np.float64) - shares), nan=np.inf)
    worst = int(np.argmax(apart))
    if apart[worst] <= _SHARE_TOLERANCE:
        return ""
    return f"says {class_fraction[worst]:.6f} of {names[worst]}, the mask {shares[worst]:.6f}"


def _pixels(mask: bytes) -> np.ndarray | None:
    """The pixels of an encoded mask; None where it is no picture."""
    try:
        return np.asarray(Image.open(io.BytesIO(mask)))
    except (OSError, SyntaxError):
        return None


def _size(mask: np.ndarray) -> str:
    return " x ".join(map(str, mask.shape[1::-1]))
