"""Finds the code, libraries and seeds that a run was made with; imports neither TensorFlow nor TFX."""

import platform
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any, Final

import components
import models
from components.fingerprint import source_fingerprint
from components.report.comparison import flattened
from components.report.data import Lineage
from components.report.revision import git_commit

CODE: Final = (components, models)
"""All that stages, and the processes that they start, may import."""
_LIBRARIES: Final = (
    *("tfx", "tensorflow", "keras", "tensorflow-transform", "tensorflow-model-analysis"),
    *("apache-beam", "numpy"),
)


def lineage(recipe: Mapping[str, Any], model_fingerprint: str = "") -> Lineage:
    """Returns what is known of a run's origin; code and versions are those of this process."""
    return Lineage(
        code_fingerprint=source_fingerprint(*CODE),
        git_commit=git_commit(),
        model_fingerprint=model_fingerprint,
        seeds=_seeds(recipe),
        versions={"python": platform.python_version(), **{name: version(name) for name in _LIBRARIES}},
        platform=platform.platform(),
    )


def _seeds(recipe: Mapping[str, Any]) -> dict[str, int]:
    """All seeds of a recipe, by their keys; a class called seed has none, nor has what is not drawn."""
    others = ["dataset.label_values."]
    if recipe.get("dataset", {}).get("layout") != "shapes":
        others.append("dataset.shapes.")
    return {
        key: value
        for key, value in flattened(recipe)
        if key.endswith(".seed") and isinstance(value, int) and not key.startswith(tuple(others))
    }
