"""Has artifacts carry a note of their files, so that what is left of one is not taken for all of it.

The backend's cache answers with artifacts of which it knows the address alone (``reuseCachedOutputs`` in
``v2/driver/cache.go``), and the launcher copies what objects it finds there, or none (``DownloadBlob`` in
``v2/objectstore/object_store.go``). Some may be gone: a bucket can have a rule for how long it keeps objects.
The note is metadata, which come back with an artifact, also with one that the cache has answered with
(``collectOutputArtifactMetadataFromCache``), and which the cache's key does not hold.

There may be more, too: all attempts at a task have one address, unless engines write there, and nothing
removes what one left whose pod was lost after it had begun to upload.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final

from components.bucket import is_remote
from components.errors import StageError
from pipeline.kubeflow.executor_input import artifacts
from pipeline.kubeflow.uris import local_path

if TYPE_CHECKING:
    from kfp.pipeline_spec.pipeline_spec_pb2 import ExecutorOutput

NOTE: Final = "kubeflow_contents"

_OF_ONE_ATTEMPT: Final = ("events.out.tfevents.*", "predictions/epoch-*.png")
"""The Trainer's records for people, which no stage reads and of which an earlier attempt's may lie beside the
last one's. TensorBoard's have time, machine and process in their names; pictures are as many as epochs, and a
GPU may need another number of these until it stops early."""

Files = Iterable[tuple[str, int]]
"""Name, within the artifact, and bytes of each."""


def local_files(uri: str) -> Files:
    """Yields the files of the copy from which the launcher makes an artifact, or that it has made of one.

    Args:
        uri: the artifact's, a folder's or a file's.
    """
    root = Path(local_path(uri))
    for path in [root] if root.is_file() else root.rglob("*"):
        if path.is_file():
            yield path.relative_to(root).as_posix(), path.stat().st_size


def add_notes(output: "ExecutorOutput", files: Callable[[str], Files]) -> None:
    """Notes of each output what files it has that are the same in each attempt at its stage.

    Args:
        output: as the launcher takes it; changed in place.
        files: yields those of the artifact with this URI.
    """
    for _, artifact in artifacts(output.artifacts):
        # Other machines that train, too, have paths, and nothing of what they say is recorded.
        if is_remote(artifact.uri):
            artifact.metadata[NOTE] = _note(files(artifact.uri))


def require_whole(key: str, uri: str, metadata: Mapping[str, Any]) -> None:
    """Looks whether the launcher has copied all of an input.

    Args:
        key: the input's name.
        uri: the artifact's.
        metadata: the artifact's; without a note where no stage has made it, a dataset for one.

    Raises:
        StageError: it is not what was made.
    """
    made = metadata.get(NOTE)
    if made is None or not is_remote(uri):
        return
    found = _note(local_files(uri))
    if made == found:
        return
    what = f"(made: {made}; left: {found})"
    remedy = "submit with --no-cache, or first delete in Kubeflow the run whose id is in that address"
    if _count(found) > _count(made):
        raise StageError(
            f"{key}: more objects are below {uri} than a stage made {what}; an earlier attempt at that stage "
            f"may have left them: {remedy}"
        )
    raise StageError(
        f"{key}: objects below {uri} have gone or changed since a stage made them {what}; the bucket must "
        f"keep what the cache answers with: {remedy}"
    )


def _note(files: Files) -> str:
    listed = sorted(file for file in files if not any(map(PurePosixPath(file[0]).match, _OF_ONE_ATTEMPT)))
    digest = hashlib.sha256("".join(f"{name}\0{size}\n" for name, size in listed).encode()).hexdigest()
    return f"{len(listed)} files, {sum(size for _, size in listed)} bytes, {digest[:16]}"


def _count(note: str) -> int:
    return int(note.partition(" ")[0])
