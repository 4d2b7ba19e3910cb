"""The command's path: files, pairs, label values, proposals, recipe, preview, and what to say of it."""

import json
import os
import re
import secrets
import shlex
import sys
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from components.errors import StageError, undecodable
from components.image_mask_example_gen.config import DatasetConfig
from components.image_mask_example_gen.label_mapping import raw_word
from components.image_mask_example_gen.layouts import DATASETS
from components.image_mask_example_gen.layouts.layout import Options, Scan
from components.image_mask_example_gen.layouts.tfds import Tfds
from components.image_mask_example_gen.plan import split_origins
from components.image_mask_example_gen.splits import Declared, SplitConfig, declare
from components.image_mask_example_gen.suffixes import MASKS, PICTURES
from pipeline.config import load_recipe
from pipeline.init import InitError, already_there
from pipeline.init.classes import (
    describe,
    doubt_folders,
    label_class_masks,
    leave_out_absent,
    propose_labels,
    some_named,
    unite_objects,
)
from pipeline.init.files import absolute, find_files, some_counts, suffix_of
from pipeline.init.foreign_formats import name_foreign_format
from pipeline.init.input_size import ProposedInput, propose_input
from pipeline.init.inspection import Dataset, inspect_pairs
from pipeline.init.known_layouts import Known, has_pictures, own_keys, recognise
from pipeline.init.label_files import read_class_names
from pipeline.init.label_search import name_classes
from pipeline.init.listing import Pairing
from pipeline.init.mask_values import find_mask_values
from pipeline.init.pairing import pair
from pipeline.init.preview import draw_preview
from pipeline.init.proposals import Proposals, propose
from pipeline.init.quality_checks import check_quality
from pipeline.init.recipe_text import recipe_text
from pipeline.init.splits import find_splits, splits_beside
from pipeline.recipe_errors import RecipeError
from pipeline.terminal import short_path

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_NO_NAME = re.compile(r"[^A-Za-z0-9_.-]+")
_SHOWN = 12


def look_at_folders(images: Path, masks: Path, classes: str | None) -> Dataset:
    """Pairs the files of two folders, or of one that was named for both, and says what the masks mean.

    Folders of a known layout are taken as that; ``classes`` are as ``read_class_names`` takes them.

    Raises:
        InitError: nothing can be learnt from them; one line says why.
    """
    if masks.is_file() and (named := name_foreign_format(absolute(masks))):
        raise InitError(named)
    known = recognise(images, masks)
    if known is not None and known.instead_of_pictures:
        try:
            return _look_at_known(known, classes)
        except InitError as error:
            try:
                dataset = _look_at_pictures(images, masks, classes)
            except InitError:
                # What was said of the annotations says more than that there are no pictures of masks.
                raise error from None
            note = f"the folders are those of the layout {known.layout}, but cannot be taken as that: {error}"
            return replace(dataset, notes=(*dataset.notes, note))
    try:
        return _look_at_pictures(images, masks, classes)
    except InitError as error:
        if known is None:
            raise _foreign(images, masks, error) from None
    return _look_at_known(known, classes)


def _look_at_known(known: Known, classes: str | None) -> Dataset:
    dataset = look_at_layout(known.layout, known.root, classes, known.masks)
    return replace(dataset, notes=(*dataset.notes, *known.notes))


def _foreign(images: Path, masks: Path, error: InitError) -> InitError:
    """Says what lies there in place of masks, where that is why there are none."""
    named = name_foreign_format(absolute(masks))
    if named is None:
        return error
    # Beside pictures that could be masks it is no more than a hint.
    return InitError(
        named if not has_pictures(masks) or absolute(images) == absolute(masks) else f"{error}. {named}"
    )


def _look_at_pictures(images: Path, masks: Path, classes: str | None) -> Dataset:
    given = read_class_names(classes) if classes is not None else None
    image_files, mask_files = find_files(images, PICTURES, "--images"), find_files(masks, MASKS, "--masks")
    pairing = pair(image_files, mask_files)
    layout = pairing.layout
    where = find_mask_values(layout, pairing.root, pairing.entries)
    layout.mask_values = where.values
    folders = image_files.path, mask_files.path
    splits = find_splits(pairing.root, folders, pairing.entries, pairing.unpaired)
    config = SplitConfig.model_validate_json(json.dumps(splits.keys))
    declared = _declare(Scan(list(pairing.entries), list(pairing.unpaired)), config, pairing.root)
    found = inspect_pairs(layout, pairing.root, declared.scan.entries, declared.scan.rejected)
    keys: dict[str, Any] = dict(pairing.dataset)
    if isinstance(keys["masks"], dict):
        labels = label_class_masks(found.labels, tuple(keys["masks"]), given)
        keys["classes"] = list(labels.values)
    else:
        labels = name_classes(found, given, folders)
        is_told = labels.source or (given is not None and given.told)
        if is_told and found.all_masks_read:
            labels = leave_out_absent(found.labels, labels)
        labels, merged = unite_objects(found.labels, labels)
        keys |= labels.dataset_keys()
        keys |= {"merge_classes": merged} if merged else {}
    if given is None and pairing.may_be_classes:
        labels = doubt_folders(found.labels, labels, pairing.may_be_classes)
    doubts = (*labels.doubts, *pairing.doubts, *where.doubts, *found.labels.doubts)
    labels = replace(labels, doubts=doubts)
    keys |= found.labels.keys
    keys |= {"mask_values": where.values} if where.values else {}
    keys |= {"splits": splits.keys} if splits.keys else {}
    beside = None if splits.keys else splits_beside(images)
    used = {*labels.files, *(pairing.root / path for path in config.files)}
    used |= {absolute(Path(classes))} if classes is not None else set()
    notes = (*pairing.notes, *_other_files(pairing, used), *splits.notes, *([beside] if beside else []))
    return Dataset(keys, _settings(keys), found, labels, notes, split_origins(declared.origins, config))


