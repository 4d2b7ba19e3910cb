"""Work done image by image, in memory that does not grow with the number of large images."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

_SIDE_BY_SIDE = 10
"""``tf.map_fn``'s own default; it is what small images are worked on at once, given the threads."""


def map_images(
    function: Callable[[Any], Any], elements: Any, *, side_by_side: tf.Tensor, fn_output_signature: Any
) -> Any:
    """Maps a function over images as ``tf.map_fn`` does.

    Args:
        function: of one image.
        elements: a tensor or a structure of tensors, [N, …].
        side_by_side: bool []; where it is False one image is begun when the last is done, so that what
            the function needs for one of them is needed once, not ten times.
        fn_output_signature: of the function's answer.
    """

    def mapped(at_once: int) -> Any:
        return tf.map_fn(
            function, elements, parallel_iterations=at_once, fn_output_signature=fn_output_signature
        )

    return tf.cond(side_by_side, lambda: mapped(_SIDE_BY_SIDE), lambda: mapped(1))
