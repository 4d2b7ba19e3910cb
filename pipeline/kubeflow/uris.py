"""Places in an object store, and the launcher's copies of them on the container's disk."""

from typing import Final

_LOCAL_ROOTS: Final = {"s3://": "/s3/", "gs://": "/gcs/", "minio://": "/minio/"}
"""``LocalPathForURI`` in the backend's ``v2/component/launcher_v2.go``."""


def local_path(text: str) -> str:
    """Returns the launcher's copy of what a URI names; any other text as it is."""
    return _replace_prefix(text, _LOCAL_ROOTS)


def remote_uri(text: str) -> str:
    """Returns the URI that a path below one of the launcher's roots is a copy of; any other text as it is."""
    return _replace_prefix(text, {root: scheme for scheme, root in _LOCAL_ROOTS.items()})


def _replace_prefix(text: str, replacements: dict[str, str]) -> str:
    for prefix, replacement in replacements.items():
        if text.startswith(prefix):
            return replacement + text.removeprefix(prefix)
    return text
