"""Models that cost nothing: real SavedModel headers without a graph."""

import json
from collections.abc import Sequence
from pathlib import Path

from tensorflow.core.protobuf import saved_model_pb2


def write_candidate(
    model_dir: Path,
    content: str,
    classes: Sequence[str] | None = ("cat", "dog"),
    signatures: Sequence[str] = ("serving_default", "evaluate"),
    max_pixels: int = 100,
    exif: str | None = None,
    channels: int | list[int] = 3,
    value_range: list[float] | None = None,
) -> Path:
    """Writes what Baseline and Pusher look at in a model: its signatures, its classes and some bytes."""
    header = saved_model_pb2.SavedModel(saved_model_schema_version=1)
    graph = header.meta_graphs.add()
    for name in signatures:
        graph.signature_def[name].method_name = name
    (model_dir / "variables").mkdir(parents=True)
    (model_dir / "assets.extra").mkdir()
    (model_dir / "saved_model.pb").write_bytes(header.SerializeToString())
    (model_dir / "variables" / "variables.data").write_text(content)
    if classes is not None:
        labels = {
            "labels": {"names": list(classes)},
            "limits": {"max_pixels": max_pixels},
            "recipe": {
                "dataset": {"max_pixels": 80, "exif": exif, "value_range": value_range},
                "transform": {"channels": channels},
            },
        }
        (model_dir / "assets.extra" / "labels.json").write_text(json.dumps(labels))
    return model_dir
