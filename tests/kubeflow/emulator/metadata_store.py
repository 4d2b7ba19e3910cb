"""What the backend remembers of artifacts (``metadata/client.go``, ``metadata/converter.go``)."""

import itertools
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

_SESSION: Final = '{"Provider":"s3","Params":{"fromEnv":"true"}}'


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

    def __init__(self) -> None:
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
        """ToRuntimeArtifact: the id for a name, and a type that says nothing."""
        stored = self._artifacts[artifact_id]
        artifact = pipeline_spec_pb2.RuntimeArtifact(name=str(stored.id), uri=stored.uri)
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
