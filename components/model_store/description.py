"""What a SavedModel says of itself, in the description that the Trainer's export writes and by signatures."""

import json
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Any, Final, Self

from components.dataset.contracts import LABELS_FILE
from components.imaging.reading import Bands, InputSize, ValueRange
from components.model_store.store import MODEL_FILE

EVALUATE: Final = "evaluate"
"""The signature that the Evaluator calls."""


def class_names(model_dir: Path) -> list[str] | None:
    """Returns the classes in the order of their ids; None where the model does not say."""
    return described(model_dir, "labels", "names")


def pixel_limit(model_dir: Path) -> int | None:
    """Returns what the model refuses, pixels of an image; None where it does not say."""
    return described(model_dir, "limits", "max_pixels")


def reads_upright(model_dir: Path) -> bool:
    """Whether the model turns pictures as EXIF says; masks of one that does not lie as pixels are stored."""
    return described(model_dir, "recipe", "dataset", "exif") == "upright"


def bands(model_dir: Path) -> Bands | None:
    """Returns the bands that the model reads by number; None for one that reads luma, RGB or alpha.

    Models of earlier code, which do not say what they read, know of no lists of bands.
    """
    channels = described(model_dir, "recipe", "transform", "channels")
    return tuple(channels) if isinstance(channels, list) else None


def value_range(model_dir: Path) -> ValueRange | None:
    """Returns the values of deep pictures that become 0 and 255 for the model; None for the upper 8 bits."""
    match described(model_dir, "recipe", "dataset", "value_range"):
        case [float() | int() as low, float() | int() as high]:
            return float(low), float(high)
    return None


def input_size(model_dir: Path) -> InputSize | None:
    """Returns how the model brings pictures to its network; None where it does not say."""
    transform = described(model_dir, "recipe", "transform")
    try:
        return InputSize(
            transform["height"],
            transform["width"],
            transform["resize"],
            # Models of earlier code know of no windows.
            **{key: transform[key] for key in ("scale", "overlap") if key in transform},
        )
    except (KeyError, TypeError):
        return None


@dataclass(frozen=True)
class ExampleTraits:
    """What a model must agree with, for its masks of Examples to be compared with theirs."""

    class_names: list[str] | None
    upright: bool
    bands: Bands | None
    value_range: ValueRange | None
    largest: int | None
    """Pixels that an image may have at most; None where nobody knows."""

    @classmethod
    def made_for(cls, model_dir: Path) -> Self:
        """Those of the Examples that a model was trained on, as far as it says."""
        return cls(
            class_names(model_dir),
            reads_upright(model_dir),
            bands(model_dir),
            value_range(model_dir),
            described(model_dir, "recipe", "dataset", "max_pixels"),
        )


class Mismatch(Enum):
    """What keeps a model from being asked about Examples, in the order in which it is looked for."""

    UNKNOWN_CLASSES = auto()
    """The model does not say what its classes are."""
    CLASSES = auto()
    EXIF = auto()
    BANDS = auto()
    """A model takes any equal number of bands for its own."""
    VALUE_RANGE = auto()
    """Of floats and of 32 bits, ingestion has written 8 bits: all that is left of them."""
    MAX_PIXELS = auto()
    """There may be images that the model refuses."""


def mismatch(model_dir: Path, examples: ExampleTraits) -> Mismatch | None:
    """Returns the first reason why a model cannot be asked about Examples; None where it can."""
    names, limit = class_names(model_dir), pixel_limit(model_dir)
    too_large = examples.largest is not None and limit is not None and limit < examples.largest
    reasons = {
        Mismatch.UNKNOWN_CLASSES: names is None,
        Mismatch.CLASSES: names != examples.class_names,
        Mismatch.EXIF: reads_upright(model_dir) != examples.upright,
        Mismatch.BANDS: bands(model_dir) != examples.bands,
        Mismatch.VALUE_RANGE: value_range(model_dir) != examples.value_range,
        Mismatch.MAX_PIXELS: too_large,
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def bands_in_words(numbers: Bands | None) -> str:
    """Says what `bands` returns."""
    return "no list of bands" if numbers is None else f"the bands {list(numbers)}"


def described(model_dir: Path, *keys: str) -> Any:
    """Returns a value of the description; None where there is none."""
    try:
        value = json.loads((model_dir / LABELS_FILE).read_text(encoding="utf-8"))
        for key in keys:
            value = value[key]
    except (FileNotFoundError, KeyError, TypeError, ValueError):
        return None
    return value


def can_be_evaluated(model_dir: Path) -> bool:
    """Whether the Evaluator can ask the model."""
    # TensorFlow's: not for those who want the description alone.
    from tensorflow.core.protobuf import saved_model_pb2

    graphs = saved_model_pb2.SavedModel.FromString((model_dir / MODEL_FILE).read_bytes()).meta_graphs
    return any(EVALUATE in graph.signature_def for graph in graphs)
