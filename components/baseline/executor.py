"""Hands on the served model, if a candidate can be compared with it."""

import logging
from pathlib import Path
from typing import Any, Final

from tfx import types
from tfx.dsl.components.base import base_executor
from tfx.types import artifact_utils, standard_component_specs
from tfx.utils import path_utils

from components.baseline.driver import resolve_token
from components.dataset.contracts import INCOMPARABLE_VERSION, OBSTACLE, VERSION
from components.errors import StageError
from components.imaging.reading import ValueRange
from components.model_store import store, tokens
from components.model_store.description import (
    EVALUATE,
    ExampleTraits,
    Mismatch,
    bands,
    bands_in_words,
    can_be_evaluated,
    mismatch,
    pixel_limit,
    value_range,
)
from components.run_parameters import SERVING_DIR

BASELINE_MODEL_KEY: Final = "baseline_model"

logger = logging.getLogger(__name__)


class Executor(base_executor.BaseExecutor):
    """Fills the output artifact with the served model, or leaves it empty and says why."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Runs the stage.

        Args:
            input_dict: ``model``, the candidate.
            output_dict: ``baseline_model``; its custom properties are ``version``, empty when there is
                nothing to compare with, ``incomparable_version`` and ``obstacle``, empty unless what is
                served cannot be compared with, and ``baseline_token``, which the Pusher keeps with the
                version it pushes.
            exec_properties: ``serving_dir``, and ``served_model`` where a driver has set it.

        Raises:
            StageError: the served versions changed since the driver looked.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        candidate = artifact_utils.get_single_instance(input_dict[standard_component_specs.MODEL_KEY])
        candidate_dir = Path(path_utils.serving_model_path(candidate.uri))
        baseline = artifact_utils.get_single_instance(output_dict[BASELINE_MODEL_KEY])
        serving_dir = Path(exec_properties[SERVING_DIR])
        token = exec_properties.get(tokens.SERVED_MODEL_KEY) or resolve_token(input_dict, exec_properties)

        served = _served_version(token, candidate_dir, serving_dir)
        obstacle = _obstacle(served.path, candidate_dir) if served else ""
        number = str(served.number) if served else ""
        properties = {
            tokens.BASELINE_TOKEN_KEY: token,
            VERSION: "" if obstacle else number,
            INCOMPARABLE_VERSION: number if obstacle else "",
            OBSTACLE: obstacle,
        }
        for key, value in properties.items():
            baseline.set_string_custom_property(key, value)
        if obstacle:
            logger.info("not comparing with version %s, which is being served: %s", number, obstacle)
        elif served:
            store.link_tree(served.path, Path(path_utils.serving_model_dir(baseline.uri)))
            logger.info("comparing with version %s, which is being served", number)


def _served_version(token: str, candidate_dir: Path, serving_dir: Path) -> store.Version | None:
    """The version that the token asks for; None, said in a log line, if there is none."""
    if token == tokens.NO_BASELINE:
        logger.info("no earlier model to compare with")
        return None
    served = tokens.find_baseline(token, serving_dir)
    if served is None:
        # Only a candidate that is served itself may ask for a version which is gone meanwhile.
        if tokens.baseline_token(candidate_dir, serving_dir) != token:
            raise StageError(
                f"the versions under {serving_dir} changed while this stage started; run the pipeline again"
            )
        logger.info("the version this model was once compared with is no longer there")
    return served


def _obstacle(served_dir: Path, candidate_dir: Path) -> str:
    """Why the two models cannot be compared; empty if they can."""
    now = ExampleTraits.made_for(candidate_dir)
    match mismatch(served_dir, now):
        case Mismatch.UNKNOWN_CLASSES:
            return "it does not say what its classes are"
        case Mismatch.CLASSES:
            return "its classes are not the same"
        case Mismatch.EXIF:
            return "one of the two turns images as EXIF says and the other does not (dataset.exif)"
        case Mismatch.BANDS:
            return (
                f"it reads {bands_in_words(bands(served_dir))}, and the candidate "
                f"{bands_in_words(now.bands)} (transform.channels)"
            )
        case Mismatch.VALUE_RANGE:
            # Neither model says whether there are any such pictures.
            return (
                f"it takes {_as_range(value_range(served_dir))} of pictures of more than 8 bits, and the "
                f"candidate {_as_range(now.value_range)} (dataset.value_range)"
            )
        case Mismatch.MAX_PIXELS:
            return (
                f"it refuses images of more than {pixel_limit(served_dir):,} pixels, and there may be some "
                f"of {now.largest:,} now"
            )
    if not can_be_evaluated(served_dir):
        return f"it has no signature {EVALUATE!r}"
    return ""


def _as_range(values: ValueRange | None) -> str:
    return "the upper 8 of 16 bits" if values is None else f"the values {values[0]:g} to {values[1]:g}"
