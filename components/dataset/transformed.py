"""Names of the features that come out of the transform graph."""

from typing import Final

IMAGE: Final = "image"
"""string [N]: serialised uint8 tensor [height, width, channels], the network's input; with
``transform.resize: native`` the picture that windows are cut from, of its own height and width."""
MASK: Final = "mask"
"""string [N]: serialised uint8 tensor [height, width], class ids of the pixels of ``IMAGE``."""
IMAGE_HEIGHT: Final = "image_height"
"""int64 [N]: the image's own height in pixels."""
IMAGE_WIDTH: Final = "image_width"
"""int64 [N]: the image's own width in pixels."""
CLASS_PIXELS: Final = "class_pixels"
"""int64 [N, C]: pixels a class in the training split, the same in every row."""
PIXEL_SCALE: Final = "pixel_scale"
"""float32 [N, channels]: the network normalises to ``pixels * scale + offset``; the same in every row."""
PIXEL_OFFSET: Final = "pixel_offset"
"""float32 [N, channels]: see ``PIXEL_SCALE``."""
