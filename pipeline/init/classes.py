"""Which raw labels are classes, with what names, and which count nowhere: as told, or proposed."""

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from PIL import ImageColor

from components.image_mask_example_gen.config import RawLabel
from components.image_mask_example_gen.label_mapping import raw_word
from components.image_mask_example_gen.mask import Palette
from pipeline.init import InitError
from pipeline.init.files import some
from pipeline.init.label_files import ClassNames
from pipeline.init.label_values import RawLabels
from pipeline.init.voids import (
    BY_CUSTOM,
    doubts,
    is_background,
    is_void_by_custom,
    is_void_by_name,
    is_void_or_background,
    looks_void,
)
from pipeline.recipe_yaml import write_yaml

_COLOR_NAMES: Final = {ImageColor.getrgb(name): name for name in sorted(ImageColor.colormap)}
_BINARY_NAMES: Final = ("background", "object")
_BACKGROUND: Final = _BINARY_NAMES[0]
_BACKGROUND_SHARE: Final = 0.25
"""What no object covers is most of a picture; what is not labelled about a tenth in ADE20K and Cityscapes."""
_ADE20K: Final = 150
"""Its classes, the first of which is ``wall``; numbered from 1."""
_MOST_COUNTS: Final = 4
"""From so many different numbers of values in a mask on, values that have no gap number objects."""
_FEWEST_COUNTS: Final = 3
_FEWEST_MASKS: Final = 10
_MOST_UNLIKE: Final = 3.0
_TOUCHING: Final = 0.01
"""Where numbers are fewer, those of objects are about as large as each other in their masks, and next to none
touches another. Classes that come only with others, as a tumour with its organ, do."""
_SHOWN: Final = 12
_SPREAD: Final = 20
"""From this factor on, values are others spread over the grays that people can see."""
_FEWEST_APART: Final = 2
_AS_LARGE: Final = 0.25
"""What is not labelled lies in narrow borders; from this part of the objects' pixels on it looks like one."""


@dataclass(frozen=True)
class Labels:
    """The recipe's keys that say what masks mean."""

    values: dict[str, RawLabel]
    """Raw label of each class, in the order of their ids."""
    ignored: tuple[RawLabel, ...] = ()
    """Raw labels that count nowhere."""
    reason: str = ""
    """Why those are ignored."""
    doubts: tuple[str, ...] = ()
    """What to look at before the values are believed, a sentence each."""
    source: str = ""
    """The file that tells the names, for people."""
    files: frozenset[Path] = frozenset()
    """That file, and others that say the same."""
    left_out: Mapping[str, RawLabel] = field(default_factory=dict)
    """Classes that the file tells and no mask holds: none of the recipe's."""

    def dataset_keys(self) -> dict[str, Any]:
        """Returns the keys of the recipe's ``dataset`` block."""
        keys: dict[str, Any] = {}
        counted = list(self.values.values()) == list(range(len(self.values)))
        # There is one ignore_label; what else counts nowhere has a name that no class has.
        others = {_name_of(raw, "ignored"): raw for raw in self.ignored[:-1]} | dict(self.left_out)
        if counted or others:
            keys["classes"] = list(self.values)
        if not counted or others:
            keys["label_values"] = {name: _plain(raw) for name, raw in {**self.values, **others}.items()}
        if self.ignored:
            keys["ignore_label"] = _plain(self.ignored[-1])
        return keys


def propose_labels(found: RawLabels, given: ClassNames | None, palette: Palette | None = None) -> Labels:
    """Says which raw labels are classes and which count nowhere; ``palette`` is the masks' own.

    Raises:
        InitError: the names given do not fit the labels found.
    """
    if given is None:
        labels = _without_names(found)
    elif given.told:
        labels = _as_told(found, given, palette or {})
    else:
        labels = _by_order(found, given.names)
    labels = _without_voids(found, labels)
    more = [*_instances(found), *_two_scales(found), *doubts(found, labels.values)]
    return replace(labels, doubts=(*labels.doubts, *more))


def some_named(values: Mapping[str, RawLabel], shown: int) -> str:
    """The first few raw labels and their names."""
    named = [f"{raw_word(raw)} {name}" for name, raw in values.items()]
    return some(named, shown, counted=True)


