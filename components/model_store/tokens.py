"""What is served, as the words by which a cache tells whether to compare a candidate, or push it, anew."""

import uuid
from pathlib import Path
from typing import Final

from components.model_store.store import Version, content_fingerprint, newest, versions

BASELINE_TOKEN_KEY: Final = "baseline_token"
"""In the provenance, and a property of the Baseline's artifact: what the model was compared with."""
PUSH_TOKEN_KEY: Final = "push_token"
"""In the provenance, and a parameter of the Pusher: which push made the version."""
SERVED_MODEL_KEY: Final = "served_model"
"""A parameter of the Baseline: the `baseline_token` that it is to answer with."""
NO_BASELINE: Final = "nothing"
"""The `baseline_token` where no model is served but perhaps the candidate."""


def already_served(candidate: Path, serving_dir: Path) -> Version | None:
    """Returns the newest version if it is this very model."""
    served = newest(serving_dir)
    same = served is not None and served.fingerprint() == content_fingerprint(candidate)
    return served if same else None


def push_token(served: Version | None) -> str:
    """Returns the token of the push that made the newest version of a model, or one that no cache knows.

    A push is still good while the version it made is the newest one; that version keeps its token. It is
    not good any more once the version is deleted or another one is newer.

    Args:
        served: the newest version if it is the model, as `already_served` says.
    """
    earlier = served.provenance().get(PUSH_TOKEN_KEY) if served else None
    return earlier or uuid.uuid4().hex


def baseline_token(candidate: Path, serving_dir: Path) -> str:
    """Returns what a candidate is to be compared with, as a token that can be kept and read again.

    That is the newest served version, unless the candidate itself is that version. Then it is what the
    candidate was compared with before it was pushed, or nothing if nobody knows: a rerun with nothing
    changed asks the same question again, and no model is its own baseline.

    Args:
        candidate: SavedModel of the candidate.
        serving_dir: the directory of the served versions.

    Raises:
        StageError: the newest version is not what was pushed.
    """
    served = newest(serving_dir)
    if served is None:
        return NO_BASELINE
    fingerprint = served.sound_fingerprint()
    if fingerprint == content_fingerprint(candidate):
        # None of one that came in another way than by a push.
        return served.provenance().get(BASELINE_TOKEN_KEY) or NO_BASELINE
    return f"{served.number}:{fingerprint}"


def find_baseline(token: str, serving_dir: Path) -> Version | None:
    """Returns the version that a token stands for, None where it is not served any more, or is another.

    Raises:
        StageError: it is not what was pushed.
    """
    number, _, fingerprint = token.partition(":")
    if token == NO_BASELINE or int(number) not in versions(serving_dir):
        return None
    version = Version(int(number), serving_dir / number)
    return version if version.sound_fingerprint() == fingerprint else None
