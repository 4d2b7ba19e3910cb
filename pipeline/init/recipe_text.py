"""The recipe as a file that explains itself."""

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from components.image_mask_example_gen.config import RawLabel
from components.image_mask_example_gen.label_mapping import raw_word
from pipeline.init.inspection import Dataset
from pipeline.init.proposals import Proposals
from pipeline.recipe_yaml import write_yaml

_WIDTH: Final = 110
_COMMENT_COLUMN: Final = 32


def recipe_text(
    dataset: Dataset,
    proposals: Proposals,
    checks: Sequence[str],
    *,
    name: str | None,
    model_name: str,
    command: str,
) -> str:
    """Returns the YAML text that ``command`` writes; it has a ``name`` where the file's will not do."""
    classes, images = len(dataset.settings.label_set().names), len(dataset.inspection.entries)
    lines = [*_head(dataset, checks, command), ""]
    if name:
        lines.append(f"name: {write_yaml(name)}")
    lines.append(f"description: {write_yaml(f'{classes} classes in {images} images; a first try')}")
    lines += ["", "dataset:", *_indented(_dataset(dataset, proposals))]
    for block in ("transform", "model", "augmentation", "training", "evaluation"):
        lines += ["", f"{block}:", *_indented(_settings(proposals, block))]
    lines += ["", "serving:", f"  model_name: {write_yaml(model_name)}"]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _head(dataset: Dataset, checks: Sequence[str], command: str) -> Iterator[str]:
    found = dataset.inspection
    yield from _comment(
        f"A first recipe, written by {command}. Every value is a proposal, to be checked and changed; "
        "`python -m pipeline.run_local --recipe` this file runs it as it is."
    )
    yield from _comment(
        f"{len(found.entries)} pairs of image and mask, {found.shown_sizes('sizes in all')}; the headers of "
        f"all and the pixels of {found.labels.masks_read} masks were read."
    )
    for check in checks:
        yield from _comment(f"Look at this: {check}.")


def _dataset(dataset: Dataset, proposals: Proposals) -> Iterator[str]:
    for key in ("layout", "root", "name", "images", "masks"):
        if key in dataset.keys:
            yield f"{key}: {write_yaml(dataset.keys[key])}"
    yield from _classes(dataset)
    if dataset.inspection.orientation.in_doubt:
        yield from _comment(f"Check: {dataset.inspection.orientation.found}.")
    # None are to be drawn where the data declares all.
    if splits := list(_settings(proposals, "dataset.splits", "  ")):
        yield "splits:"
        yield from splits
    yield from _settings(proposals, "dataset")


def _classes(dataset: Dataset) -> Iterator[str]:
    keys, labels = dataset.keys, dataset.labels
    if labels is None and "label_values" not in keys:
        if "classes" in keys:
            yield f"classes: {write_yaml(keys['classes'])}"
        shares = ", ".join(f"{name} {share:.1%}" for name, share in dataset.class_shares().items())
        yield from _comment(f"Shares of the pixels: {shares}")
        return
    if labels and labels.source:
        yield from _comment(f"Classes from {labels.source}.")
    for doubt in labels.doubts if labels else ():
        yield from _comment(f"Check: {doubt}.")
    if "label_values" in keys:
        if "classes" in keys:
            yield f"classes: {write_yaml(keys['classes'])}"
        yield "label_values:"
        for name, raw in keys["label_values"].items():
            seen = _seen(tuple(raw) if isinstance(raw, list) else raw, dataset)
            yield _line(f"  {write_yaml(name)}: {write_yaml(raw)}", seen)
    elif labels:
        of_parts = isinstance(keys.get("masks"), dict)
        order = "the first is what no mask covers" if of_parts else "in the order of the raw values 0, 1, 2 …"
        yield _line("classes:", order)
        for name, raw in labels.values.items():
            yield _line(f"  - {write_yaml(name)}", f"{raw_word(raw)}: {_seen(raw, dataset)}")
    if labels and "ignore_label" in keys:
        reason = f"{_seen(labels.ignored[-1], dataset)}; {labels.reason}"
        yield _line(f"ignore_label: {write_yaml(keys['ignore_label'])}", reason)
    for key in ("merge_classes", "mask_values", "label_tolerance"):
        if key in keys:
            yield _line(f"{key}: {write_yaml(keys[key])}", "see the line with Check above")


def _seen(raw: RawLabel, dataset: Dataset) -> str:
    found = dataset.inspection.labels
    if raw not in found.pixels:
        return f"in none of the {found.masks_read} masks read"
    return f"{found.share(raw):.2%} of the pixels, in {found.masks[raw]} of {found.masks_read} masks"


def _settings(proposals: Proposals, block: str, indent: str = "") -> Iterator[str]:
    """The proposals for the keys of a block itself, not for those of blocks in it."""
    for key, setting in proposals.items():
        within, _, name = key.rpartition(".")
        if within == block:
            yield from (indent + line for line in _comment(setting.note))
            yield _line(f"{indent}{name}: {setting.yaml}", setting.reason)


def _line(text: str, comment: str) -> str:
    """One line with its comment; numbers made of control characters cannot break out of it."""
    return f"{text:{_COMMENT_COLUMN - 3}} # {' '.join(comment.split())}" if comment else text


def _comment(text: str) -> list[str]:
    return textwrap.wrap(
        " ".join(text.split()),
        _WIDTH,
        initial_indent="# ",
        subsequent_indent="# ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _indented(lines: Iterable[str]) -> list[str]:
    return [f"  {line}" if line else "" for line in lines]