def _other_files(pairing: Pairing, used: Collection[Path]) -> Iterator[str]:
    left = (path for path in pairing.other_files if pairing.root / path not in used)
    suffixes = Counter(suffix_of(path) or "without suffix" for path in left)
    if suffixes:
        yield f"{suffixes.total()} other files are not used: {some_counts(suffixes)}"


def look_at_layout(layout: str, data: Path, classes: str | None, masks: str | None = None) -> Dataset:
    """The same for a known layout in the folder ``data``, which knows what its masks mean.

    ``masks`` is ``dataset.masks``, for layouts that have it.
    """
    given = read_class_names(classes) if classes is not None else None
    root = absolute(data)
    try:
        if layout != Tfds.name:
            DATASETS[layout](Options(masks=masks)).check_root(str(root))
        own, notes = own_keys(layout, root, masks, given)
        keys = {"layout": layout, **own}
        named = bool(DATASETS[layout]().classes) or "classes" in keys or "label_values" in keys
        # What the values mean is not known yet, and does not matter here.
        settings = _settings(keys if named else keys | {"classes": ["0", "1"]})
        scan = settings.source.scan(Path(keys["root"]))
    except (ValueError, StageError) as error:
        raise InitError(str(error).replace("dataset.root", "--data")) from None
    root = Path(keys["root"])
    declared = _declare(scan, settings.splits, root)
    found = inspect_pairs(
        settings.source,
        root,
        declared.scan.entries,
        declared.scan.rejected,
        as_colors=settings.reads_colors,
    )
    origins = split_origins(declared.origins, settings.splits)
    if not named:
        labels = propose_labels(found.labels, given)
        keys |= labels.dataset_keys()
        return Dataset(keys, _settings(keys), found, labels, notes, origins)
    dataset = Dataset(keys, settings, found, notes=notes, origins=origins)
    if not any(dataset.class_shares().values()):
        held = describe(found.labels)
        raise InitError(f"the masks are none of {layout}: no class of it stands in them; they hold {held}")
    return dataset if given else _without_absent_classes(dataset)


def _without_absent_classes(dataset: Dataset) -> Dataset:
    """Leaves out what a known set could hold and this folder does not, where every mask was read.

    No model could learn it, and none that lacks it would pass the gate.
    """
    found, names = dataset.inspection, dataset.settings.label_set().names
    present = [name for name, share in dataset.class_shares().items() if share]
    if not found.all_masks_read or not 2 <= len(present) < len(names):
        return dataset
    keys = {**dataset.keys, "classes": present}
    note = f"{len(names) - len(present)} of {len(names)} classes are in no mask, and left out of classes"
    return replace(dataset, keys=keys, settings=_settings(keys), notes=(*dataset.notes, note))


def write_recipe(
    dataset: Dataset, output: Path, preview: Path, command: str, started: float, *, force: bool
) -> list[str]:
    """Writes the first recipe and its preview; either both appear or none.

    Args:
        dataset: what was found.
        output: the recipe's file.
        preview: the picture's file.
        command: what is being run, for the recipe's first line.
        started: when it began, on the monotonic clock.
        force: whether to replace files, which may have come since the command began.

    Returns:
        What to tell people, line by line.

    Raises:
        InitError: no recipe can be written; one line says why.
    """
    chosen = propose_input(dataset)
    proposals = propose(dataset, chosen)
    checks = check_quality(dataset)
    model_name = _NO_NAME.sub("-", output.stem).strip("-._") or "my-data"
    text = recipe_text(
        dataset,
        proposals,
        checks,
        name=None if _NAME.fullmatch(output.stem) else model_name,
        model_name=model_name,
        command=command,
    )
    _check_utf8(text)
    picture = draw_preview(dataset)
    partial_recipe, partial_preview = _beside(output, ".yaml"), _beside(preview, ".png")
    try:
        partial_recipe.write_text(text, encoding="utf-8")
        # Few look at it twice: quick to write rather than small.
        picture.save(partial_preview, compress_level=1)
        # Nobody shall get a recipe that run_local refuses.
        load_recipe(str(partial_recipe))
        if force:
            partial_preview.replace(preview)
            partial_recipe.replace(output)
        else:
            _appear("--preview", partial_preview, preview)
            try:
                _appear("--output", partial_recipe, output)
            except BaseException:
                preview.unlink(missing_ok=True)
                raise
    except RecipeError as error:
        raise InitError(f"no recipe comes of this: {error}") from None
    finally:
        partial_recipe.unlink(missing_ok=True)
        partial_preview.unlink(missing_ok=True)
    run = (short_path(Path(sys.executable)), "-m", "pipeline.run_local")
    return [
        *_found(dataset, time.monotonic() - started),
        *_advice(dataset, chosen, proposals, checks),
        f"Recipe: {short_path(output.absolute())}",
        f"Overlays to check by eye: {short_path(preview.absolute())}",
        "Next: look at the overlays, then",
        f"  {shlex.join([*run, '--recipe', short_path(output.absolute())])}",
    ]


