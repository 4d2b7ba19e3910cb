"""The recipe's ``transform`` block."""

import pytest
from pydantic import ValidationError

from components.transform.config import TransformConfig


def test_nothing_said_is_rgb_with_the_normalisation_left_open() -> None:
    config = TransformConfig()
    assert (config.channels, config.normalization) == (3, None)


@pytest.mark.parametrize("channels", [0, 2, 5, "3", None])
def test_other_than_grey_rgb_and_rgba_is_refused(channels: object) -> None:
    with pytest.raises(ValidationError, match="channels"):
        TransformConfig.model_validate({"channels": channels})


@pytest.mark.parametrize("channels", [1, 4])
def test_imagenets_moments_are_for_three_channels_only(channels: int) -> None:
    with pytest.raises(ValidationError) as refused:
        TransformConfig.model_validate({"channels": channels, "normalization": "imagenet"})
    [error] = refused.value.errors()
    assert "\n" not in error["msg"]
    for named in ("transform.normalization is imagenet", f"transform.channels is {channels}", "use unit"):
        assert named in error["msg"]


@pytest.mark.parametrize("normalization", [None, "unit", "signed", "dataset"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_other_normalisations_suit_any_channels(channels: int, normalization: str | None) -> None:
    config = TransformConfig.model_validate({"channels": channels, "normalization": normalization})
    assert TransformConfig.model_validate_json(config.model_dump_json()) == config
