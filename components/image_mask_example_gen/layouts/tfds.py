"""TensorFlow Datasets: prepared sets with an image and a mask as features. Nothing is ever downloaded."""

import io
import os
import re
from array import array
from functools import lru_cache
from pathlib import Path, PosixPath
from typing import TYPE_CHECKING, Any, Final

from components.errors import StageError
from components.image_mask_example_gen.layouts.layout import (
    NO_OPTIONS,
    Entry,
    Layout,
    Options,
    RawClass,
    Scan,
    subfolders,
)
from components.image_mask_example_gen.report import Reason, Rejection
from components.image_mask_example_gen.split_names import split_name

if TYPE_CHECKING:
    from components.image_mask_example_gen.mask import Mask

_VERSION = re.compile(r"\d+\.\d+\.\d+")
_INFO, _FEATURES = "dataset_info.json", "features.json"
_FORMAT: Final = "tfrecord"
_IMAGE, _MASK = "image", "segmentation_mask"
_LENGTH_BYTES, _CHECKSUM_BYTES = 8, 4


class Tfds(Layout):
    """``root`` is the ``data_dir``; ``dataset.name`` is ``name[/config][:version]``, as for ``tfds.load``.

    ``dataset.images`` and ``dataset.masks`` name the two features where they are not ``image`` and
    ``segmentation_mask``. The set's own splits are kept.
    """

    name = "tfds"
    options = frozenset({"name", "images", "masks", "label_values", "ignore_label"})
    masks_are_files = False
    reads_buckets = False

    def __init__(self, options: Options = NO_OPTIONS):
        self._dataset = options.name or ""
        self.image_feature = options.images or _IMAGE
        self.mask_feature = options.masks or _MASK
        self.classes = options.label_values or tuple(
            RawClass(name, value) for value, name in enumerate(options.classes)
        )

    def missing(self, root: Path) -> list[str]:
        """Returns what the root lacks."""
        found = prepared(root)
        if self._dataset and self._folder(found) is None:
            others = f" (prepared are {', '.join(sorted(found))})" if found else ""
            return [f"prepared set {self._dataset!r}{others}"]
        return [] if found else [f"prepared set: a folder NAME/VERSION with {_INFO} and {_FEATURES}"]

    def _folder(self, found: list[str]) -> str | None:
        """The newest version of the set, relative to the root, None where there is none."""
        name, _, wanted = self._dataset.partition(":")
        versions = {
            path: path.rpartition("/")[2]
            for path in found
            if path.rpartition("/")[0] == name or ("/" not in name and path.split("/")[0] == name)
        }
        if wanted:
            places = wanted.split(".")
            versions = {
                path: version
                for path, version in versions.items()
                if all(place in ("*", part) for place, part in zip(places, version.split("."), strict=False))
            }
        configs = sorted({path.rpartition("/")[0] for path in versions})
        if len(configs) > 1:
            raise StageError(f"dataset.name: {name} is prepared as {', '.join(configs)}; name one of these")
        return max(versions, key=lambda path: [int(part) for part in versions[path].split(".")], default=None)

    def scan(self, root: Path) -> Scan:
        """Numbers the records of each file; not one is read.

        Raises:
          StageError: the set lacks one of the two features, or its files are of a kind that is not read.
        """
        folder = self._folder(prepared(root))
        if folder is None:
            raise StageError(f"{root}: no {', '.join(self.missing(root))}")
        info = _builder(root / folder).info
        for key, feature in (("images", self.image_feature), ("masks", self.mask_feature)):
            if feature not in _pictures(root / folder):
                raise StageError(
                    f"dataset.{key}: {self._dataset} has no picture called {feature!r}; "
                    f"it has {', '.join(_pictures(root / folder)) or 'none'}"
                )
        if info.file_format is not None and info.file_format.value != _FORMAT:
            raise StageError(
                f"{folder} is in the format {info.file_format.value}; prepare it with file_format='{_FORMAT}'"
            )
        known = any(split_name(name) for name in info.splits)
        entries: list[Entry] = []
        rejected: list[Rejection] = []
        files = [f"{folder}/{_INFO}", f"{folder}/{_FEATURES}"]
        for name, split in info.splits.items():
            official = told[0] if (told := split_name(name)) else None
            if known and official is None:
                found = (
                    f"{split.num_examples} examples of the split {name!r}, which is none of train, val, test"
                )
                rejected.append(Rejection(f"{folder}#{name}", Reason.UNLISTED, found))
                continue
            for shard, (path, count) in enumerate(zip(split.filenames, split.shard_lengths, strict=True)):
                files.append(f"{folder}/{path}")
                for index in range(count):
                    record = f"{folder}/{path}#{index}"
                    image, mask = f"{record}/{self.image_feature}", f"{record}/{self.mask_feature}"
                    entries.append(Entry(f"{name}-{shard:05d}-{index:06d}", image, mask, official))
        return Scan(entries, rejected, sorted(files))

    def image_file(self, root: Path, entry: Entry) -> Path:
        """Returns the image within its record."""
        return RecordFile(root, entry.image)

    def open_mask(self, root: Path, entry: Entry, max_pixels: int) -> "Mask":
        """Opens the mask within its record."""
        from components.image_mask_example_gen.mask import PictureMask

        return PictureMask(RecordFile(root, entry.mask), max_pixels)

    def pictures(self, root: Path) -> dict[str, tuple[int | None, tuple[str, ...]]]:
        """Returns the pictures among the set's features: channels, and names of the values if it has any."""
        folder = self._folder(prepared(root))
        return {} if folder is None else _pictures(root / folder)


