"""The recipe's ``dataset`` part: where images and masks lie and what the masks mean."""

from collections import Counter
from itertools import combinations
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import AfterValidator, Field, Strict, field_validator, model_validator

from components.dataset.labels import MAX_CLASSES, LabelSet
from components.image_mask_example_gen.layouts import DATASETS
from components.image_mask_example_gen.layouts.file_pattern import FilePattern
from components.image_mask_example_gen.layouts.folder import Folder
from components.image_mask_example_gen.layouts.layout import Layout, MaskValues, Options, RawClass
from components.image_mask_example_gen.layouts.shapes import Shapes
from components.image_mask_example_gen.splits import SplitConfig
from components.imaging.palette import Color
from components.imaging.reading import MOST_PIXELS, Exif, ValueRange, check_ascending
from components.settings import Settings

RawColor = Annotated[Color, Strict(False)]
RawLabel = int | RawColor
"""What a mask's pixel says before ingestion: a number, or a colour."""

# YAML and --set know lists only, which strict validation would not take for a tuple.
Names = Annotated[tuple[str, ...], Strict(False)]

# The registry knows the names; mypy takes no computed ones.
if TYPE_CHECKING:
    LayoutName = str
else:
    LayoutName = Literal[Shapes.name, Folder.name, *DATASETS]


def label_distance(one: RawLabel, two: RawLabel) -> int:
    """How far two raw labels are apart, in the channel in which they differ most."""
    if isinstance(one, tuple) and isinstance(two, tuple):
        return max(abs(a - b) for a, b in zip(one, two, strict=True))
    assert isinstance(one, int) and isinstance(two, int)
    return abs(one - two)


def _patterns(value: str | dict[str, str] | None) -> list[str]:
    return list(value.values()) if isinstance(value, dict) else [] if value is None else [value]


class ShapesConfig(Settings):
    """The drawn dataset, for the layout ``shapes`` only."""

    num_images: int = Field(default=600, ge=3, le=1_000_000)
    """How many pairs are drawn."""
    seed: int = Field(default=0, ge=0)
    """Same seed, same pictures."""


