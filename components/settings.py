"""The base of every stage's part of the recipe."""

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """Immutable, strictly typed settings; an unknown key is an error, not a surprise."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        validate_default=True,
    )
