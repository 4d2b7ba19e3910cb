"""From folders to a recipe, a picture, and words for the terminal."""

import json
import os
import re
import secrets
import shlex
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError

from components.errors import StageError
from components.image_mask_example_gen.config import DatasetConfig
from pipeline.config import load_recipe
from pipeline.initial.class_names import read_class_names
from pipeline.initial.errors import InitError
from pipeline.initial.folders import MASKS, PICTURES, look_into
from pipeline.initial.labels import Labels, describe, propose_labels, word
from pipeline.initial.oddities import find_oddities, shown_sizes
from pipeline.initial.pairing import Pairing, pair
from pipeline.initial.preview import draw_preview
from pipeline.initial.proposals import Proposals, propose
from pipeline.initial.recipe_text import recipe_text
from pipeline.initial.survey import Survey, survey
from pipeline.recipe_errors import RecipeError
from pipeline.terminal import short_path

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_NO_NAME = re.compile(r"[^A-Za-z0-9_.-]+")


@dataclass(frozen=True)
class _Dataset:
    """What is known of the dataset once it has been looked at."""

    keys: dict[str, Any]
    """Of the recipe's ``dataset`` block."""
    settings: DatasetConfig
    labels: Labels | None
    """None where the layout knows what its masks mean."""
    survey: Survey
    notes: tuple[str, ...] = ()


def write_first_recipe(
    *,
    images: Path | None,
    masks: Path | None,
    layout: str | None,
    data: Path | None,
    classes: str | None,
    output: Path,
    preview: Path,
    command: str,
) -> list[str]:
    """Writes a recipe and its preview; either both appear or none.

    Args:
        images: folder of the images; with ``masks``.
        masks: folder of the masks.
        layout: name of a known layout, instead of folders; with ``data``.
        data: its root.
        classes: names, or a file of them, as ``read_class_names`` takes them.
        output: the recipe's file.
        preview: the picture's file.
        command: what is being run, for the recipe's first line.

    Returns:
        What to tell people, line by line.

    Raises:
        InitError: no recipe can be written; one line says why.
    """
    started = time.monotonic()
    if images is not None and masks is not None:
        found = _look_at_folders(images, masks, classes)
    else:
        found = _look_at_layout(cast(str, layout), cast(Path, data), classes)
    proposals = propose(found.survey, found.settings)
    oddities = [*find_oddities(found.survey, found.settings), *found.notes]
    text = recipe_text(
        name=None if _NAME.fullmatch(output.stem) else _name(output.stem),
        model_name=_name(output.stem),
        command=command,
        dataset_keys=found.keys,
        dataset=found.settings,
        labels=found.labels,
        survey=found.survey,
        proposals=proposals,
        oddities=oddities,
    )
    _check_utf8(text)
    picture = draw_preview(found.survey, found.settings)
    partial_recipe, partial_preview = _beside(output, ".yaml"), _beside(preview, ".png")
    try:
        partial_recipe.write_text(text, encoding="utf-8")
        # Few look at it twice: quick to write rather than small.
        picture.save(partial_preview, compress_level=1)
        _check_recipe(partial_recipe)
        partial_preview.replace(preview)
        partial_recipe.replace(output)
    finally:
        partial_recipe.unlink(missing_ok=True)
        partial_preview.unlink(missing_ok=True)
    seconds = time.monotonic() - started
    return list(_report(found, proposals, oddities, output, preview, seconds))


def _look_at_folders(images: Path, masks: Path, classes: str | None) -> _Dataset:
    given = read_class_names(classes) if classes is not None else None
    pairing = pair(look_into(images, PICTURES, "--images"), look_into(masks, MASKS, "--masks"))
    found = survey(pairing.root, pairing.entries, pairing.unpaired)
    labels = propose_labels(found.labels, given)
    keys: dict[str, Any] = pairing.dataset | labels.dataset_keys()
    return _Dataset(keys, _settings(keys), labels, found, tuple(_other_masks(pairing)))


