"""Where the launcher of Kubeflow Pipelines keeps the artifacts while a task runs.

It copies them between the object store and the container's own disk (``LocalPathForURI`` in the backend's
``v2/component/launcher_v2.go``). TensorFlow reads neither ``s3://`` nor ``minio://``, and credentials belong
to the launcher alone; the copies need none.
"""

import re
from typing import Final

DATASET_URI: Final = re.compile(r"(s3|gs|minio)://[^/?#%\s]+(/(?!\.{1,2}(/|$))[^/?#%\s]+)+")
"""A folder in a bucket. The backend takes what follows a ``?`` for settings of the bucket, cannot fetch a
whole bucket (``KeyFromURI`` in ``v2/objectstore/config.go``), and newer ones decode ``%20`` and its like."""

_LOCAL_ROOTS: Final = {"s3://": "/s3/", "gs://": "/gcs/", "minio://": "/minio/"}


def is_remote(text: str) -> bool:
    """Whether a text names something in an object store."""
    return text.startswith(tuple(_LOCAL_ROOTS))


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
