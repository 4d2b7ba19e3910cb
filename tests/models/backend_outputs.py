"""What the functions of models/ answer to fixed inputs under whatever backend Keras runs on.

python backend_outputs.py FILE

writes them as NumPy arrays into FILE. Needs Keras and a backend, nothing else.
"""

import sys
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from models.augmentation import RandomAugmentation
from models.batch_statistics import batch_moments, set_population_statistics
from models.losses import LOSSES
from models.losses.segmentation_loss import SegmentationLoss
from models.resized_mean_iou import ResizedMeanIoU
from models.test_time_augmentation import average_augmented
from models.unet import unet

CLASSES, IGNORED = 3, 255


def outputs() -> Iterator[tuple[str, Any]]:
    """Yields each answer with its name."""
    random = np.random.default_rng(0)
    images = ops.convert_to_tensor(random.integers(0, 256, (4, 16, 16, 3), dtype=np.uint8))
    class_ids = random.choice(np.array([*range(CLASSES), IGNORED], np.uint8), (4, 16, 16))
    masks = ops.convert_to_tensor(class_ids)
    logits = ops.convert_to_tensor(random.normal(size=(4, 16, 16, CLASSES)).astype(np.float32))

    augment = RandomAugmentation(
        horizontal_flip=True,
        vertical_flip=True,
        rot90=True,
        rotate=20.0,
        scale_crop=(0.6, 1.7),
        brightness=0.1,
        contrast=0.2,
        saturation=0.3,
        hue=0.05,
        gamma=0.2,
        blur=1.5,
        noise=0.05,
    )
    yield from zip(("augmented images", "augmented masks"), augment(images, masks, 7), strict=True)
    for name in LOSSES:
        yield name, SegmentationLoss({name: 1.0}, class_weights=[1.0, 2.0, 3.0])(masks, logits)
    metric = ResizedMeanIoU(CLASSES)
    metric.update_state(masks, logits)
    yield "mean IoU", metric.result()

    network = unet(
        (None, None, 3),
        CLASSES,
        filters=4,
        depth=2,
        normalization="batch",
        upsampling="bilinear",
        joining="add",
        strided_stem=True,
    )
    # Variances, and so everything, above 0.
    network.set_weights([random.random(weight.shape, np.float32) for weight in network.get_weights()])
    yield "logits", network(images, training=False)
    yield (
        "mean logits",
        average_augmented(network, (16, 16, 3), horizontal_flip=True, scales=[1.5], stride=4)(images),
    )
    set_population_statistics(
        network, [batch_moments(network, images[:2]), batch_moments(network, images[2:])]
    )
    yield "logits with a population's statistics", network(images, training=False)


if __name__ == "__main__":
    answers = {name: np.asarray(keras.ops.convert_to_numpy(answer)) for name, answer in outputs()}
    np.savez(sys.argv[1], **answers)
