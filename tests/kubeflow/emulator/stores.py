"""What outlives a task: objects (``objectstore/object_store.go``), and what is remembered of artifacts
(``metadata/client.go``, ``metadata/converter.go``).
"""

import itertools
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

_SESSION: Final = '{"Provider":"s3","Params":{"fromEnv":"true"}}'


class ObjectStore:
    """Keys and bytes, and no folders: every object is a file below ``root``, its key the path."""

    def __init__(self, root: Path):
        self.root = root

    def upload(self, local: Path, uri: str) -> None:
        """UploadBlob: a file, or all files of a folder. An empty folder leaves nothing behind."""
        if not local.exists():
            # Allowed; the launcher only warns.
            return
        for path in _files(local):
            self._put(path, self._object(uri) / path.relative_to(local))

    def download(self, uri: str, local: Path) -> None:
        """DownloadBlob: makes the folders that files need, and so none where there is no file."""
        for path in _files(self._object(uri)):
            self._put(path, local / path.relative_to(self._object(uri)))

    def path(self, uri: str) -> Path:
        """Where the objects below a URI lie, for tests to look at."""
        return self._object(uri)

    def _object(self, uri: str) -> Path:
        scheme, _, key = uri.partition("://")
        if scheme not in ("s3", "gs", "minio") or not key:
            raise ValueError(f"unsupported storage scheme: {uri}")
        return self.root / key

    def _put(self, source: Path, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        # Bytes alone: neither permissions nor times.
        shutil.copyfile(source, target)


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    return sorted(found for found in path.rglob("*") if found.is_file())


class MetadataError(Exception):
    """What the backend would refuse to record."""


@dataclass(frozen=True)
class StoredArtifact:
    """An artifact as it was recorded."""

    id: int
    uri: str
    metadata: dict[str, Any]


class MetadataStore:
    """Artifacts by their ids, and which earlier tasks may answer for later ones."""

    def __init__(self, *, names_are_keys: bool = False) -> None:
        """Prepares a store.

        Args:
            names_are_keys: artifacts are called by their outputs' keys, as on backends without ML Metadata.
        """
        self._names_are_keys = names_are_keys
        self._ids = itertools.count(1)
        self._artifacts: dict[int, StoredArtifact] = {}
        self._cache: dict[tuple[str, str], dict[str, int]] = {}

    def record(self, key: str, artifact: pipeline_spec_pb2.RuntimeArtifact) -> StoredArtifact:
        """RecordArtifact: every output of an executed task is a new artifact, whatever it holds."""
        if not (artifact.type.instance_schema or artifact.type.schema_title):
            # getArtifactSchema in component/launcher_v2.go.
            raise MetadataError(f"output {key} has no type")
        metadata = {
            name: _as_recorded(name, value)
            for name, value in json_format.MessageToDict(artifact.metadata).items()
        }
        metadata.setdefault("display_name", key)
        metadata.setdefault("store_session_info", _SESSION)
        return self._add(artifact.uri, metadata)

    def imported(self, uri: str) -> StoredArtifact:
        """``findOrNewArtifactToImport`` in component/importer_launcher.go, of an importer that reimports.

        The artifact is new though one of that URI is there, and has no metadata but where its store is.
        """
        return self._add(uri, {"store_session_info": _SESSION})

    def _add(self, uri: str, metadata: dict[str, Any]) -> StoredArtifact:
        stored = StoredArtifact(next(self._ids), uri, metadata)
        self._artifacts[stored.id] = stored
        return stored

    def runtime_artifact(self, artifact_id: int) -> pipeline_spec_pb2.RuntimeArtifact:
        """ToRuntimeArtifact: as a rule the id for a name, and a type that says nothing."""
        stored = self._artifacts[artifact_id]
        name = stored.metadata["display_name"] if self._names_are_keys else str(stored.id)
        artifact = pipeline_spec_pb2.RuntimeArtifact(name=name, uri=stored.uri)
        # Nothing that comes out of the store knows its schema ("figure out how to get schema").
        artifact.type.instance_schema = ""
        artifact.metadata.update(stored.metadata)
        return artifact

    def artifact(self, artifact_id: int) -> StoredArtifact:
        return self._artifacts[artifact_id]

    def cached(self, pipeline: str, fingerprint: str) -> dict[str, int] | None:
        """The outputs of the newest task of that pipeline with that fingerprint (``cacheutils/cache.go``)."""
        return self._cache.get((pipeline, fingerprint))

    def remember(self, pipeline: str, fingerprint: str, outputs: dict[str, int]) -> None:
        self._cache[pipeline, fingerprint] = outputs


def _as_recorded(name: str, value: Any) -> Any:
    """StructValueToMLMDValue and back."""
    if value is None:
        raise MetadataError(f"metadata {name} is null: unknown/unsupported value type")
    if isinstance(value, bool):
        return float(value)
    if isinstance(value, list):
        return {"list": value}
    if isinstance(value, dict):
        return {"struct": value}
    return value