def leave_out_absent(found: RawLabels, labels: Labels) -> Labels:
    """Leaves out the classes that a label file tells and no mask holds, where every mask was read.

    No model could learn them, and the gate refuses what it cannot measure.
    """
    present = {name: raw for name, raw in labels.values.items() if raw in found.pixels}
    absent = {name: raw for name, raw in labels.values.items() if name not in present}
    if not absent or len(present) < 2:
        return labels
    note = f"{len(absent)} of {len(labels.values)} classes are in no mask, and left out: {', '.join(absent)}"
    return replace(labels, values=present, left_out=absent, doubts=(*labels.doubts, note))


def as_meant(given: ClassNames, found: RawLabels) -> ClassNames:
    """Takes numbers at the ends of names for parts of these where they are not the values of the masks.

    They are where the masks hold them all, or most of what the masks hold beside 0 and void is among them.
    """
    if not given.lines or given.values is None or found.in_colors:
        return given
    values, held = set(given.values.values()), set(found.values)
    others = held - {0, *_customary(found)}
    fit = values <= held or (values & held and 2 * len(others - values) < max(len(others), 1))
    return given if fit else ClassNames(given.lines)


def doubt_folders(found: RawLabels, labels: Labels, patterns: Mapping[str, str]) -> Labels:
    """Asks whether folders are classes, where the masks in all of them hold nothing and the same one value.

    ``patterns`` has what finds the masks of each folder.
    """
    if len(found.values) != len(_BINARY_NAMES) or found.values[0] not in (0, (0, 0, 0)):
        return labels
    nothing, thing = map(raw_word, found.values)
    doubt = (
        f"the masks lie in folders, {some(list(patterns))}, and hold {nothing} and {thing} alike: if these "
        f"are classes, write {class_keys(patterns)} in place of dataset.masks and label_values"
    )
    return replace(labels, doubts=(*labels.doubts, doubt))


def class_keys(patterns: Mapping[str, str]) -> str:
    """The recipe's keys for a mask file of each class, as they are written there."""
    classes = [_name_of_rest(patterns), *patterns]
    return f"masks: {write_yaml(patterns)} and classes: {write_yaml(classes)}"


def _name_of_rest(names: Container[str]) -> str:
    """A name for the pixels in none of the masks."""
    return "rest" if _BACKGROUND in names else _BACKGROUND


def label_class_masks(found: RawLabels, names: tuple[str, ...], given: ClassNames | None) -> Labels:
    """Says which classes masks hold that are merged of a file for each.

    Args:
        found: what the merged masks hold: 0 where none of the files has anything, else 1 for the first class.
        names: as the files' names or folders tell them.
        given: what the command was given as classes.

    Raises:
        InitError: the names given are others.
    """
    values: dict[str, RawLabel] = {name: value for value, name in enumerate(names, start=1)}
    rest = [name for name in given.names if name not in names] if given else []
    if given and (len(rest) > 1 or len(given.names) - len(rest) < len(names)):
        raise InitError(
            f"--classes: the masks' names tell the classes, {', '.join(names)}; give these in the order you "
            "want, and one more for the pixels in none of them"
        )
    if not rest and 0 in found.pixels:
        rest = [_name_of_rest(names)]
    of_rest: dict[str, RawLabel] = dict.fromkeys(rest, 0)
    values = of_rest | values
    if given and all(name in given.names for name in values):
        values = {name: values[name] for name in given.names}
    told = "the names of the classes are those of the masks' files or folders"
    return Labels(values, doubts=() if given else (told,))


def describe(found: RawLabels) -> str:
    """The raw labels with their pixel shares, most first."""
    most = sorted(found.values, key=lambda value: -found.pixels[value])
    return some([f"{raw_word(value)} ({found.share(value):.1%})" for value in most], _SHOWN, counted=True)


