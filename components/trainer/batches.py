"""From decoded pictures to batches of a training, augmented, in an order that follows from a seed alone."""

from collections.abc import Callable, Sequence
from functools import lru_cache, partial

import numpy as np
import tensorflow as tf

from components.dataset import features
from components.errors import StageError
from components.imaging.reading import InputSize, Reading
from components.trainer.decoding import Pair
from components.trainer.pictures import EqualPictures, Picture
from components.trainer.training_config import AugmentationConfig
from components.trainer.windows import RandomWindows, cut_of_grid, grid
from models.augmentation import RandomAugmentation

Augment = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], Pair]
"""Changes images [N, H, W, channels] and masks [N, H, W] by a seed, int64 []."""


def augmentation(config: AugmentationConfig, reading: Reading) -> RandomAugmentation | None:
    """Returns what changes batches at random, of pictures that are read so, or None where nothing does."""
    augment = RandomAugmentation(
        **config.model_dump(), has_alpha=reading.has_alpha, ignore_label=features.IGNORE_LABEL
    )
    return None if augment.is_identity else augment


def training_batches(
    pictures: EqualPictures,
    epochs: range,
    *,
    batch_size: int,
    drop_remainder: bool,
    seed: int,
    augment: Augment | None = None,
) -> tf.data.Dataset:
    """Returns the batches of ``epochs`` one after the other: all pictures in a new order each, augmented.

    What is in a batch follows from ``seed``, the epoch's number and the batch's place in the epoch alone, so
    a training that goes on after some epochs sees what it would have seen without the interruption.

    Args:
        pictures: at least one.
        epochs: the numbers of the epochs, in order.
        batch_size: pictures a batch.
        drop_remainder: leave out what does not fill a batch.
        seed: of the order and of ``augment``.
        augment: changes a batch.
    """
    # Two, as batches are read ahead into the next epoch.
    order = lru_cache(maxsize=2)(
        lambda epoch: np.random.default_rng([seed, epoch]).permutation(len(pictures))
    )

    def read(epoch: int, place: int) -> tuple[np.ndarray, np.ndarray]:
        return pictures.read(order(epoch)[place * batch_size : (place + 1) * batch_size])

    steps = len(pictures) // batch_size if drop_remainder else -(-len(pictures) // batch_size)
    shape = (batch_size if drop_remainder else None, *pictures.shape)
    return _batches(read, shape, epochs, steps_per_epoch=steps, seed=seed, augment=augment)


def window_batches(
    windows: RandomWindows,
    epochs: range,
    *,
    steps_per_epoch: int,
    batch_size: int,
    augment: RandomAugmentation | None,
) -> tf.data.Dataset:
    """Returns the batches of ``epochs`` one after the other: windows, augmented.

    What is in a batch follows from the windows' seed, the epoch's number and the batch's place in it alone.

    Raises:
        StageError: what augmentation needs to see around a batch's windows is more than can be numbered.
    """
    window = (windows.height, windows.width)
    frame = window if augment is None else augment.frame(*window)
    if batch_size * frame[0] * frame[1] >= 2**31:
        raise StageError(
            f"augmentation.scale_crop and rotate see {frame[0]} x {frame[1]} pixels around each of "
            f"{batch_size} windows, 2**31 or more in all; take a smaller training.batch_size or "
            "transform.height and width"
        )

    def cut(epoch: int, place: int) -> tuple[np.ndarray, np.ndarray]:
        step = epoch * steps_per_epoch + place
        return windows.cut(range(step * batch_size, (step + 1) * batch_size), frame)

    return _batches(
        cut,
        (batch_size, *frame, windows.channels),
        epochs,
        steps_per_epoch=steps_per_epoch,
        seed=windows.seed,
        augment=None if augment is None else partial(augment, window=window),
    )


def _batches(
    read: Callable[[int, int], tuple[np.ndarray, np.ndarray]],
    shape: tuple[int | None, ...],
    epochs: range,
    *,
    steps_per_epoch: int,
    seed: int,
    augment: Augment | None,
) -> tf.data.Dataset:
    """Returns the batches that ``read`` makes of an epoch's number and a place in it, several at a time.

    ``shape`` is that of their images.
    """

    # AutoGraph would rewrite the augmentation, though nothing branches on a tensor in Python.
    @tf.autograph.experimental.do_not_convert
    def batch(step: tf.Tensor) -> Pair:
        epoch, place = step // steps_per_epoch, step % steps_per_epoch
        images, masks = _numpy_pair(read, [epoch, place], shape)
        if augment is None:
            return images, masks
        return augment(images, masks, _random_word(seed, epoch, 1 + place))

    steps = tf.data.Dataset.range(epochs.start * steps_per_epoch, epochs.stop * steps_per_epoch)
    return steps.map(batch, tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def whole_pairs(pictures: EqualPictures) -> tf.data.Dataset:
    """Returns pictures as pairs, in their order."""

    def read(number: int) -> tuple[np.ndarray, np.ndarray]:
        images, class_ids = pictures.read(np.array([number]))
        return images[0], class_ids[0]

    numbers = tf.data.Dataset.range(len(pictures))
    return numbers.map(lambda number: _numpy_pair(read, [number], pictures.shape), tf.data.AUTOTUNE)


def grid_pairs(pictures: Sequence[Picture], size: InputSize, at_most: int) -> tf.data.Dataset:
    """Returns the windows that cover pictures side by side, one picture's after the other's.

    Of more than ``at_most`` of each picture in proportion to its windows, at places drawn once and for all:
    those at one distance in the order of the grid may all lie in the same corner.
    """
    random = np.random.default_rng(0)
    in_order = grid(pictures, size.height, size.width)
    places = sorted(in_order, key=lambda place: (place.picture, random.random()))
    number = min(len(places), at_most)

    def cut(index: int) -> tuple[np.ndarray, np.ndarray]:
        place = places[index * len(places) // number]
        return cut_of_grid(pictures[place.picture], place, size.height, size.width)

    shape = (size.height, size.width, pictures[0].image.shape[-1])
    numbers = tf.data.Dataset.range(number)
    return numbers.map(lambda index: _numpy_pair(cut, [index], shape), tf.data.AUTOTUNE)


def statistics_batches(pairs: tf.data.Dataset, batch_size: int) -> tf.data.Dataset:
    """Returns the images of pairs, their number known, in batches of one size, ``batch_size`` at most.

    The few at the end that no batch takes are left out.
    """
    count = int(pairs.cardinality())
    number = -(-count // batch_size)
    return pairs.map(lambda image, class_ids: image).batch(count // number, drop_remainder=True)


def _numpy_pair(
    read: Callable[..., tuple[np.ndarray, np.ndarray]],
    numbers: list[tf.Tensor],
    shape: tuple[int | None, ...],
) -> Pair:
    """Returns what ``read`` makes of ``numbers`` outside of TensorFlow; ``shape`` is that of images."""
    image, class_ids = tf.numpy_function(read, numbers, (tf.uint8, tf.uint8), stateful=False)
    return tf.ensure_shape(image, shape), tf.ensure_shape(class_ids, shape[:-1])


def _random_word(seed: int, epoch: tf.Tensor, position: tf.Tensor) -> tf.Tensor:
    """Returns an int64 [] that looks random and is a function of its arguments."""
    key = tf.random.experimental.stateless_fold_in(tf.stack([tf.cast(seed, tf.int64), epoch]), position)
    return tf.random.stateless_uniform([], key, minval=None, maxval=None, dtype=tf.int64)
