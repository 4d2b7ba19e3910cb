"""What the launcher hands to a task and takes from it: ``ExecutorInput`` and ``ExecutorOutput``."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from kfp.pipeline_spec.pipeline_spec_pb2 import RuntimeArtifact

PUSHED_MODEL: Final = "pushed_model"
"""Key of the model that the Pusher has pushed."""


def artifacts(lists: object) -> "Iterator[tuple[str, RuntimeArtifact]]":
    """Yields each artifact with its key.

    Args:
        lists: ``artifacts`` of inputs or outputs, a protobuf map from keys to ``ArtifactList``.
    """
    for key, members in lists.items():  # type: ignore[attr-defined]  # A protobuf map has no type of its own.
        for artifact in members.artifacts:
            yield key, artifact