class DatasetConfig(Settings):
    """Which files are the dataset, and how their masks are read."""

    layout: LayoutName = "shapes"
    """How the files are arranged; ``folder`` is for your own data."""
    root: str | None = None
    """Folder of the dataset, as its official download unpacks, here or in a bucket (``s3://``, ``gs://``,
    ``minio://``); null for ``shapes`` and only for it."""
    name: str | None = None
    """``tfds``: which prepared set under root, as ``tfds.load`` takes it: ``oxford_iiit_pet:3.*.*``."""
    images: str | None = None
    """``folder``: pattern under root, such as ``images/*.jpg``; ``**`` stands for any folders. ``tfds``: the
    feature that holds the image; null for ``image``."""
    masks: str | dict[str, str] | None = None
    """``folder``: pattern under root, such as ``masks/*.png``, ``masks/*_mask.png`` or
    ``masks/mask_*.png``. Where an image has a file for each object, as in ``masks/*_mask*.png``,
    ``masks/*/*.png`` or ``*/masks/*.png``, these are merged; where it has one for each class, a pattern for
    each: ``{disc: masks/disc/*.png, square: masks/square/*.png}``. ``coco``: pattern of the JSON files, such
    as ``annotations/instances_*.json``; null for those that lie there. ``tfds``: the feature that holds the
    mask; null for ``segmentation_mask``."""
    classes: Names | None = None
    """Names in the order of their class ids. ``folder``, ``tfds``: in the order of the raw values 0, 1, 2 …,
    unless label_values says otherwise. ``coco``, ``labelme``: categories or labels, with ``background`` for
    what has none; other ones are ignored. Elsewhere a selection of the dataset's own names, the rest
    ignored; null for its usual ones, mostly all."""
    label_values: dict[str, RawLabel] | None = None
    """``folder``, ``tfds``: the raw value or ``[red, green, blue]`` of each class; ``voc``, ``ade20k``: the
    same for sets that have other classes. Names that are not in ``classes`` are ignored."""
    ignore_label: RawLabel | None = None
    """``folder``, ``tfds``: the raw value or colour that counts nowhere (written as 255)."""
    merge_classes: dict[str, str] = Field(default={})
    """Classes that count as another: ``{rider: person}``. They are gone from the classes' own names."""
    label_tolerance: int = Field(default=0, ge=0)
    """For masks smeared by JPEG or by resizing: a value that is up to this far from a class's, in any
    channel, is taken for it, and the pixels are counted and said. Less than half the way from one raw value
    to the next; areas of one value far from all of them are refused."""
    mask_values: MaskValues | None = None
    """``folder``: what a mask's raw values are, where they are not its pixels'. ``alpha`` is its alpha
    channel. ``pages``: of a TIFF with a page a class, the number of the last page, from 1, that is not 0;
    0 where none is. ``index``: a palette's indices, though the palettes of several files show different
    colours for one of them, which is refused otherwise."""
    exif: Exif | None = None
    """What masks fit where an image's EXIF says that it is not stored upright: ``upright`` applies the
    orientation, in training and serving alike; ``stored`` takes pixels as they are stored; null does, too,
    and rejects the images whose sizes do not tell."""
    value_range: Annotated[ValueRange, Strict(False), AfterValidator(check_ascending)] | None = None
    """Of images with more than 8 bits a channel, the values that become 0 and 255, in training and serving
    alike; what lies outside is cut off. Null takes the upper 8 of 16 bits, and is refused where the images
    use only few of their levels, as 10, 12 or 14 bits in files of 16 do."""
    limit: int | None = Field(default=None, ge=3)
    """Take this many pairs only, a fixed random choice; for quick tries."""
    splits: SplitConfig = SplitConfig()
    max_shared_pictures: int | None = Field(default=None, ge=0)
    """End the run where more pictures than this are in several splits, pixel by pixel the same; 0 allows
    none, null says it only."""
    max_pixels: int = Field(default=50_000_000, ge=1, le=MOST_PIXELS)
    """A picture with more pixels is rejected before it is decoded. Decoding takes up to about 30 bytes a
    pixel and worker, where a mask is in colours: 1.5 GB at the default."""
    max_rejected_fraction: float = Field(default=0.01, ge=0.0, le=1.0)
    """Go on as long as no more than this part of the pairs has to be rejected."""
    shapes: ShapesConfig = ShapesConfig()

    @field_validator("images", "masks")
    @classmethod
    def _patterns_can_be_read(cls, value: str | dict[str, str] | None) -> str | dict[str, str] | None:
        for pattern in _patterns(value):
            FilePattern(pattern)
            if pattern.startswith("/") or ".." in pattern.split("/"):
                raise ValueError(f"{pattern!r} must stay under dataset.root")
        return value

    @property
    def source(self) -> Layout:
        """How the files are found and what the masks may hold."""
        if self.layout == Shapes.name:
            return Shapes(self.shapes.num_images)
        if self.layout == Folder.name:
            return Folder(self.images or "", self.masks or "", self._named_classes(), self.mask_values)
        named = self._named_classes() if self.label_values is not None else ()
        masks = self.masks if isinstance(self.masks, str) else None
        options = Options(self.classes or (), named, self.images, masks, self.name)
        return DATASETS[self.layout](options)

    @property
    def grouped_splits(self) -> SplitConfig:
        """``splits``, grouped as the layout proposes where the recipe says nothing."""
        if self.splits.group is not None or self.source.group is None:
            return self.splits
        return self.splits.model_copy(update={"group": self.source.group})

    @property
    def attributes(self) -> tuple[str, ...]:
        """Names of the attribute features that every Example of this layout carries, for slicing."""
        return self.source.attributes

    def check_root(self) -> None:
        """Looks, at no cost, whether ``root`` can be this layout's folder.

        Raises:
          ValueError: it cannot; one line says what is missing or cannot be read.
        """
        if self.root is not None:
            self.source.check_root(self.root)

    @property
    def reads_colors(self) -> bool:
        """Whether masks are colour-coded."""
        return self.label_values is not None and any(
            isinstance(value, tuple) for value in self.label_values.values()
        )

    def label_set(self) -> LabelSet:
        """Returns names, colours and raw values of the classes, in the order of their ids."""
        chosen = self._chosen_classes()
        colors = tuple(raw.color for raw in chosen if raw.color is not None)
        return LabelSet(
            names=tuple(raw.name for raw in chosen),
            colors=colors if len(colors) == len(chosen) else (),
            raw_values=tuple(raw.value for raw in chosen),
        )

    def raw_labels(self) -> tuple[dict[RawLabel, str], frozenset[RawLabel]]:
        """Returns the class name of each raw value, and the raw values that are ignored.

        Any other value in a mask is an error of that mask.
        """
        names = {raw.value: raw.name for raw in self._chosen_classes()}
        values = {raw.name: raw.value for raw in self.source.classes}
        names |= {values[name]: other for name, other in self.merge_classes.items()}
        ignored = {raw.value for raw in self.source.classes} - set(names)
        if self.ignore_label is not None:
            ignored.add(self.ignore_label)
        return names, frozenset(ignored)

    def _named_classes(self) -> tuple[RawClass, ...]:
        if isinstance(self.masks, dict):
            rest = [name for name in self.classes or () if name not in self.masks]
            return tuple(
                RawClass(name, value) for value, name in enumerate([*rest, *self.masks], 1 - len(rest))
            )
        if self.label_values is None:
            return tuple(RawClass(name, value) for value, name in enumerate(self.classes or ()))
        return tuple(
            RawClass(name, raw, raw if isinstance(raw, tuple) else None)
            for name, raw in self.label_values.items()
        )

    def _chosen_classes(self) -> tuple[RawClass, ...]:
        known = {raw.name: raw for raw in self.source.classes}
        chosen = self.classes
        if chosen is None:
            chosen = self.source.usual_classes or tuple(known)
        unknown = [name for name in chosen if name not in known]
        if unknown:
            raise ValueError(
                f"dataset.classes: {self.layout} has no class {', '.join(map(repr, unknown))}; "
                f"choose from {', '.join(known)}"
            )
        return tuple(known[name] for name in chosen if name not in self.merge_classes)

    @field_validator("label_values", "ignore_label")
    @classmethod
    def _raw_labels_fit_a_mask(
        cls, value: dict[str, RawLabel] | RawLabel | None
    ) -> dict[str, RawLabel] | RawLabel | None:
        raws = list(value.values()) if isinstance(value, dict) else [] if value is None else [value]
        for raw in raws:
            channels = raw if isinstance(raw, tuple) else ()
            if any(not 0 <= channel <= 255 for channel in channels):
                raise ValueError(f"{list(channels)} is no colour; red, green and blue are 0 … 255")
            if isinstance(raw, int) and not 0 <= raw <= 65_535:
                raise ValueError(f"{raw} cannot stand in a mask; raw values are 0 … 65535")
        return value

    @model_validator(mode="after")
    def _keys_belong_to_the_layout(self) -> Self:
        if self.layout == Shapes.name:
            if self.root is not None:
                raise ValueError(
                    "layout shapes draws its own data; for your own folder set dataset.layout to folder"
                )
        elif not self.root:
            raise ValueError(f"layout {self.layout} needs dataset.root, the dataset's folder (--data DIR)")
        if self.layout != Folder.name:
            for key in ("images", "masks", "name", "label_values", "ignore_label", "mask_values"):
                if getattr(self, key) is not None and key not in self.source.options:
                    raise ValueError(
                        f"dataset.{key} is for other layouts, such as 'folder'; {self.layout} knows its "
                        "files and values (to ignore a class, leave it out of dataset.classes)"
                    )
            if isinstance(self.masks, dict):
                raise ValueError(
                    f"dataset.masks has a pattern for each class; for {self.layout} it is one text"
                )
            if "name" in self.source.options and not self.name:
                raise ValueError(f"layout {self.layout} needs dataset.name, such as oxford_iiit_pet:3.*.*")
            if not self.source.classes:
                raise ValueError(
                    f"layout {self.layout} needs dataset.classes, the names of what is to be told apart; "
                    "python -m pipeline.init finds and writes them"
                )
            return self
        if self.name is not None:
            raise ValueError("dataset.name is for the layout 'tfds'; folder has dataset.images and masks")
        for key in ("images", "masks"):
            patterns = _patterns(getattr(self, key))
            if not patterns or not all(patterns):
                raise ValueError(f"layout folder needs dataset.{key}, a pattern such as {key}/*.png")
        if self.classes is None and self.label_values is None:
            raise ValueError("layout folder needs dataset.classes, the names of raw values 0, 1, 2 …")
        return self

    @model_validator(mode="after")
    def _classes_fit_their_masks(self) -> Self:
        if not isinstance(self.masks, dict):
            return self
        if self.label_values is not None:
            raise ValueError(
                "dataset.label_values: where dataset.masks has a pattern for each class, no values are needed"
            )
        rest = [name for name in self.classes or () if name not in self.masks]
        if len(rest) > 1:
            raise ValueError(
                f"dataset.masks has no pattern for {', '.join(map(repr, rest))}; one class at most may be "
                "what is in none of the masks"
            )
        return self

    @model_validator(mode="after")
    def _classes_make_sense(self) -> Self:
        if self.label_values is not None:
            raws = list(self.label_values.values())
            if len({type(raw) for raw in raws}) > 1:
                raise ValueError("dataset.label_values mixes numbers and colours; use one of them throughout")
            repeated = sorted({str(raw) for raw in raws if raws.count(raw) > 1})
            if repeated:
                raise ValueError(f"dataset.label_values gives {', '.join(repeated)} to more than one class")
        if self.ignore_label is not None and isinstance(self.ignore_label, tuple) != self.reads_colors:
            raise ValueError(
                "dataset.ignore_label and dataset.label_values must both be numbers or both be colours"
            )
        self._check_merged()
        self._check_names()
        self.label_set()
        names, ignored = self.raw_labels()
        if self.ignore_label is not None and self.ignore_label in names:
            raise ValueError(
                f"dataset.ignore_label {self.ignore_label} is the class {names[self.ignore_label]!r}; "
                "leave one of them out"
            )
        self._check_tolerance(names | dict.fromkeys(ignored, "(ignored)"))
        return self

    def _check_merged(self) -> None:
        known = {raw.name for raw in self.source.classes}
        kept = {raw.name for raw in self._chosen_classes()}
        for pair in self.merge_classes.items():
            for name, choice in zip(pair, (known, kept), strict=True):
                if name not in choice:
                    raise ValueError(
                        f"dataset.merge_classes: {': '.join(pair)}: there is no class {name!r} to merge; "
                        f"choose from {', '.join(sorted(choice))}"
                    )

    def _check_names(self) -> None:
        """Says in the recipe's words what `LabelSet` would say in its own."""
        names = [raw.name for raw in self._chosen_classes()]
        if repeated := sorted(name for name, count in Counter(names).items() if count > 1):
            shown = ", ".join(map(repr, repeated))
            raise ValueError(f"dataset.classes: {shown} is given more than once; names must differ")
        if 2 <= len(names) <= MAX_CLASSES:
            return
        key = "label_values" if self.classes is None and self.label_values is not None else "classes"
        few = f"dataset.{key} names {', '.join(map(repr, names)) or 'no class'}"
        many = f"dataset.{key} names {len(names)} classes"
        merged = ", those that dataset.merge_classes merges left out" if self.merge_classes else ""
        said = few if len(names) < 2 else many
        raise ValueError(
            f"{said}{merged}; there must be at least 2, background among them, and at most {MAX_CLASSES}"
        )

    def _check_tolerance(self, labels: dict[RawLabel, str]) -> None:
        for (one, name), (two, other) in combinations(labels.items(), 2) if self.label_tolerance else ():
            apart = label_distance(one, two)
            if name != other and apart <= 2 * self.label_tolerance:
                raise ValueError(
                    f"dataset.label_tolerance {self.label_tolerance}: {name} ({one}) and {other} ({two}) are "
                    f"{apart} apart, so it can be {(apart - 1) // 2} at most"
                )