def unite_objects(found: RawLabels, labels: Labels) -> tuple[Labels, dict[str, str]]:
    """Takes 255 for the object where it stands in masks of its own: one half is in 0 and 1, one in 0 and 255.

    Returns:
        The labels, and ``dataset.merge_classes``.
    """
    objects = set(labels.values.values()) - {0}
    void = next((value for value in labels.ignored if value in objects.union((255, 65_535))), None)
    if found.in_colors or void is None:
        return labels, {}
    with_void = [values for _, values in found.contents if void in values]
    with_objects = [values for _, values in found.contents if objects & values]
    if (
        len(with_void) < _FEWEST_APART
        or not with_objects
        or any(objects & values for values in with_void)
        or found.share(void) < _AS_LARGE * sum(map(found.share, objects))
    ):
        return labels, {}
    shown = some(map(raw_word, sorted(objects, key=str)), _SHOWN)
    apart = (
        f"{raw_word(void)} never stands in one mask with {shown}, and fills large areas "
        f"({found.share(void):.1%} of the pixels, in {len(with_void)} masks)"
    )
    if len(labels.values) != 2:
        doubt = f"{apart}: is it a class, rather than not labelled?"
        return replace(labels, doubts=(*labels.doubts, doubt)), {}
    [name] = [name for name, value in labels.values.items() if value in objects]
    other = f"{name}_{void}"
    doubt = f"{apart}: it was taken for {name}, too; if it means not labelled, make it the ignore_label"
    united = replace(
        labels,
        values=labels.values | {other: void},
        ignored=tuple(value for value in labels.ignored if value != void),
        doubts=(*labels.doubts, doubt),
    )
    return united, {other: name}


def _without_names(found: RawLabels) -> Labels:
    ignored = _customary(found)
    classes = [value for value in found.values if value not in ignored]
    if len(classes) == 2 and all(_is_gray(value) for value in classes):
        names = dict(zip(_BINARY_NAMES, classes, strict=True))
    else:
        names = {_name_of(value, "class"): value for value in classes}
    made_up = "the names are made up: give them with --classes, or write them here"
    return Labels(names, ignored, _reason(ignored), doubts=(made_up,))


def _as_told(found: RawLabels, given: ClassNames, palette: Palette) -> Labels:
    values = _raws_told(found, given, palette)
    told = {raw for raw in values.values() if raw in found.pixels}
    names_told = [name for name, raw in values.items() if raw in told]
    questions = []
    zero = found.values[0]
    is_free = zero in (0, (0, 0, 0)) and zero not in values.values() and not any(map(is_background, values))
    if is_free and (given.zero_is_background or found.share(zero) >= _BACKGROUND_SHARE):
        values = {_BACKGROUND: zero, **values}
        if not given.zero_is_background:
            questions.append(_taken_as_background(zero, found))
    if len(told) < 2 and not (told and values.get(_BACKGROUND) == zero and zero not in told):
        stands = (
            f"only {names_told[0]} of the classes told stands" if told else "none of the classes told stands"
        )
        raise InitError(
            f"{stands} in the masks; they hold {describe(found)}. Is it the file of other masks, or are "
            "these masks of single objects? PASCAL VOC's and CVAT's classes are in SegmentationClass"
        )
    rest = tuple(value for value in found.values if value not in values.values())
    customary = set(_customary(found))
    unnamed = [value for value in rest if value not in customary]
    if unnamed:
        share = sum(map(found.share, unnamed))
        questions.append(
            f"no class is told for {some(map(raw_word, unnamed), _SHOWN, counted=True)}: {share:.1%} of the "
            "pixels count nowhere"
        )
    reasons = [_reason(tuple(value for value in rest if value in customary))]
    reasons += ["no class is told to have it"] if unnamed else []
    return Labels(values, rest, "; ".join(filter(None, reasons)), tuple(questions))


def _raws_told(found: RawLabels, given: ClassNames, palette: Palette) -> dict[str, RawLabel]:
    """The raw label of each name, in the way in which the masks hold them."""
    if found.in_colors:
        if given.colors is None and given.values is not None and all(map(_is_gray, found.values)):
            # Masks that show grays are read as colours where their palettes differ.
            numbers = [(name, value) for name, value in given.values.items() if isinstance(value, int)]
            return {name: (value, value, value) for name, value in numbers}
        if given.colors is None:
            raise InitError(
                f"the file tells numbers, but the masks hold colours: {describe(found)}. Give names with "
                "their colours, such as road,128,64,128 to a line"
            )
        return dict(given.colors)
    if given.values is not None:
        return dict(given.values)
    # Most entries of a palette are never used, and may repeat a colour.
    ordered = sorted(palette, key=lambda index: (index not in found.pixels, index), reverse=True)
    index_of = {palette[index]: index for index in ordered}
    colors = given.colors or {}
    values: dict[str, RawLabel] = {
        name: index_of[color] for name, color in colors.items() if color in index_of
    }
    if not values:
        shown = ", whose palette shows other colours" if palette else ""
        raise InitError(
            f"the file tells colours, but the masks hold numbers{shown}: {describe(found)}. Give names with "
            "their values, such as 1 road to a line"
        )
    return values


