"""What TensorFlow Serving looks for beside a SavedModel's graph."""

from pathlib import Path
from typing import Final

WARMUP_FILE: Final = Path("assets.extra", "tf_serving_warmup_requests")
"""TFRecords of PredictionLog, under the SavedModel's directory."""
