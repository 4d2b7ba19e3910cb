"""The recipe's evaluation block."""

import pytest
from pydantic import ValidationError

from components.dataset.labels import LabelSet
from components.evaluator.config import EvaluationConfig

LABELS = LabelSet(names=("background", "cat"))


def test_a_class_threshold_for_a_known_class_is_accepted() -> None:
    EvaluationConfig(min_class_iou={"cat": 0.5}).check_classes(LABELS)


def test_a_class_threshold_for_an_unknown_class_names_key_value_and_choices() -> None:
    with pytest.raises(ValueError, match=r"evaluation\.min_class_iou.*'dog'.*background, cat"):
        EvaluationConfig(min_class_iou={"dog": 0.5}).check_classes(LABELS)


def test_an_unknown_class_that_may_be_unmeasured_names_key_value_and_choices() -> None:
    EvaluationConfig(allow_unmeasured_classes=("cat",)).check_classes(LABELS)
    with pytest.raises(ValueError, match=r"evaluation\.allow_unmeasured_classes.*'dog'.*background, cat"):
        EvaluationConfig(allow_unmeasured_classes=("cat", "dog")).check_classes(LABELS)


def test_a_slice_threshold_without_its_slice_names_key_value_and_remedy() -> None:
    with pytest.raises(ValidationError, match=r"evaluation\.min_slice_iou.*'breed'.*species.*add it"):
        EvaluationConfig(slices=("species",), min_slice_iou={"breed": {"Bengal": 0.5}})


@pytest.mark.parametrize(
    "block",
    [
        {"min_mean_iou": 1.5},
        {"min_mean_iou": float("nan")},
        {"min_class_iou": {"cat": -0.1}},
        {"max_regression": -0.01},
        {"min_iou": 0.5},
    ],
)
def test_impossible_values_and_unknown_keys_are_errors(block: dict) -> None:
    with pytest.raises(ValidationError):
        EvaluationConfig.model_validate(block)


def test_what_yaml_gives_is_accepted() -> None:
    config = EvaluationConfig.model_validate(
        {
            "min_mean_iou": 1,
            "max_regression": None,
            "slices": ["species"],
            "allow_unmeasured_classes": ["cat"],
            "min_slice_iou": {"species": {"cat": 0.5}},
        }
    )
    assert config.slices == ("species",)
