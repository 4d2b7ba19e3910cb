"""Where the launcher of Kubeflow Pipelines keeps the artifacts while a task runs.

It copies them between the object store and the container's own disk (``LocalPathForURI`` in the backend's
``v2/component/launcher_v2.go``). TensorFlow reads neither ``s3://`` nor ``minio://``, and credentials belong
to the launcher alone; the copies need none.
"""

from typing import Final

_LOCAL_ROOTS: Final = {"s3://": "/s3/", "gs://": "/gcs/", "minio://": "/minio/"}


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
