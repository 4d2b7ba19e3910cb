"""The Trainer's part of the recipe: what goes together, and what does not."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from components.dataset.labels import LabelSet
from components.settings import Settings
from components.trainer.config import contradictions
from components.trainer.model_config import ModelConfig
from components.trainer.training_config import AugmentationConfig, TrainingConfig

LABELS = LabelSet(names=("ground", "disc", "square"))


def read(config: type[Settings], values: dict[str, Any]) -> Any:
    """As a recipe is read: by way of JSON."""
    return config.model_validate_json(json.dumps(values))


@pytest.mark.parametrize(
    ("config", "values", "message"),
    [
        (
            ModelConfig,
            {"encoder": "MobileNetV2", "depth": 4},
            "model.depth is 4, but the depth of MobileNetV2",
        ),
        (
            ModelConfig,
            {"encoder": "MobileNetV2", "strided_stem": True},
            "model.strided_stem is true, but the stem of MobileNetV2",
        ),
        (ModelConfig, {"freeze_encoder": True}, "model.freeze_encoder is true, but there is no encoder"),
        (
            ModelConfig,
            {"encoder_weights": "imagenet"},
            "model.encoder_weights is 'imagenet', but there is no",
        ),
        (ModelConfig, {"encoder": "VGG"}, "Input should be 'MobileNetV2'"),
        (AugmentationConfig, {"scale_crop": [2.0, 0.5]}, "scale_crop is [2.0, 0.5]; give the smaller first"),
        (
            TrainingConfig,
            {"loss": {}},
            "training.loss is empty; give at least one a weight: cross_entropy, dice",
        ),
        (TrainingConfig, {"loss": {"dice": None}}, "training.loss is empty"),
        (TrainingConfig, {"loss": {"dice": 0.0}}, "greater than 0"),
        (TrainingConfig, {"loss": {"dice": {"weight": 0}}}, "greater than 0"),
        (TrainingConfig, {"loss": {"focal": {"gamma": -1}}}, "greater than or equal to 0"),
        (TrainingConfig, {"loss": {"focal": {"label_smoothing": 1}}}, "less than 1"),
        (TrainingConfig, {"loss": {"tversky": True}}, "should be a valid number"),
        (TrainingConfig, {"class_weights": "rare"}, "Input should be 'none', 'inverse'"),
        (TrainingConfig, {"class_weights": [0.0, 0.0]}, "training.class_weights are all 0"),
        (TrainingConfig, {"epochs": 3, "warmup_epochs": 3}, "leaves nothing of the 3 training.epochs"),
        (TrainingConfig, {"momentum": 0.5}, "training.momentum is 0.5, but training.optimizer is adam; it"),
        (TrainingConfig, {"weight_decay": 0.1, "optimizer": "rmsprop"}, "it belongs to adamw and sgd"),
        (TrainingConfig, {"fine_tuning_learning_rate": 1e-5}, "but training.fine_tuning_epochs is 0"),
        (TrainingConfig, {"ema_momentum": 1.0}, "less than 1"),
        (TrainingConfig, {"optimizer": "adamw"}, "but training.weight_decay is 0; give it one"),
        (
            ModelConfig,
            {"filters": 128},
            "model.filters is 128, which makes 2,048 at the deepest of 5 levels; take 64 at most",
        ),
        (
            ModelConfig,
            {"filters": 129, "encoder": "MobileNetV2"},
            "makes 1,032 at the deepest of 4 levels; take 128 at most",
        ),
    ],
)
def test_what_cannot_be_meant_is_said_in_one_line(
    config: type[Settings], values: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        read(config, values)
    [problem] = caught.value.errors()
    assert message in problem["msg"]
    assert "\n" not in problem["msg"]


@pytest.mark.parametrize(
    ("config", "values"),
    [
        (ModelConfig, {"encoder": "DenseNet121", "freeze_encoder": True, "filters": 64}),
        (ModelConfig, {"depth": 3}),
        (ModelConfig, {"filters": [1024, 1024]}),
        (AugmentationConfig, {"scale_crop": [0.5, 2], "rotate": 15}),
        (TrainingConfig, {"loss": {"cross_entropy": 1, "tversky": {"weight": 0.5, "alpha": 0.5}}}),
        (TrainingConfig, {"optimizer": "sgd", "momentum": 0.5, "weight_decay": 1e-4}),
        (TrainingConfig, {"class_weights": [1, 2.5, 0]}),
        (TrainingConfig, {"mixed_precision": "none", "jit_compile": False}),
    ],
)
def test_settings_survive_the_way_to_the_trainer(config: type[Settings], values: dict[str, Any]) -> None:
    settings = read(config, values)
    assert config.model_validate_json(settings.model_dump_json()) == settings


def test_a_number_in_place_of_a_loss_is_its_weight() -> None:
    given, written_out = (
        read(TrainingConfig, {"loss": {"dice": loss, "cross_entropy": 1}}) for loss in (2, {"weight": 2})
    )
    assert given == written_out
    assert given.loss.model_dump() == {
        "cross_entropy": {"weight": 1.0, "label_smoothing": 0.0},
        "dice": {"weight": 2.0},
    }
    assert TrainingConfig().loss.model_dump().keys() == {"cross_entropy"}


def test_the_stride_is_that_of_the_levels_or_the_encoder() -> None:
    assert [ModelConfig().stride, ModelConfig(depth=3).stride] == [16, 4]
    assert ModelConfig(depth=3, strided_stem=True).stride == 8
    assert ModelConfig(encoder="MobileNetV2").stride == 32


@pytest.mark.parametrize(
    ("model", "augmentation", "training", "shape", "message"),
    [
        ({}, {}, {"fine_tuning_epochs": 2}, (32, 32, 3), "fine_tuning_epochs is 2, but nothing is frozen"),
        (
            {},
            {},
            {"class_weights": [1, 2]},
            (32, 32, 3),
            "2 values for 3 classes; give one each for ground, ",
        ),
        (
            {"test_time_augmentation": {"scales": [1.25]}},
            {},
            {},
            (32, 32, 3),
            "scales has 1.25, which makes 32 x 32 pixels, the nearest multiple of 16, as another",
        ),
        (
            {"test_time_augmentation": {"scales": [0.5, 0.6]}},
            {},
            {},
            (64, 64, 3),
            "scales has 0.6, which makes 32 x 32 pixels",
        ),
        ({"test_time_augmentation": {"scales": [1.5]}}, {}, {}, (32, 32, 3), None),
        ({}, {"rot90": True}, {}, (32, 64, 3), "turns by rot90, but the input is 32 x 64"),
        ({}, {"hue": 0.1}, {}, (32, 32, 1), "changes hue, but images have 1 channels"),
        (
            {"encoder": "MobileNetV2", "freeze_encoder": True},
            {},
            {"fine_tuning_epochs": 2},
            (32, 32, 3),
            None,
        ),
    ],
)
def test_blocks_must_agree(
    model: dict[str, Any],
    augmentation: dict[str, Any],
    training: dict[str, Any],
    shape: tuple[int, int, int],
    message: str | None,
) -> None:
    problems = list(
        contradictions(
            read(ModelConfig, model),
            read(AugmentationConfig, augmentation),
            read(TrainingConfig, training),
            LABELS,
            shape,
        )
    )
    assert len(problems) == (message is not None)
    assert message is None or message in problems[0]
