"""What a model says of how it brings pictures to its network."""

import json
from pathlib import Path
from typing import Any

import pytest

from components.dataset.contracts import LABELS_FILE
from components.imaging.reading import InputSize
from components.model_store.description import input_size

WHOLE = {"height": 96, "width": 128, "resize": "letterbox"}


@pytest.mark.parametrize(
    ("description", "size"),
    [
        ({"recipe": {"transform": WHOLE}}, InputSize(96, 128, "letterbox")),
        (
            {"recipe": {"transform": {**WHOLE, "resize": "native", "scale": 0.5, "overlap": 0.25}}},
            InputSize(96, 128, "native", 0.5, 0.25),
        ),
        ({"recipe": {"transform": {"height": 96}}}, None),
        ({"recipe": {"transform": 3}}, None),
        ({"labels": {}}, None),
    ],
)
def test_a_models_input_size_is_what_it_was_made_from_and_none_where_it_does_not_say(
    tmp_path: Path, description: dict[str, Any], size: InputSize | None
) -> None:
    path = tmp_path / LABELS_FILE
    path.parent.mkdir()
    path.write_text(json.dumps(description))
    assert input_size(tmp_path) == size


def test_a_model_without_a_description_has_no_input_size(tmp_path: Path) -> None:
    assert input_size(tmp_path) is None
