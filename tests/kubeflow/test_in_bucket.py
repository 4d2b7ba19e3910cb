"""Outputs of a stage that works in a bucket: each attempt's are its own, and nothing stays that is none."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from google.api_core.exceptions import Forbidden
from google.protobuf import json_format
from kfp.pipeline_spec.pipeline_spec_pb2 import ExecutorInput, ExecutorOutput

from components.errors import StageError
from pipeline.kubeflow import contents, in_bucket, uris

RUN = "gs://bucket/run/Transform/1"


class Bucket:
    """As much of Beam's client as is used."""

    names: set[str]
    refused: Exception | None

    def __init__(self, pipeline_options: Any):
        pass

    def list_files(self, path: str) -> Iterator[tuple[str, int]]:
        if self.refused:
            raise self.refused
        yield from ((name, 0) for name in sorted(self.names) if name.startswith(path))

    def delete_batch(self, paths: list[str]) -> list[tuple[str, None]]:
        Bucket.names -= {*paths}
        return [(path, None) for path in paths]


@pytest.fixture(autouse=True)
def bucket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> type[Bucket]:
    Bucket.names, Bucket.refused = set(), None
    monkeypatch.setattr("apache_beam.io.gcp.gcsio.GcsIO", Bucket)
    monkeypatch.setattr(uris, "_LOCAL_ROOTS", {"gs://": f"{tmp_path}/gcs/"})
    return Bucket


def given(root: str = RUN) -> ExecutorInput:
    outputs = {key: {"artifacts": [{"uri": f"{root}/{key}"}]} for key in ("graph", "graph_cache")}
    return json_format.ParseDict({"outputs": {"artifacts": outputs}}, ExecutorInput())


def written(attempt: ExecutorInput) -> str:
    return attempt.outputs.artifacts["graph"].artifacts[0].uri


def test_an_attempt_writes_below_its_outputs_place_and_leaves_files_alone(
    bucket: type[Bucket], tmp_path: Path
) -> None:
    with in_bucket.new_outputs(given(), []) as attempt:
        uri = written(attempt)
        assert uri.startswith(f"{RUN}/graph/attempt-")
        bucket.names |= {f"{uri}/", f"{uri}/assets/", f"{uri}/assets/a"}
    assert bucket.names == {f"{uri}/assets/a"}
    # The launcher records what is on the pod's disk, and has nothing to upload.
    folder = tmp_path / "gcs" / uri.removeprefix("gs://")
    assert folder.is_dir() and not list(folder.iterdir())


def test_a_note_of_objects_is_that_of_the_launchers_copies(bucket: type[Bucket], tmp_path: Path) -> None:
    uri = f"{RUN}/graph/attempt-1"
    names = ("saved_model.pb", "assets/a")
    bucket.names |= {f"{uri}/{name}" for name in names} | {f"{uri}0/b"}
    for name in names:
        copy = tmp_path / "gcs" / uri.removeprefix("gs://") / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.touch()
    output = json_format.ParseDict({"artifacts": {"graph": {"artifacts": [{"uri": uri}]}}}, ExecutorOutput())
    contents.add_notes(output, partial(in_bucket.files, beam_args=[]))
    metadata = json_format.MessageToDict(output.artifacts["graph"].artifacts[0].metadata)
    contents.require_whole("graph", uri, metadata)
    copy.unlink()
    with pytest.raises(StageError, match=r"^graph: .* \(made: 2 files, 0 bytes, \w+; left: 1 files, "):
        contents.require_whole("graph", uri, metadata)


def test_what_an_attempt_before_has_left_goes_and_nothing_else(bucket: type[Bucket]) -> None:
    others = {f"{RUN}/graph_of_others/a", f"{RUN}/executor-logs-0", "gs://bucket/run/Trainer/1/graph/a"}
    bucket.names |= others | {f"{RUN}/graph/attempt-0/a", f"{RUN}/graph_cache/attempt-0/a"}
    with in_bucket.new_outputs(given(), []) as attempt:
        assert bucket.names == others and not written(attempt).endswith("/attempt-0")


def test_a_failed_attempt_leaves_nothing(bucket: type[Bucket]) -> None:
    def stage() -> None:
        with in_bucket.new_outputs(given(), []) as attempt:
            bucket.names.add(f"{written(attempt)}/half")
            raise StageError("no masks")

    with pytest.raises(StageError, match="no masks"):
        stage()
    assert not bucket.names


def test_another_root_than_the_package_was_compiled_for_is_one_line() -> None:
    with (
        pytest.raises(StageError, match=r"^the pipeline root of this run has the output s3://b/graph.*, but"),
        in_bucket.new_outputs(given("s3://b"), []),
    ):
        pass


def test_a_bucket_that_refuses_is_one_line(bucket: type[Bucket]) -> None:
    bucket.refused = Forbidden("tester does not have storage.objects.list access")
    with (
        pytest.raises(
            StageError, match=r"^gs://bucket/run/.* cannot be written: tester does not have .* del"
        ),
        in_bucket.new_outputs(given(), []),
    ):
        pass
