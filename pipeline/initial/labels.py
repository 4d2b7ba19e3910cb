"""What the raw labels may mean: classes with names, and what counts nowhere."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from PIL import ImageColor

from components.image_mask_example_gen.config import RawLabel
from pipeline.initial.class_names import ClassNames
from pipeline.initial.errors import InitError
from pipeline.initial.raw_labels import RawLabels

_IGNORED_BY_CUSTOM: Final[Mapping[RawLabel, str]] = {
    255: "by custom, 255 beside small ids marks what is not labelled",
    65535: "by custom, 65535 beside small ids marks what is not labelled",
    (224, 224, 192): "the colour of PASCAL VOC's borders",
}
_COLOR_NAMES: Final = {ImageColor.getrgb(name): name for name in sorted(ImageColor.colormap)}
_BINARY_NAMES: Final = ("background", "object")
_MOST_PARTED: Final = 0.55
_SELDOM_INSIDE: Final = 0.6
"""Void in CamVid and the border in Oxford-IIIT Pet are parted more often (0.60, 0.82) and inside less often
(0.13, 0.47) than classes; of thin things, the poles, few runs (0.23) part two others."""
_SMALL_IDS: Final = 64
_SHOWN: Final = 12


@dataclass(frozen=True)
class Labels:
    """The recipe's keys that say what masks mean."""

    values: dict[str, RawLabel]
    """Raw label of each class, in the order of their ids."""
    ignored: tuple[RawLabel, ...] = ()
    """Raw labels that count nowhere."""
    reason: str = ""
    """Why those are ignored."""
    doubts: tuple[str, ...] = field(default=())
    """What to look at before the values are believed, a sentence each."""

    def dataset_keys(self) -> dict[str, Any]:
        """Returns the keys of the recipe's ``dataset`` block."""
        keys: dict[str, Any] = {}
        raws = list(self.values.values())
        if raws == list(range(len(raws))):
            keys["classes"] = list(self.values)
        else:
            keys["label_values"] = {name: _plain(raw) for name, raw in self.values.items()}
        if self.ignored:
            # There is one ignore_label; what else counts nowhere has a name that no class has.
            keys["ignore_label"] = _plain(self.ignored[-1])
        if len(self.ignored) > 1:
            keys["classes"] = list(self.values)
            keys["label_values"] = {name: _plain(raw) for name, raw in self.values.items()} | {
                _name_of(raw, "ignored"): _plain(raw) for raw in self.ignored[:-1]
            }
        return keys


def propose_labels(found: RawLabels, given: ClassNames | None) -> Labels:
    """Says which raw labels are classes and which count nowhere.

    Raises:
        InitError: the names given do not fit the labels found.
    """
    if given is None:
        return _without_names(found)
    if given.values is not None:
        return _by_values(found, given.values)
    return _by_order(found, given.names)


def describe(found: RawLabels) -> str:
    """The raw labels with their pixel shares, most first."""
    most = sorted(found.values, key=lambda value: -found.pixels[value])
    shown = ", ".join(f"{word(value)} ({found.share(value):.1%})" for value in most[:_SHOWN])
    return shown + (f" and {len(most) - _SHOWN} more" if len(most) > _SHOWN else "")


def word(raw: RawLabel) -> str:
    """A raw label as YAML has it."""
    return str(_plain(raw))


def _without_names(found: RawLabels) -> Labels:
    ignored = tuple(value for value in found.values if _is_ignored_by_custom(value, found))
    classes = [value for value in found.values if value not in ignored]
    if len(classes) == 2 and not found.in_colors:
        names = dict(zip(_BINARY_NAMES, classes, strict=True))
    else:
        names = {_name_of(value, "class"): value for value in classes}
    reason = "; ".join(_IGNORED_BY_CUSTOM[value] for value in ignored)
    doubts = ["the names are made up: give them with --classes, or write them here"]
    return Labels(names, ignored, reason, doubts=(*doubts, *_doubts(found, ignored)))


