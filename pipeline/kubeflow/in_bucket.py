"""Has a stage work on its artifacts where they are, in Google Cloud Storage, which an engine's workers see.

The launcher copies inputs onto the pod's disk all the same. Of outputs it uploads the folders that stand for
them there (``UploadBlob`` in the backend's ``v2/objectstore/object_store.go``), which stay empty: nothing.
"""

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from components.errors import StageError
from pipeline.kubeflow.executor_input import artifacts
from pipeline.kubeflow.uris import local_path

if TYPE_CHECKING:
    from apache_beam.io.gcp.gcsio import GcsIO
    from kfp.pipeline_spec.pipeline_spec_pb2 import ExecutorInput

SCHEME: Final = "gs://"


@contextmanager
def new_outputs(given: "ExecutorInput", beam_args: Sequence[str]) -> Iterator["ExecutorInput"]:
    """Gives a stage its input with a new folder for each output, below the one that is meant for it.

    Each attempt at a task has its own, since an engine may go on with the job of one that was killed. What an
    attempt before has left is removed, and what this one has written if it fails.

    Args:
        given: with URIs of the object store, those of `artifacts.declare`.
        beam_args: Beam's command line, which may say whose rights to use.

    Raises:
        StageError: the outputs are elsewhere, or the bucket refuses.
    """
    from apache_beam.io.gcp.gcsio import GcsIO
    from apache_beam.options.pipeline_options import PipelineOptions
    from google.api_core.exceptions import GoogleAPICallError

    outputs = [artifact for _, artifact in artifacts(given.outputs.artifacts)]
    if elsewhere := [artifact.uri for artifact in outputs if not artifact.uri.startswith(SCHEME)]:
        raise StageError(
            f"the pipeline root of this run has the output {elsewhere[0]}, but the package was compiled for "
            f"one in {SCHEME}, where the engine's workers read and write; submit it with that one"
        )
    bucket = GcsIO(pipeline_options=PipelineOptions(list(beam_args)))
    attempt = f"attempt-{uuid.uuid4().hex[:8]}"
    try:
        for artifact in outputs:
            _remove(bucket, artifact.uri)
            artifact.uri += f"/{attempt}"
        yield given
        for artifact in outputs:
            # TensorFlow's folders are objects, of which the launcher would make files in the way of others.
            _remove(bucket, artifact.uri, "/")
            # It records no output that is not on the pod's disk.
            Path(local_path(artifact.uri)).mkdir(parents=True, exist_ok=True)
    except BaseException as error:
        for artifact in outputs:
            with suppress(Exception):
                _remove(bucket, artifact.uri)
        if isinstance(error, GoogleAPICallError):
            raise StageError(
                f"{outputs[0].uri} cannot be written: {error.message}; the stage's service account must be "
                "allowed to read, write and delete objects there"
            ) from error
        raise


def files(uri: str, beam_args: Sequence[str]) -> Iterator[tuple[str, int]]:
    """Yields name and bytes of an artifact's files, as `contents.local_files` does of the launcher's copies.

    Args:
        uri: the artifact's.
        beam_args: Beam's command line, which may say whose rights to use.
    """
    from apache_beam.io.gcp.gcsio import GcsIO
    from apache_beam.options.pipeline_options import PipelineOptions

    bucket = GcsIO(pipeline_options=PipelineOptions(list(beam_args)))
    for name, size in bucket.list_files(f"{uri}/"):
        yield name.removeprefix(f"{uri}/"), size


def _remove(bucket: "GcsIO", folder: str, ending: str = "") -> None:
    """Removes the objects below a folder whose names end so."""
    names = [name for name, _ in bucket.list_files(f"{folder}/") if name.endswith(ending)]
    for name, error in bucket.delete_batch(names):
        if error is not None:
            raise StageError(f"{name} cannot be removed: {error}")
