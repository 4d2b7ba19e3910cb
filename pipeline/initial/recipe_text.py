"""The recipe as a file that explains itself."""

import json
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from components.image_mask_example_gen.config import DatasetConfig, RawLabel
from pipeline.initial.labels import Labels, word
from pipeline.initial.oddities import shown_sizes
from pipeline.initial.proposals import Proposals, class_shares
from pipeline.initial.survey import Survey
from pipeline.recipe_yaml import load_yaml

_WIDTH: Final = 110
_COMMENT_COLUMN: Final = 32


def recipe_text(
    *,
    name: str | None,
    model_name: str,
    command: str,
    dataset_keys: Mapping[str, Any],
    dataset: DatasetConfig,
    labels: Labels | None,
    survey: Survey,
    proposals: Proposals,
    oddities: Sequence[str],
) -> str:
    """Returns the YAML text.

    Args:
        name: the recipe's name where the file's will not do.
        model_name: under which the model will be served.
        command: what wrote this.
        dataset_keys: the keys of the ``dataset`` block, but for ``splits`` and what is proposed.
        dataset: the same as settings.
        labels: what the raw labels mean; None where the layout knows it.
        survey: what was found.
        proposals: all other settings.
        oddities: what deserves a look.
    """
    blocks = [
        _head(command, survey, oddities),
        [f"name: {scalar(name)}"] if name else [],
        [f"description: {scalar(_description(survey, dataset))}"],
        [""],
        ["dataset:", *_indented(_dataset(dataset_keys, dataset, labels, survey, proposals))],
        [""],
        ["transform:", *_indented(_transform(proposals))],
        [""],
        ["model:", *_indented(_model(proposals))],
        [""],
        ["augmentation:", *_indented(_augmentation(proposals))],
        [""],
        ["training:", *_indented(_training(proposals))],
        [""],
        ["evaluation:", *_indented(_evaluation(proposals))],
        [""],
        ["serving:", f"  model_name: {scalar(model_name)}"],
    ]
    return "\n".join(line.rstrip() for block in blocks for line in block) + "\n"


def scalar(value: Any) -> str:
    """Writes a value as YAML 1.2 on one line."""
    if isinstance(value, str):
        plain = re.fullmatch(r"[A-Za-z_/][\w./ -]*", value, re.ASCII) and value == value.strip()
        if plain and load_yaml(value) == value:
            return value
        quoted = "'" + value.replace("'", "''") + "'"
        # What cannot be printed needs JSON's escapes, which are YAML's, too.
        return quoted if value.isprintable() else json.dumps(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{scalar(key)}: {scalar(item)}" for key, item in value.items()) + "}"
    if isinstance(value, Sequence):
        return "[" + ", ".join(map(scalar, value)) + "]"
    return json.dumps(value)


def _head(command: str, survey: Survey, oddities: Sequence[str]) -> Iterator[str]:
    sizes = survey.sizes.most_common(3)
    more = f", … {len(survey.sizes)} sizes in all" if len(survey.sizes) > len(sizes) else ""
    masks = survey.labels.masks_read
    yield from _comment(
        f"A first recipe, written by {command}. Every value is a proposal, to be checked and changed; "
        "`python -m pipeline.run_local --recipe` this file runs it as it is."
    )
    yield from _comment(
        f"{len(survey.entries)} pairs of image and mask, {shown_sizes(sizes)}{more}; the headers of all and "
        f"the pixels of {masks} masks were read."
    )
    for oddity in oddities:
        yield from _comment(f"Look at this: {oddity}.")
    yield ""


def _description(survey: Survey, dataset: DatasetConfig) -> str:
    return f"{len(dataset.label_set().names)} classes in {len(survey.entries)} images; a first try"


def _dataset(
    keys: Mapping[str, Any],
    dataset: DatasetConfig,
    labels: Labels | None,
    survey: Survey,
    proposals: Proposals,
) -> Iterator[str]:
    for key in ("layout", "root", "images", "masks"):
        if key in keys:
            yield f"{key}: {scalar(keys[key])}"
    yield from _classes(keys, dataset, labels, survey)
    official = any(entry.official_split for entry in survey.entries)
    group = proposals.group
    yield "splits:"
    yield _line("  val: 0.15", "chooses the epoch that is exported")
    if not official:
        yield _line("  test: 0.15", "only the evaluation sees it")
    if group is not None:
        yield f"  # {group.reason}."
        yield f"  group: {scalar(group.value)}"
    if proposals.max_rejected_fraction is not None:
        allowed = proposals.max_rejected_fraction
        yield _line(f"max_rejected_fraction: {allowed.value:g}", allowed.reason)


