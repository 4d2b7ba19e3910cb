"""Where a model's versions go, and how many stay: the Pusher's part of the recipe's ``serving`` block."""

from pydantic import Field

from components.settings import Settings


class ServingConfig(Settings):
    """Under which name an approved model is served, and how many versions of it are kept."""

    model_name: str = Field(default="segmentation", pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$", max_length=128)
    """Directory under ``serving/`` and the name clients ask for: letters, digits, ``_``, ``.``, ``-``."""
    keep_versions: int = Field(default=3, ge=1)
    """Older versions are removed after a push; a server rolls back to one that is still there."""