def _by_values(found: RawLabels, values: dict[str, RawLabel]) -> Labels:
    if any(isinstance(value, tuple) != found.in_colors for value in values.values()):
        told, held = ("numbers", "colours") if found.in_colors else ("colours", "numbers")
        raise InitError(f"--classes: the file tells {told}, but the masks hold {held}: {describe(found)}")
    if not set(values.values()) & set(found.values):
        raise InitError(
            f"--classes: none of the values told stands in the masks; they hold {describe(found)}"
        )
    rest = tuple(value for value in found.values if value not in values.values())
    return Labels(values, rest, "no class is told to have it" if rest else "")


def _by_order(found: RawLabels, names: tuple[str, ...]) -> Labels:
    values = found.values
    customary = tuple(value for value in values if _is_ignored_by_custom(value, found))
    rest = [value for value in values if value not in customary]
    if not (len(names) == len(rest) and 0 not in rest) and _are_below(rest, len(names)):
        numbered: dict[str, RawLabel] = {name: value for value, name in enumerate(names)}
        unseen = ", ".join(name for name, value in numbered.items() if value not in rest)
        doubts = (
            (f"no mask read holds {unseen}: are names given in the order of the values?",) if unseen else ()
        )
        return Labels(numbered, customary, _reason(customary), doubts=doubts)
    if len(names) == len(values):
        return Labels(dict(zip(names, values, strict=True)), doubts=_order_doubts(found))
    if len(names) == len(rest):
        return Labels(
            dict(zip(names, rest, strict=True)), customary, _reason(customary), doubts=_order_doubts(found)
        )
    if not found.in_colors and len(names) == len(values) - 1:
        # Masks count what is void last, if it is not 255.
        ignored = (values[-1],)
        return Labels(dict(zip(names, values[:-1], strict=True)), ignored, "the one value without a name")
    raise InitError(
        f"--classes gives {len(names)} names, but the masks read hold {len(values)} "
        f"{'colours' if found.in_colors else 'values'}: {describe(found)}. Give a name for each, or a file "
        "whose lines tell name and value"
    )


def _are_below(values: list[RawLabel], size: int) -> bool:
    """Whether each value has its name among ``size`` names in the order of the values."""
    return all(isinstance(value, int) and value < size for value in values)


def _reason(ignored: tuple[RawLabel, ...]) -> str:
    return "; ".join(_IGNORED_BY_CUSTOM[value] for value in ignored)


def _is_ignored_by_custom(value: RawLabel, found: RawLabels) -> bool:
    if value not in _IGNORED_BY_CUSTOM or len(found.values) < 3:
        return False
    if isinstance(value, tuple):
        return True
    ids = [other for other in found.values if isinstance(other, int) and other != value]
    # 0, 1, 2 … with gaps are ids, 0, 128 and 255 shades.
    return max(ids) < max(_SMALL_IDS, 2 * len(ids))


def _order_doubts(found: RawLabels) -> tuple[str, ...]:
    what = "colours, by red, green and blue" if found.in_colors else "values"
    return (f"names were dealt out in the order of the {what}: look at preview.png",)


def _doubts(found: RawLabels, ignored: tuple[RawLabel, ...]) -> Iterator[str]:
    """What may be no class, though nothing says so."""
    classes = [value for value in found.values if value not in ignored]
    if len(classes) < 3:
        return
    if (0, 0, 0) in classes:
        yield "black often means not labelled; if so, move [0, 0, 0] to ignore_label"
    # Colours have no order, and in masks of numbers what is no class comes last.
    shape = found.shapes.get(classes[-1])
    if (
        shape is not None
        and not found.in_colors
        and shape.inside < _SELDOM_INSIDE * shape.pixels
        and shape.partings > _MOST_PARTED * shape.crossings
    ):
        yield (
            f"{word(classes[-1])}, the highest value, lies in thin strips between others: if it means border "
            "or not labelled rather than a class, make it the ignore_label"
        )


def _name_of(raw: RawLabel, start: str) -> str:
    if not isinstance(raw, tuple):
        return f"{start}_{raw}"
    red, green, blue = raw
    return f"{start}_{_COLOR_NAMES.get(raw, f'{red:02x}{green:02x}{blue:02x}')}"


def _plain(raw: RawLabel) -> int | list[int]:
    return list(raw) if isinstance(raw, tuple) else raw