def _by_order(found: RawLabels, names: tuple[str, ...]) -> Labels:
    values, count = found.values, len(names)
    customary = _customary(found)
    rest = [value for value in values if value not in customary]
    top = rest[-1]
    if not found.in_colors and isinstance(top, int):
        is_ade20k = count == _ADE20K and names[0] == "wall"
        if is_ade20k and not customary and top <= count:
            labels = (
                Labels({}, (0,), "the names are ADE20K's, which count from 1") if 0 in rest else Labels({})
            )
            return _numbered(found, names, 1, labels)
        if top < count or (top == count and 0 not in rest):
            return _numbered(found, names, int(top == count), Labels({}, customary, _reason(customary)))
        if top == count and not is_void_or_background(names[0]):
            every: list[RawLabel] = list(range(count + 1))
            return _one_without_a_name(found, names, every, customary)
    for named, ignored in ((values, ()), (rest, customary)):
        if count == len(named):
            what = "colours, by red, green and blue" if found.in_colors else "values"
            doubt = f"names were dealt out in the order of the {what}: look at preview.png"
            return Labels(dict(zip(names, named, strict=True)), ignored, _reason(ignored), (doubt,))
    if not found.in_colors and count == len(rest) - 1:
        return _one_without_a_name(found, names, rest, customary)
    raise InitError(
        f"{count} names, but the masks read hold {len(values)} {'colours' if found.in_colors else 'values'}: "
        f"{describe(found)}. Give a name for each, or a file whose lines tell name and value"
    )


def _numbered(found: RawLabels, names: tuple[str, ...], start: int, labels: Labels) -> Labels:
    numbered: dict[str, RawLabel] = {name: value for value, name in enumerate(names, start)}
    questions = []
    unseen = [name for name, value in numbered.items() if value not in found.pixels]
    if unseen:
        questions.append(
            f"no mask read holds {', '.join(unseen)}: are names given in the order of the values?"
        )
    if start == 0 and found.share(0) < _BACKGROUND_SHARE and not is_void_or_background(names[0]):
        why = ", which lies in thin strips between all others as if not labelled" * looks_void(0, found)
        questions.append(
            f"names were counted from 0, so that {names[0]} is 0{why}: if they count from 1, give them "
            "with their values, such as 1 road to a line"
        )
    return replace(labels, values=numbered, doubts=tuple(questions))


def _one_without_a_name(
    found: RawLabels, names: tuple[str, ...], values: list[RawLabel], customary: tuple[RawLabel, ...]
) -> Labels:
    """One name fewer than values: the first is no object, as in ADE20K, or the last is void, as in CamVid."""
    first, last = values[0], values[-1]
    last_is_void = looks_void(last, found) and not looks_void(first, found)
    if is_void_or_background(names[0]) or last_is_void:
        given: dict[str, RawLabel] = dict(zip(names, values, strict=False))
        ignored, why = (last, *customary), "the one value without a name"
        question = f"{raw_word(last)} has no name: taken as not labelled"
    else:
        given, ignored, why = dict(zip(names, values[1:], strict=True)), (first, *customary), "not labelled"
        question = f"{raw_word(first)} has no name: taken as not labelled"
        if found.share(first) >= _BACKGROUND_SHARE and not looks_void(first, found):
            given, ignored, why = {_BACKGROUND: first, **given}, customary, ""
            question = _taken_as_background(first, found)
    shown = some_named(given, _SHOWN)
    question += (
        f"; of {len(values)} values {len(names)} have names, dealt out as {shown}: look at preview.png"
    )
    reason = "; ".join(filter(None, (why, _reason(customary))))
    return Labels(given, ignored, reason, (question,))


