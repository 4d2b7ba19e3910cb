"""How many images are worked on at once, and that it does not change the answer."""

import threading
import time

import numpy as np
import pytest
import tensorflow as tf

from components.imaging.mapping import map_images


class Watch:
    """Squares numbers, slowly, and counts who else is at it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self.most = 0

    def __call__(self, value: np.ndarray) -> np.ndarray:
        with self._lock:
            self._inside += 1
            self.most = max(self.most, self._inside)
        time.sleep(0.02)
        with self._lock:
            self._inside -= 1
        return value**2


@pytest.mark.parametrize("side_by_side", [True, False])
def test_images_that_are_not_to_be_side_by_side_are_worked_on_one_after_the_other(side_by_side: bool) -> None:
    watch = Watch()

    @tf.function
    def squares(values: tf.Tensor, side_by_side: tf.Tensor) -> tf.Tensor:
        return map_images(
            lambda value: tf.numpy_function(watch, [value], tf.int64, stateful=False),
            values,
            side_by_side=side_by_side,
            fn_output_signature=tf.int64,
        )

    answer = squares(tf.range(12, dtype=tf.int64), tf.constant(side_by_side))
    assert answer.numpy().tolist() == [value**2 for value in range(12)]
    if not side_by_side:
        assert watch.most == 1