def _classes(
    keys: Mapping[str, Any], dataset: DatasetConfig, labels: Labels | None, survey: Survey
) -> Iterator[str]:
    names, _ = dataset.raw_labels()
    of_name = {name: raw for raw, name in names.items()}
    if labels is None:
        if "classes" in keys:
            yield f"classes: {scalar(keys['classes'])}"
        shares = class_shares(survey, dataset)
        yield from _comment(
            "Shares of the pixels: " + ", ".join(f"{name} {share:.1%}" for name, share in shares.items())
        )
        return
    for doubt in labels.doubts:
        yield from _comment(f"Check: {doubt}.")
    if "label_values" in keys:
        if "classes" in keys:
            yield f"classes: {scalar(keys['classes'])}"
        yield "label_values:"
        for name, raw in keys["label_values"].items():
            shown = _seen(tuple(raw) if isinstance(raw, list) else raw, survey)
            yield _line(f"  {scalar(name)}: {scalar(raw)}", shown)
    else:
        yield _line("classes:", "in the order of the raw values 0, 1, 2 …")
        for name in keys["classes"]:
            yield _line(f"  - {scalar(name)}", f"{word(of_name[name])}: {_seen(of_name[name], survey)}")
    if "ignore_label" in keys:
        raw = labels.ignored[-1]
        yield _line(f"ignore_label: {scalar(keys['ignore_label'])}", f"{_seen(raw, survey)}; {labels.reason}")


def _seen(raw: RawLabel, survey: Survey) -> str:
    found = survey.labels
    if raw not in found.pixels:
        return f"in none of the {found.masks_read} masks read"
    return f"{found.share(raw):.2%} of the pixels, in {found.masks[raw]} of {found.masks_read} masks"


def _transform(proposals: Proposals) -> Iterator[str]:
    yield from _comment(proposals.size_reason[0].upper() + proposals.size_reason[1:] + " of the network.")
    yield f"height: {proposals.height}"
    yield f"width: {proposals.width}"
    yield _line(f"channels: {proposals.channels.value}", proposals.channels.reason)
    yield _line(f"resize: {proposals.resize.value}", proposals.resize.reason)
    yield _line(f"normalization: {proposals.normalization.value}", proposals.normalization.reason)


def _model(proposals: Proposals) -> Iterator[str]:
    filters = scalar(list(proposals.filters))
    yield _line(f"filters: {filters}", "a U-Net from scratch; the full size costs most and needs little")
    yield "normalization: batch"
    yield "upsampling: bilinear"
    yield "head_convolution: false"


def _augmentation(proposals: Proposals) -> Iterator[str]:
    yield _line("horizontal_flip: true", "false where left and right differ, as with letters")
    yield _line("scale_crop: [0.8, 1.6]", "things nearer and farther than they were taken")
    yield "brightness: 0.12"
    yield "contrast: 0.2"
    if proposals.channels.value == 3:
        yield "saturation: 0.2"


def _training(proposals: Proposals) -> Iterator[str]:
    yield _line(f"epochs: {proposals.epochs.value}", proposals.epochs.reason)
    yield _line(f"batch_size: {proposals.batch_size.value}", proposals.batch_size.reason)
    yield "optimizer: adamw"
    yield "learning_rate: 1e-3"
    yield "weight_decay: 1e-2"
    yield _line("schedule: cosine", "falls to 0 by the last epoch")
    yield "gradient_clip_norm: 5.0"
    yield _line("loss: {cross_entropy: 1, dice: 1}", "dice keeps small classes in sight")
    yield _line("early_stopping_patience: null", "all epochs are trained, the best one on val is exported")


def _evaluation(proposals: Proposals) -> Iterator[str]:
    yield _line(f"min_mean_iou: {proposals.min_mean_iou.value}", proposals.min_mean_iou.reason)
    if proposals.slices:
        yield _line(f"slices: {scalar(list(proposals.slices))}", "the metrics again for each of its values")


def _line(text: str, comment: str) -> str:
    """One line with its comment; numbers made of control characters cannot break out of it."""
    return f"{text:{_COMMENT_COLUMN - 3}} # {' '.join(comment.split())}"


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
