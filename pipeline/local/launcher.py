"""TFX's launcher, whose cache asks only whether artifacts are there; here they must be what was published."""

import json
import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Final

import tensorflow as tf
from tfx.orchestration.portable import cache_utils, launcher
from tfx.types import Artifact, standard_artifacts

from components.errors import StageError
from components.files import sha256, visible_files
from pipeline.failures import is_data_loss, without_graph
from pipeline.local.running_code import RunningCode

CHECKSUMS: Final = "checksums"
"""Custom property of an artifact: what its files were when it was published, as `checksums` says it."""
_OTHER_CODE: Final = "other code"
"""In its place: the artifact is not, or may not be, what the code makes that the cache's key is of."""

# Below the stages' own, which is shown on the terminal.
logger = logging.getLogger("components.cache")


class Launcher(launcher.Launcher):
    """Publishes artifacts with checksums, and reuses none that has become another one.

    Where a file is missing, cut, changed or new, the cache passes the artifact by, and its stage runs again.
    Of Examples, which may be as large as the data, only the files' sizes are compared: each record has a
    checksum of its own, and whoever reads it compares that. A stage that fails over such a record says so,
    and the Examples are not reused. Over anything else no artifact is looked at: the next run's cache does.

    Nor is anything reused that was made after the code had changed under the run, or lies in another work
    directory.
    """

    def __init__(self, code: RunningCode, **stage: Any) -> None:
        """Prepares a stage.

        Args:
            code: what the run began with.
            stage: what TFX's launcher takes.
        """
        super().__init__(**stage)
        self._code = code

    def _prepare_execution(self) -> Any:
        differences: dict[int, str] = {}
        # The one question that the cache asks of what it has found.
        asked = cache_utils.artifact_utils.verify_artifacts

        def verify(artifacts: Mapping[str, Sequence[Artifact]]) -> None:
            for artifact in chain(*artifacts.values()):
                if what := self._elsewhere(artifact):
                    differences[artifact.id] = what
                    raise RuntimeError(what)
            asked(artifacts)
            for artifact in chain(*artifacts.values()):
                # It asks for one earlier run after the other, and most have reused what another one made.
                if artifact.id not in differences:
                    differences[artifact.id] = difference(artifact)
                if what := differences[artifact.id]:
                    raise RuntimeError(what)

        cache_utils.artifact_utils.verify_artifacts = verify
        try:
            prepared = super()._prepare_execution()
        finally:
            cache_utils.artifact_utils.verify_artifacts = asked
        if prepared.is_execution_needed and (what := next(filter(None, differences.values()), "")):
            logger.warning("%s: this stage runs again", what)
        return prepared

    def _run_executor(self, execution_info: Any) -> Any:
        # Where the metadata was removed numbers begin anew, and what bears this one is of another execution.
        for artifact in chain(*execution_info.output_dict.values()):
            if Path(artifact.uri).exists():
                shutil.rmtree(artifact.uri)
        try:
            return super()._run_executor(execution_info)
        except StageError:
            raise
        except Exception as error:
            # Reading all records may take as long as the stage has.
            if is_data_loss(error):
                for artifact in chain(*execution_info.input_dict.values()):
                    if what := damaged_record(artifact):
                        self._withdraw(artifact)
                        raise StageError(f"{what}; run the same command again: it is made anew") from error
            raise

    def _publish_successful_execution(
        self,
        execution_id: int,
        contexts: Any,
        output_dict: Mapping[str, Sequence[Artifact]],
        executor_output: Any,
    ) -> None:
        as_begun = self._code.is_as_it_was()
        for key, artifacts in output_dict.items():
            # What the executor has returned is what is published.
            for artifact, published in zip(
                artifacts, executor_output.output_artifacts[key].artifacts, strict=True
            ):
                published.custom_properties[CHECKSUMS].string_value = (
                    json.dumps(checksums(artifact)) if as_begun else _OTHER_CODE
                )
        super()._publish_successful_execution(execution_id, contexts, output_dict, executor_output)

    def _elsewhere(self, artifact: Artifact) -> str:
        """Says that an artifact is not below this run's; empty where it is, over whatever links.

        Its place is absolute: in a work directory that was moved or copied it is that of before, where
        another run may have written another artifact of the same number.
        """
        root = Path(self._pipeline_runtime_spec.pipeline_root.field_value.string_value)
        place = Path(artifact.uri)
        if place.is_relative_to(root):
            return ""
        # os.path: where an old place may not be looked at, it is none of this run's.
        if root.exists() and any(
            os.path.exists(parent) and parent.samefile(root) for parent in place.parents
        ):
            return ""
        return f"{artifact.uri} is not in this work directory, which was moved or copied"

    def _withdraw(self, artifact: Artifact) -> None:
        """Keeps the cache from an artifact."""
        artifact.set_string_custom_property(CHECKSUMS, "")
        with self._mlmd_connection as metadata:
            metadata.store.put_artifacts([artifact.mlmd_artifact])


def checksums(artifact: Artifact) -> dict[str, str]:
    """Returns the SHA-256 of each of an artifact's files, by its path in it; of a shard of Examples the size.

    Hidden files do not count: none is an artifact's, and programs that show folders leave some.
    """
    root, sized = Path(artifact.uri), _holds_examples(artifact)
    return {
        path.relative_to(root).as_posix(): str(path.stat().st_size) if sized else sha256(path)
        for path in visible_files(root)
    }


def difference(artifact: Artifact) -> str:
    """Says which file is not the one that was published, or why none counts; empty where all are the same."""
    if artifact.get_string_custom_property(CHECKSUMS) == _OTHER_CODE:
        return f"{artifact.uri} was made after the code had changed under its run"
    try:
        published = json.loads(artifact.get_string_custom_property(CHECKSUMS))
        found = checksums(artifact)
    except ValueError:
        return f"{artifact.uri} has no checksums"
    except OSError as error:
        return f"{error.filename or artifact.uri} cannot be read: {error.strerror}"
    for name in sorted(published.keys() | found.keys()):
        path = Path(artifact.uri, name)
        if name not in found:
            return f"{path} is gone"
        if name not in published:
            return f"{path} was not written by this stage"
        if published[name] != found[name]:
            return f"{path} has changed since it was written"
    return ""


def damaged_record(artifact: Artifact) -> str:
    """Says which shard of Examples has a record that its checksum does not fit.

    Empty where none has, or where a shard cannot be read now, which says nothing of what is in it.
    """
    if not _holds_examples(artifact):
        return ""
    logger.info("a record cannot be read: looking for it in %s", artifact.uri)
    try:
        for path in visible_files(Path(artifact.uri)):
            records = tf.data.TFRecordDataset(str(path), "GZIP" if path.suffix == ".gz" else "")
            try:
                records.reduce(0, lambda count, _: count + 1)
            except tf.errors.DataLossError as error:
                return f"{path} has a record that cannot be read: {without_graph(error.message)}"
    except (OSError, tf.errors.OpError):
        logger.warning("%s cannot be read as a whole", artifact.uri, exc_info=True)
    return ""


def _holds_examples(artifact: Artifact) -> bool:
    return artifact.type_name == standard_artifacts.Examples.TYPE_NAME