def _taken_as_background(value: RawLabel, found: RawLabels) -> str:
    return (
        f"{raw_word(value)} ({found.share(value):.1%}) has no name and was taken as background; if it means "
        "not labelled, make it the ignore_label"
    )


def _without_voids(found: RawLabels, labels: Labels) -> Labels:
    """Takes from the classes those whose names say that they are none."""
    voids = {name: raw for name, raw in labels.values.items() if is_void_by_name(name, raw, found)}
    kept = {name: raw for name, raw in labels.values.items() if name not in voids}
    if not voids or len(kept) < 2:
        return labels
    reason = f"by {'its name' if len(voids) == 1 else 'their names'}, {', '.join(voids)}"
    reasons = "; ".join(filter(None, (labels.reason, reason)))
    return replace(labels, values=kept, ignored=(*labels.ignored, *voids.values()), reason=reasons)


def _instances(found: RawLabels) -> Iterator[str]:
    """Where masks number single objects, each has 1, 2, 3 … up to its own last one."""
    customary = _customary(found)
    counts = set()
    for _, values in found.contents:
        objects = sorted(
            value for value in values if isinstance(value, int) and value and value not in customary
        )
        if found.in_colors or objects != list(range(1, len(objects) + 1)):
            return
        counts.add(len(objects))
    if len(counts) >= _MOST_COUNTS or (
        len(counts - {0}) >= _FEWEST_COUNTS and _are_alike(found, max(counts))
    ):
        yield (
            f"in every mask the values run from 1 to a last one without a gap, up to {max(counts)}: do they "
            "number single objects rather than classes?"
        )


def _are_alike(found: RawLabels, last: int) -> bool:
    """Whether the values from 1 to the last are of things of about one size that lie apart."""
    objects = range(1, last + 1)
    sizes = [found.pixels[value] / found.masks[value] for value in objects]
    outlines = [found.shapes[value].outline for value in objects if value in found.shapes]
    sides = sum(outline.total() for outline in outlines)
    touching = sum(outline[value] for outline in outlines for value in objects)
    are_many = len(found.contents) >= _FEWEST_MASKS
    return are_many and max(sizes) <= _MOST_UNLIKE * min(sizes) and touching <= _TOUCHING * sides


def _two_scales(found: RawLabels) -> Iterator[str]:
    """Where some masks hold 0, 1, 2 and the others 0, 127, 254: the same classes, spread over the grays."""
    parts: list[set[int]] = []
    for _, values in found.contents:
        objects = {value for value in values if isinstance(value, int) and value}
        apart = [part for part in parts if part.isdisjoint(objects)]
        joined = objects.union(*(part for part in parts if not part.isdisjoint(objects)))
        parts = [*apart, joined] if joined else apart
    if found.in_colors or len(parts) != 2 or len(parts[0]) != len(parts[1]):
        return
    small, large = sorted(map(sorted, parts))
    factors = [high / low for low, high in zip(small, large, strict=True)]
    # Of one value each, 255 is looked at by itself.
    if min(factors) < _SPREAD or max(factors) > 1.05 * min(factors) or (len(large) == 1 and large[0] == 255):
        return
    one, other = (some(map(raw_word, part), _SHOWN) for part in (small, large))
    yield (
        f"{one} never stand in one mask with {other}, which are about {factors[0]:.0f} times as large: are "
        "these the same classes, written in two ways? Then unite them in dataset.merge_classes"
    )


def _customary(found: RawLabels) -> tuple[RawLabel, ...]:
    return tuple(value for value in found.values if is_void_by_custom(value, found))


def _reason(ignored: tuple[RawLabel, ...]) -> str:
    return "; ".join(BY_CUSTOM[value] for value in ignored)


def _is_gray(raw: RawLabel) -> bool:
    return isinstance(raw, int) or len(set(raw)) == 1


def _name_of(raw: RawLabel, start: str) -> str:
    if not isinstance(raw, tuple):
        return f"{start}_{raw}"
    red, green, blue = raw
    return f"{start}_{_COLOR_NAMES.get(raw, f'{red:02x}{green:02x}{blue:02x}')}"


def _plain(raw: RawLabel) -> int | list[int]:
    return list(raw) if isinstance(raw, tuple) else raw
