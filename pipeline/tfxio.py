"""Sets how TFX reads Examples, wherever its executors run."""

from absl import flags
from tfx_bsl.coders import batch_util  # noqa: F401  (defines the flag set below)


def batch_by_bytes() -> None:
    """Has TFX read Examples in batches of some megabytes, rather than of up to 1,000 images at once."""
    flags.FLAGS.mark_as_parsed()
    flags.FLAGS.tfxio_use_byte_size_batching = True
