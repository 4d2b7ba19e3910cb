"""Masks read by processes beside this one.

What reads a pair is Python between short operations of Pillow's and TensorFlow's, and of a process's threads
one alone is in Python at a time. Masks are the larger part of it, and need no TensorFlow: a process for them
is there in half a second, takes some 60 MB, and writes nothing but its answers.
"""

import os
import pickle
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from threading import Lock
from types import TracebackType
from typing import IO, Any, Final, Self

from components.errors import StageError
from components.image_mask_example_gen.class_mask import MaskReader, ReadMask
from components.image_mask_example_gen.layouts.layout import Entry

_COMMAND: Final = (sys.executable, "-W", "ignore", "-m", "components.image_mask_example_gen.masks_beside")


class MasksBeside:
    """Processes for as many threads as ask at once, while a ``with`` block lasts.

    They end with this process, however it ends: each reads from a pipe whose other end is here alone. They
    lead sessions of their own, so that Ctrl-C reaches whoever holds them.

    A copy that Beam makes for a worker within this process is the original again.

    Args:
      reader: Reads the masks.
    """

    def __init__(self, reader: MaskReader):
        self._key = uuid.uuid4().hex
        self._reader = pickle.dumps(reader)
        self._lock = Lock()
        self._all: list[subprocess.Popen[bytes]] = []
        self._free: list[subprocess.Popen[bytes]] = []

    def __reduce__(self) -> tuple[Callable[[str], "MasksBeside"], tuple[str]]:
        return _find, (self._key,)

    def __enter__(self) -> Self:
        _open[self._key] = self
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            del _open[self._key]
        for process in self._all:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                # What it was not told any more is of no use to anybody.
                with suppress(BrokenPipeError):
                    _pipe(pipe).close()

    @contextmanager
    def reading(self, entries: Sequence[Entry]) -> Iterator[Iterator[ReadMask]]:
        """The masks of some pairs, in their order; they are read ahead by as much as a pipe holds."""
        process = self._take()
        yield _answers(process, entries)
        # Not where an error left answers in its pipe, which would be taken for those to the next question.
        with self._lock:
            self._free.append(process)

    def _take(self) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._free:
                return self._free.pop()
            if self._key not in _open:
                raise StageError("no masks are read any more")
            process = subprocess.Popen(
                _COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
            )
            self._all.append(process)
        _send(process, self._reader)
        return process


_open: Final[dict[str, MasksBeside]] = {}


def _find(key: str) -> MasksBeside:
    return _open[key]


def _answers(process: subprocess.Popen[bytes], entries: Sequence[Entry]) -> Iterator[ReadMask]:
    """Asks for the masks of some pairs.

    Raises:
      StageError: the process has ended.
      Exception: it has met an error that is no fault of a file.
    """
    _send(process, pickle.dumps(entries))
    for _ in entries:
        answer = _receive(process)
        if isinstance(answer, Exception):
            raise answer
        yield answer


def _send(process: subprocess.Popen[bytes], data: bytes) -> None:
    try:
        _pipe(process.stdin).write(data)
        _pipe(process.stdin).flush()
    except BrokenPipeError:
        raise _ended(process) from None


def _receive(process: subprocess.Popen[bytes]) -> Any:
    try:
        return pickle.load(_pipe(process.stdout))
    except (EOFError, pickle.UnpicklingError):
        raise _ended(process) from None


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None, "asked for as the process was started"
    return pipe


def _ended(process: subprocess.Popen[bytes]) -> StageError:
    status = process.wait()
    if status > 0:
        return StageError(f"a process that reads masks ended with status {status}; the log has its error")
    return StageError(
        f"a process that reads masks was killed by {signal.Signals(-status).name}; give the stage more "
        "memory, or one worker, which needs no such process (--set beam.workers=1)"
    )


def main() -> None:
    """Answers on standard output what standard input asks: first comes a reader, then lists of entries."""
    # Who asked may be gone.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    questions, answers = sys.stdin.buffer, os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    # What a library prints would be taken for an answer.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    reader: MaskReader = pickle.load(questions)
    with suppress(EOFError):
        while True:
            for entry in pickle.load(questions):
                pickle.dump(_answer(reader, entry), answers)
                answers.flush()


def _answer(reader: MaskReader, entry: Entry) -> ReadMask | Exception:
    try:
        return reader.read(entry)
    except Exception as error:  # whatever it is, it is raised where the masks are asked for
        return error


if __name__ == "__main__":
    main()
