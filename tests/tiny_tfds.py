"""Two small sets of TensorFlow Datasets, to be prepared on the spot: nothing of them is downloaded."""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

NAMES = ["pet", "background", "border"]
COUNTS = {"train": 9, "test": 4}


def picture(split: str, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Image and mask of one example, uint8 [height, width, 3 or 1]; the height, 20 + number, tells which."""
    rng = np.random.default_rng([len(split), number])
    size = (20 + number, 30)
    mask = np.ones((*size, 1), np.uint8)
    mask[3:12, 4 : 14 + number] = 2
    mask[5:10, 6 : 12 + number] = 0
    return rng.integers(0, 256, (*size, 3), np.uint8), mask


class TinyPets(tfds.core.GeneratorBasedBuilder):
    """A set as one writes it oneself, with the features of the Pets."""

    VERSION = tfds.core.Version("3.2.0")
    MASK: ClassVar[Any] = tfds.features.LabeledImage(labels=NAMES, shape=(None, None, 1))
    COUNTS: ClassVar[dict[str, int]] = COUNTS

    def _info(self) -> tfds.core.DatasetInfo:
        features = {"image": tfds.features.Image(shape=(None, None, 3)), "segmentation_mask": self.MASK}
        features["label"] = tfds.features.ClassLabel(num_classes=2)
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        return {split: self._generate_examples(split) for split in self.COUNTS}

    def _generate_examples(self, split: str) -> Any:
        for number in range(self.COUNTS[split]):
            image, mask = picture(split, number)
            yield number, {"image": image, "segmentation_mask": mask, "label": number % 2}


class Unnamed(TinyPets):
    """Its values have no names, and it has a split that is none of train, val and test."""

    VERSION = tfds.core.Version("1.0.0")
    MASK: ClassVar[Any] = tfds.features.Image(shape=(None, None, 1))
    COUNTS: ClassVar[dict[str, int]] = {"train": 9, "validation": 3, "extra": 2}


def prepare(builder: type[TinyPets], data_dir: Path) -> None:
    """Writes the set under a ``data_dir``, in two files a split."""
    download_config = tfds.download.DownloadConfig(num_shards=2)
    builder(data_dir=data_dir).download_and_prepare(download_config=download_config)