class RecordFile(PosixPath):
    """A feature of one record as a file that can be read: ``NAME/VERSION/FILE#RECORD/FEATURE``."""

    def open(self, *args: Any, **kwargs: Any) -> Any:
        """Reads the picture's bytes."""
        path, index, feature = self._place()
        return io.BytesIO(_read_picture(path, index, feature))

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        """Asks for the file of the record."""
        path, _, _ = self._place()
        return path.stat(follow_symlinks=follow_symlinks)

    def _place(self) -> tuple[Path, int, str]:
        path, _, inside = str(self).rpartition("#")
        index, _, feature = inside.partition("/")
        return Path(path), int(index), feature


def prepared(root: Path) -> list[str]:
    """Returns the folders of prepared sets under a ``data_dir``: NAME/VERSION or NAME/CONFIG/VERSION."""
    found = []
    for name in subfolders(root, "."):
        for second in subfolders(root, name):
            inner = [second] if _VERSION.fullmatch(second) else []
            inner += [f"{second}/{third}" for third in subfolders(root, f"{name}/{second}")]
            found += [f"{name}/{path}" for path in inner if is_prepared(root / name / path)]
    return found


def is_prepared(folder: Path) -> bool:
    """Tells whether a folder is a prepared version of a set."""
    is_version = _VERSION.fullmatch(folder.name) is not None
    return is_version and all((folder / file).is_file() for file in (_INFO, _FEATURES))


@lru_cache(maxsize=4)
def _builder(folder: Path) -> Any:
    # A second of imports that nobody else needs.
    import tensorflow_datasets as tfds

    try:
        return tfds.builder_from_directory(str(folder))
    except Exception as error:  # Whatever a file that somebody changed makes it stumble over.
        raise StageError(f"{folder}: TensorFlow Datasets cannot read it: {str(error)[:200]}") from error


def _pictures(folder: Path) -> dict[str, tuple[int | None, tuple[str, ...]]]:
    import tensorflow_datasets as tfds

    features = _builder(folder).info.features
    found = {}
    # Their order is lost in the file.
    for name, feature in sorted(features.items()):
        if isinstance(feature, tfds.features.Image):
            names = feature.names if isinstance(feature, tfds.features.LabeledImage) else None
            found[name] = (feature.shape[-1], tuple(names or ()))
    return found


@lru_cache(maxsize=1024)
def _record_starts(file: Path, modified: int, size: int) -> "array[int]":
    """Where each record of a TFRecord file starts: after its length, eight bytes, and a checksum, four."""
    starts = array("Q", [0])
    with file.open("rb") as records:
        while starts[-1] < size:
            records.seek(starts[-1])
            length = int.from_bytes(records.read(_LENGTH_BYTES), "little")
            starts.append(starts[-1] + _LENGTH_BYTES + length + 2 * _CHECKSUM_BYTES)
    return starts


def _read_picture(file: Path, index: int, feature: str) -> bytes:
    """Returns a picture as the record has it: an encoded file.

    Raises:
      OSError: the file is damaged, or shorter than its set says.
    """
    import tensorflow as tf

    status = os.stat(file)
    starts = _record_starts(file, status.st_mtime_ns, status.st_size)
    if index + 1 >= len(starts) or starts[index + 1] > status.st_size:
        raise OSError(None, f"it ends before record {index}", str(file))
    with file.open("rb") as records:
        records.seek(starts[index])
        record = records.read(starts[index + 1] - starts[index])
    try:
        example = tf.train.Example.FromString(record[_LENGTH_BYTES + _CHECKSUM_BYTES : -_CHECKSUM_BYTES])
        return bytes(example.features.feature[feature].bytes_list.value[0])
    except MemoryError:
        raise
    except Exception as error:  # of protocol buffers, or nothing in the list
        raise OSError(None, f"record {index} has no picture {feature!r}", str(file)) from error
