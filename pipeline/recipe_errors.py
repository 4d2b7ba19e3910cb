"""Explains what is wrong with a recipe: key, value and remedy."""

import difflib
from collections.abc import Iterable, Iterator
from typing import Any, Final, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from pipeline.kubeflow_config import StageName

_LONGEST_VALUE = 60
_REQUIREMENTS = {
    "model_type": "should be a block of keys",
    "dict_type": "should be a block of keys",
    "tuple_type": "should be a list",
    "list_type": "should be a list",
    "float_type": "should be a number, and finite",
    "finite_number": "should be a finite number",
}
"""Where pydantic's own words are those of JSON or Python."""

MOVED: Final = {
    "augmentation.shear": ("augmentation.rotate", "what moves a picture is rotate and scale_crop"),
    "augmentation.translate": ("augmentation.scale_crop", "its crops are placed at random"),
    "augmentation.variants": ("augmentation", "changes are drawn at random, under its other keys"),
    "augmentation.zoom": ("augmentation.scale_crop", "zoom 0.1 is scale_crop [0.9, 1.1]"),
    **{
        f"kubeflow.{where}.beam_options": ("beam", "one engine for all stages, in the recipe's words")
        for where in ("defaults", *(f"stages.{name}" for name in get_args(StageName)))
    },
    "model.average_mirrored": ("model.test_time_augmentation.horizontal_flip", ""),
    "model.average_scales": ("model.test_time_augmentation.scales", ""),
    "training.focal_gamma": ("training.loss.focal.gamma", "a loss has its own parameters"),
    "training.label_smoothing": ("training.loss.cross_entropy.label_smoothing", "focal has one, too"),
    "training.machines": (
        "kubeflow.stages.Trainer.machines",
        "several machines train together on Kubeflow alone, where an operator starts them",
    ),
    "training.monitor": ("training.early_stopping_patience", "epochs are judged by their IoU on val"),
    "training.tversky_alpha": ("training.loss.tversky.alpha", "a loss has its own parameters"),
    "training.tversky_beta": ("training.loss.tversky.beta", "a loss has its own parameters"),
}
"""Keys of earlier recipes, or looked for in the wrong place: each with the one to use, and a remark."""


class RecipeError(Exception):
    """A recipe that cannot be run; each line names a key, its value and what would be right."""

    def __init__(self, problems: Iterable[str]):
        super().__init__("\n".join(problems))


def explain(error: ValidationError, values: Any, model: type[BaseModel]) -> list[str]:
    """Returns one line for each problem that ``model`` found with ``values``."""
    keys = tuple(all_keys(model))
    lines: list[str] = []
    alternatives: dict[str, str] = {}
    for details in error.errors(include_url=False):
        path = _path(details, values)
        if (known := _known_kind(details, path, keys)) is not None:
            lines += known.splitlines()
        else:
            # A key that takes several types has a complaint from each.
            requirement = _REQUIREMENTS.get(details["type"]) or _requirement(details)
            start = f"{path} is {shown(details['input'])}: it"
            alternatives[start] = (
                f"{alternatives[start]}, or {requirement}" if start in alternatives else requirement
            )
    lines += [f"{start} {requirements}" for start, requirements in alternatives.items()]
    return list(dict.fromkeys(lines))


def _requirement(details: ErrorDetails) -> str:
    context = details.get("ctx", {})
    match details["type"]:
        case "string_pattern_mismatch":
            return f"should be a name of letters, digits and _ . - only ({context['pattern']})"
        case "string_too_short":
            return f"should have at least {context['min_length']} characters"
        case "string_too_long":
            return f"should have at most {context['max_length']} characters"
        case "too_short":
            return f"should have at least {context['min_length']} items"
        case "too_long":
            return f"should have at most {context['max_length']} items"
        case _:
            return details["msg"].removeprefix("Input ")


def suggestion(word: str, choices: Iterable[str]) -> str:
    """Returns ``; did you mean …?`` where one of the choices looks like the word, else all the choices."""
    choices = tuple(choices)
    close = difflib.get_close_matches(word, choices, n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else f"; there is {', '.join(choices)}"


def shown(value: Any) -> str:
    """The value much as it stands in YAML, shortened."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = repr(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 1]}…"


def _known_kind(details: ErrorDetails, path: str, keys: tuple[str, ...]) -> str | None:
    value = details["input"]
    match details["type"]:
        case "extra_forbidden":
            return f"unknown key {path} (value {shown(value)}){_successor(path) or _nearest_key(path, keys)}"
        case "missing" if isinstance(number := details["loc"][-1], int):
            whole = path.rpartition(".")[0]
            return f"{whole} is {shown(value)}: item {number + 1} is missing"
        case "missing":
            # No override reaches into an item of a list.
            if any(isinstance(part, int) for part in details["loc"]):
                return f"{path} is missing; add it to the recipe"
            return f"{path} is missing; add it to the recipe or give --set {path}=VALUE"
        case "literal_error":
            choices = [
                choice.strip(" '") for choice in details["ctx"]["expected"].replace(" or ", ",").split(",")
            ]
            return f"{path} is {shown(value)}{suggestion(str(value), choices)}"
        case "value_error":
            message = str(details["ctx"]["error"])
            if isinstance(value, dict):
                return message if path in message else f"{path}: {message}"
            return f"{path} is {shown(value)}: {message}"
        case _:
            return None


def _path(details: ErrorDetails, values: Any) -> str:
    """The dotted key; leaves out what pydantic puts between keys, such as the name of a type."""
    parts = []
    for part in details["loc"]:
        inside = values.get(part) if isinstance(values, dict) else None
        if isinstance(values, list) and isinstance(part, int) and part < len(values):
            inside = values[part]
        elif not (isinstance(values, dict) and part in values) and details["type"] != "missing":
            continue
        parts.append(str(part))
        values = inside
    return ".".join(parts)


def _successor(path: str) -> str:
    if path not in MOVED:
        return ""
    successor, remark = MOVED[path]
    return f"; use {successor}{f' ({remark})' if remark else ''}"


def _nearest_key(path: str, keys: tuple[str, ...]) -> str:
    """Looks for the misspelt key among its neighbours, then for its name in other blocks."""
    block, _, name = path.rpartition(".")
    home = _without_names(block, keys)
    neighbours = [key.rpartition(".")[2] for key in keys if key.rpartition(".")[0] == home]
    prefix = f"{block}." if block else ""
    close = difflib.get_close_matches(name, neighbours, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {prefix}{close[0]}?"
    elsewhere = [key for key in keys if key.rpartition(".")[2] == name]
    if elsewhere:
        return f"; did you mean {elsewhere[0]}?"
    return f"; {block or 'a recipe'} has {', '.join(neighbours)}"


def _without_names(block: str, keys: tuple[str, ...]) -> str:
    """Leaves out of a path what a recipe is free to say: items' numbers and the names of blocks alike."""
    path = ""
    for part in block.split("."):
        inner = f"{path}.{part}" if path else part
        path = inner if inner in keys else path
    return path


def all_keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Yields the dotted paths of all keys, blocks included."""
    for name, field in model.model_fields.items():
        yield prefix + name
        for block in _models_in(field.annotation):
            yield from all_keys(block, f"{prefix}{name}.")


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)
