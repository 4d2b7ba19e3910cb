"""Which served version a candidate is compared with, as a token that can be kept and read again."""

from pathlib import Path
from typing import Final

from components.model_store import store

NOTHING: Final = "nothing"
"""The token for: no model is served."""


def baseline_token(candidate: Path, serving_dir: Path) -> str:
    """Returns the token of what a candidate is to be compared with.

    That is the newest served version, unless the candidate itself is that version. Then it is what the
    candidate was compared with before it was pushed: a rerun with nothing changed asks the same
    question again, and no model is its own baseline.

    Args:
        candidate: SavedModel of the candidate.
        serving_dir: the directory of the served versions.
    """
    served = store.newest(serving_dir)
    if served is None:
        return NOTHING
    fingerprint = served.fingerprint()
    if fingerprint == store.content_fingerprint(candidate):
        earlier = served.provenance().get(store.BASELINE_TOKEN_KEY)
        if earlier:
            return earlier
    return f"{served.number}:{fingerprint}"


def find(token: str, serving_dir: Path) -> store.Version | None:
    """Returns the version that a token stands for, None where it is not served any more, or is another."""
    number, _, fingerprint = token.partition(":")
    if token == NOTHING or int(number) not in store.versions(serving_dir):
        return None
    version = store.Version(int(number), serving_dir / number)
    return version if version.fingerprint() == fingerprint else None
