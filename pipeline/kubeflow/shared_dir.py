"""Lends a stage's artifacts to other machines: as copies in a directory that these mount at the same path.

The launcher's copies lie on the pod's own disk, which no worker of an engine and no second trainer sees. The
directory holds them under the paths that they have there, as if it were that disk's root.
"""

import copy
import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from components.errors import StageError
from pipeline.kubeflow.executor_input import artifacts

if TYPE_CHECKING:
    from kfp.pipeline_spec.pipeline_spec_pb2 import ExecutorInput

_NAME: Final = re.compile(r"stage-(?P<task>[0-9a-f]{16})-until-(?P<until>[0-9]+)-\w{8}")
"""Of the directories that may be removed again: which task of which run, and when its pod must have ended."""
_in_use: Final[set[Path]] = set()


@contextmanager
def lend_artifacts(given: "ExecutorInput", shared_dir: str, seconds: int) -> Iterator["ExecutorInput"]:
    """Gives a stage its input with all paths below a new directory, and takes what it has put out from there.

    The directory is removed in the end, also after a failure, of which nothing is taken. One that a killed
    pod left goes when the same task is tried again, and otherwise once its time is over, with the next
    stage. Temporary files of this process lie in it, too.

    Args:
        given: with paths of this pod's, those of `artifacts.localize`.
        shared_dir: a folder that all machines mount at this path, for the same user.
        seconds: after which the pod will have been stopped.

    Raises:
        StageError: there cannot be written.
    """
    directory = _make(given, shared_dir, seconds)
    temporary = tempfile.tempdir
    try:
        lent = copy.deepcopy(given)
        try:
            _lend_inputs(lent, directory)
            _lend_outputs(lent, directory)
            tempfile.tempdir = f"{directory}/tmp"
            Path(tempfile.tempdir).mkdir(exist_ok=True)
        except OSError as error:
            raise _refusal(shared_dir, error) from error
        yield lent
        _take_back(given, directory)
    finally:
        tempfile.tempdir = temporary
        _remove(directory)


def end_loans() -> None:
    """Ends what this process still lends, at once: from now on nobody finds it, and anybody may remove it.

    When a run is cancelled, Kubeflow leaves a stage a second, too little for removing much.
    """
    for directory in tuple(_in_use):
        ended = directory.with_name(re.sub(r"-until-\d+-", "-until-0-", directory.name))
        with suppress(OSError):
            directory.rename(ended)
            _in_use.discard(directory)
            _in_use.add(ended)


def remove_lent() -> None:
    """Removes what this process still lends, as far as nobody writes there at this moment."""
    for directory in tuple(_in_use):
        _remove(directory)


def _make(given: "ExecutorInput", shared_dir: str, seconds: int) -> Path:
    task = _task(given)
    try:
        os.makedirs(shared_dir, exist_ok=True)
        for entry in os.scandir(shared_dir):
            name = _NAME.fullmatch(entry.name)
            if name and (name["task"] == task or int(name["until"]) < time.time()):
                shutil.rmtree(entry.path, ignore_errors=True)
        until = int(time.time()) + seconds
        directory = Path(tempfile.mkdtemp(prefix=f"stage-{task}-until-{until}-", dir=shared_dir))
    except OSError as error:
        raise _refusal(shared_dir, error) from error
    _in_use.add(directory)
    return directory


def _task(given: "ExecutorInput") -> str:
    """The same for each attempt at a task, and for nothing else: the backend puts the run into its URIs."""
    uris = [artifact.uri for _, artifact in artifacts(given.outputs.artifacts)]
    return hashlib.sha256(json.dumps(sorted(uris)).encode()).hexdigest()[:16]


def _lend_inputs(lent: "ExecutorInput", directory: Path) -> None:
    paths = {}
    for _, artifact in artifacts(lent.inputs.artifacts):
        paths[artifact.uri] = f"{directory}{artifact.uri}"
        _copy(artifact.uri, paths[artifact.uri])
        artifact.uri = paths[artifact.uri]
    for value in lent.inputs.parameter_values.values():
        if value.string_value in paths:
            value.string_value = paths[value.string_value]


def _lend_outputs(lent: "ExecutorInput", directory: Path) -> None:
    for _, artifact in artifacts(lent.outputs.artifacts):
        artifact.uri = f"{directory}{artifact.uri}"
        os.makedirs(artifact.uri, exist_ok=True)
    lent.outputs.output_file = f"{directory}{lent.outputs.output_file}"
    os.makedirs(os.path.dirname(lent.outputs.output_file), exist_ok=True)


def _take_back(given: "ExecutorInput", directory: Path) -> None:
    for _, artifact in artifacts(given.outputs.artifacts):
        lent = f"{directory}{artifact.uri}"
        if not os.path.exists(lent):
            raise StageError(f"{lent} is gone, where the stage had its output; nothing else may write there")
        _copy(lent, artifact.uri)
    # Properties name paths, too, the model that was judged for one.
    written = Path(f"{directory}{given.outputs.output_file}").read_text()
    output = Path(given.outputs.output_file)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(written.replace(json.dumps(str(directory))[1:-1], ""))


def _copy(source: str, target: str) -> None:
    """Copies a file or a folder, if there is one, but for modes and times, which not every claim keeps."""
    if os.path.isfile(source):
        os.makedirs(os.path.dirname(target), exist_ok=True)
        shutil.copyfile(source, target)
        return
    for folder, _, files in os.walk(source, onerror=_raise):
        there = os.path.join(target, os.path.relpath(folder, source))
        os.makedirs(there, exist_ok=True)
        for name in files:
            shutil.copyfile(os.path.join(folder, name), os.path.join(there, name))


def _raise(error: OSError) -> None:
    """A folder that cannot be read must not pass for an empty one; an input may have nothing at all."""
    if not isinstance(error, FileNotFoundError):
        raise error


def _remove(directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)
    _in_use.discard(directory)


def _refusal(shared_dir: str, error: OSError) -> StageError:
    return StageError(
        f"kubeflow.shared_dir: nothing can be put into {shared_dir} ({error.strerror}); the claim must have "
        "room, and the image's user the right to write there"
    )