def _other_masks(pairing: Pairing) -> Iterator[str]:
    if pairing.other_masks:
        chosen = pairing.dataset["masks"]
        yield f"images have masks of other kinds, too: {', '.join(pairing.other_masks)}; taken are {chosen}"


def _look_at_layout(layout: str, data: Path, classes: str | None) -> _Dataset:
    keys: dict[str, Any] = {"layout": layout, "root": os.path.abspath(os.path.expanduser(data))}
    if classes is not None:
        keys["classes"] = list(read_class_names(classes).names)
    settings = _settings(keys)
    try:
        settings.check_root()
        scan = settings.source.scan(Path(keys["root"]))
    except (ValueError, StageError) as error:
        raise InitError(str(error).replace("dataset.root", "--data")) from None
    found = survey(Path(keys["root"]), scan.entries, scan.rejected)
    return _Dataset(keys, settings, None, found)


def _check_utf8(text: str) -> None:
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise InitError("a folder's name holds bytes that are not UTF-8, which no recipe can; rename it")


def _settings(keys: Mapping[str, Any]) -> DatasetConfig:
    text = json.dumps(keys, ensure_ascii=False)
    _check_utf8(text)
    try:
        return DatasetConfig.model_validate_json(text)
    except ValidationError as error:
        reason = error.errors(include_url=False)[0]["msg"].removeprefix("Value error, ")
        raise InitError(reason) from None


def _check_recipe(path: Path) -> None:
    """Nobody shall get a recipe that run_local refuses."""
    try:
        load_recipe(str(path))
    except RecipeError as error:
        raise InitError(f"no recipe comes of this: {error}") from None


def _report(
    found: _Dataset, proposals: Proposals, oddities: list[str], output: Path, preview: Path, seconds: float
) -> Iterator[str]:
    seen, labels = found.survey, found.survey.labels
    sizes = shown_sizes(seen.sizes.most_common(3))
    more = f", … {len(seen.sizes)} sizes" if len(seen.sizes) > 3 else ""
    yield f"{len(seen.entries)} pairs of image and mask: {sizes}{more}"
    if found.settings.layout == "folder":
        yield f"  images {found.settings.images}, masks {found.settings.masks}, under {found.settings.root}"
    kind = "colours" if labels.in_colors else "values"
    yield f"  masks hold {len(labels.values)} {kind}, by pixels: {describe(labels)}"
    if found.labels is not None and found.labels.ignored:
        ignored = ", ".join(map(word, found.labels.ignored))
        yield f"  counts nowhere: {ignored} ({found.labels.reason})"
    yield (
        f"  read: {2 * len(seen.images)} headers, the pixels of {labels.masks_read} masks and "
        f"{seen.brightness.images_read} images, in {seconds:.1f} s"
    )
    doubts = found.labels.doubts if found.labels is not None else ()
    yield from (f"Check: {doubt}" for doubt in doubts)
    yield from (f"Look at this: {oddity}" for oddity in oddities)
    yield (
        f"Proposed: input {proposals.width} x {proposals.height}, {proposals.epochs.value} epochs in batches "
        f"of {proposals.batch_size.value}, pushed from a mean IoU of {proposals.min_mean_iou.value} on"
    )
    yield f"Recipe: {short_path(output.absolute())}"
    yield f"Overlays to check by eye: {short_path(preview.absolute())}"
    yield "Next: look at the overlays, then"
    command = (short_path(Path(sys.executable)), "-m", "pipeline.run_local")
    yield f"  {shlex.join([*command, '--recipe', short_path(output.absolute())])}"


def _name(stem: str) -> str:
    return _NO_NAME.sub("-", stem).strip("-._") or "my-data"


def _beside(path: Path, suffix: str) -> Path:
    """A file of our own in the same folder, to be renamed once it is whole."""
    return path.with_name(f"recipe-{secrets.token_hex(8)}{suffix}")
