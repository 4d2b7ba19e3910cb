"""Names of the tf.Example features that every stage reads, those of TensorFlow's segmentation datasets."""

from typing import Final

IMAGE_ENCODED: Final = "image/encoded"
"""The original file's bytes wherever the model takes them, otherwise a lossless PNG."""
IMAGE_FORMAT: Final = "image/format"
"""``jpeg``, ``png`` or ``bmp``: what the bytes are, whatever the file was called."""
IMAGE_FILENAME: Final = "image/filename"
"""Path relative to the dataset's root."""
IMAGE_HEIGHT: Final = "image/height"
"""Pixels."""
IMAGE_WIDTH: Final = "image/width"
"""Pixels."""
MASK_ENCODED: Final = "image/segmentation/class/encoded"
"""Single-channel 8-bit PNG of class ids 0 … C-1 at the image's own size; 255 is ignored."""
MASK_FORMAT: Final = "image/segmentation/class/format"
"""Always ``png``."""
CLASS_PIXELS: Final = "image/segmentation/class/pixels"
"""int64 [C]: how many of the mask's pixels are of each class; the rest are ignored."""

ATTRIBUTE_PREFIX: Final = "attribute/"
"""Features under this prefix are the dataset's own attributes, bytes, for slicing."""

IGNORE_LABEL: Final = 255
"""Class id of pixels that count nowhere: neither in the loss nor in a metric."""

SPLITS: Final = ("train", "val", "test")
"""``val`` chooses the checkpoint; only the Evaluator sees ``test``."""