def _found(dataset: Dataset, seconds: float) -> Iterator[str]:
    found, labels = dataset.inspection, dataset.inspection.labels
    yield f"{len(found.entries)} pairs of image and mask: {found.shown_sizes()}"
    settings = dataset.settings
    if settings.layout == "folder":
        yield f"  images {settings.images}, masks {settings.masks}, under {settings.root}"
    else:
        yield f"  a set in the layout {settings.layout}, under {settings.root}"
    if dataset.origins:
        yield "  divided as the data says:"
        for split, entries in dataset.division.items():
            pairs = "1 pair" if len(entries) == 1 else f"{len(entries)} pairs"
            yield f"    {split}: {pairs}, {dataset.origins[split]}"
    kind = "colours" if labels.in_colors else "values"
    yield f"  masks hold {len(labels.values)} {kind}, by pixels: {describe(labels)}"
    if dataset.labels is not None and dataset.labels.source:
        yield f"  classes from {dataset.labels.source}: {some_named(dataset.labels.values, _SHOWN)}"
    if dataset.labels is not None and dataset.labels.ignored:
        ignored = ", ".join(map(raw_word, dataset.labels.ignored))
        yield f"  counts nowhere: {ignored} ({dataset.labels.reason})"
    yield (
        f"  read: {2 * len(found.images)} headers, the pixels of {labels.masks_read} masks and "
        f"{found.brightness.images_read} images, in {seconds:.1f} s"
    )


def _advice(
    dataset: Dataset, chosen: ProposedInput, proposals: Proposals, checks: Sequence[str]
) -> Iterator[str]:
    if dataset.labels is not None:
        yield from (f"Check: {doubt}" for doubt in dataset.labels.doubts)
    if dataset.inspection.orientation.in_doubt:
        yield f"Check: {dataset.inspection.orientation.found}"
    frames = dataset.inspection.frames
    if frames.group is not None:
        doubt = "Check: " if frames.in_doubt else ""
        yield f"{doubt}{frames.why}; {frames.kept} stay in one split (dataset.splits.group)"
    yield from (f"Look at this: {check}" for check in checks)
    value = {key.partition(".")[2]: setting.yaml for key, setting in proposals.items()}
    if chosen.said:
        yield f"{chosen.said}."
    what = "windows of" if chosen.is_native else "input"
    yield (
        f"Proposed: {what} {value['width']} x {value['height']}, {value['epochs']} epochs in batches of "
        f"{value['batch_size']}, pushed from a mean IoU of {value['min_mean_iou']} on, with no class at 0"
    )


def _declare(scan: Scan, config: SplitConfig, root: Path) -> Declared:
    try:
        return declare(scan, config, root)
    except StageError as error:
        raise InitError(f"splits that the data declares: {error}") from None


def _settings(keys: Mapping[str, Any]) -> DatasetConfig:
    text = json.dumps(keys, ensure_ascii=False)
    _check_utf8(text)
    try:
        return DatasetConfig.model_validate_json(text)
    except ValidationError as error:
        reason = error.errors(include_url=False)[0]["msg"].removeprefix("Value error, ")
        raise InitError(reason) from None


def _check_utf8(text: str) -> None:
    if undecodable(text):
        raise InitError("a folder's name holds bytes that are not UTF-8, which no recipe can; rename it")


def _appear(option: str, partial: Path, path: Path) -> None:
    """Gives a whole file its name, which nothing may have: a recipe may be hours of somebody's work."""
    try:
        try:
            os.link(partial, path)
        except FileExistsError:
            raise
        except OSError:
            # Some file systems, as FAT, have no second names.
            path.touch(exist_ok=False)
            partial.replace(path)
    except FileExistsError:
        raise already_there(option, path) from None


def _beside(path: Path, suffix: str) -> Path:
    """A file of our own in the same folder, to be renamed once it is whole."""
    return path.with_name(f"recipe-{secrets.token_hex(8)}{suffix}")
