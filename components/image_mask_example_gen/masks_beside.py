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
from collections.abc import Iterator, Sequence
from contextlib import suppress
from queue import SimpleQueue
from threading import Lock, Thread
from types import TracebackType
from typing import IO, Final, Self

from components.errors import StageError
from components.image_mask_example_gen.class_mask import MaskReader, ReadMask
from components.image_mask_example_gen.in_process import OneInProcess
from components.image_mask_example_gen.layouts.layout import Entry

_COMMAND: Final = (sys.executable, "-W", "ignore", "-m", "components.image_mask_example_gen.masks_beside")
_MEMORY: Final = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(64 << 20)}
"""By itself glibc gives a mask's arrays back to the system, and clears as many pages for the next mask. The
first is the most that it takes; arrays of masks with more pixels go back as before."""


class MasksBeside(OneInProcess):
    """Processes for as many threads as ask at once, while a ``with`` block lasts.

    They end with this process, however it ends: each reads from a pipe whose other end is here alone. They
    lead sessions of their own, so that Ctrl-C reaches whoever holds them.

    Args:
      reader: Reads the masks.
    """

    def __init__(self, reader: MaskReader):
        super().__init__()
        self._reader = pickle.dumps(reader)
        self._lock = Lock()
        self._is_open = True
        self._all: list[MaskProcess] = []
        self._free: list[MaskProcess] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._is_open = False
        for process in self._all:
            process.end()

    def take(self) -> "MaskProcess":
        """A process that nobody else asks, until it is given back."""
        with self._lock:
            if self._free:
                return self._free.pop()
            if not self._is_open:
                raise StageError("no masks are read any more")
            process = MaskProcess()
            self._all.append(process)
        process.send(self._reader)
        return process

    def give_back(self, process: "MaskProcess") -> None:
        """Takes one back that has answered all; what an error left unread would be taken for other masks."""
        with self._lock:
            self._free.append(process)


class MaskProcess:
    """A process that reads masks, and goes on to those asked for next without being waited for."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            _COMMAND,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            env=_MEMORY | os.environ,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, entries: Sequence[Entry]) -> Iterator[ReadMask]:
        """Asks for the masks of some pairs, and returns them in their order.

        They are read ahead by as much as a pipe holds. Who asks again before all are there gets those first.

        Raises:
          StageError: the process has ended; so does the iterator.
          Exception: an error that is no fault of a file, from the iterator.
        """
        self.send(pickle.dumps(entries))
        return (self._receive() for _ in entries)

    def send(self, data: bytes) -> None:
        """Sends what is read whatever there is to do; raises StageError."""
        try:
            _pipe(self._process.stdin).write(data)
            _pipe(self._process.stdin).flush()
        except BrokenPipeError:
            raise self._ended() from None

    def end(self) -> None:
        """Ends it, whatever it does."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            # What it was not told any more is of no use to anybody.
            with suppress(BrokenPipeError):
                _pipe(pipe).close()

    def _receive(self) -> ReadMask:
        try:
            answer: ReadMask | Exception = pickle.load(_pipe(self._process.stdout))
        except (EOFError, pickle.UnpicklingError):
            raise self._ended() from None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _ended(self) -> StageError:
        status = self._process.wait()
        if status > 0:
            return StageError(f"a process that reads masks ended with status {status}; the log has its error")
        return StageError(
            f"a process that reads masks was killed by {signal.Signals(-status).name}; give the stage more "
            "memory, or one worker, which needs no such process (--set beam.workers=1)"
        )


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None, "asked for as the process was started"
    return pipe


def main() -> None:
    """Answers on standard output what standard input asks: first comes a reader, then lists of entries."""
    # Who asked may be gone.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    # A thread that waits in sys.stdin when all ends would be a fatal error.
    questions, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    # What a library prints would be taken for an answer.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    reader: MaskReader = pickle.load(questions)
    asked: SimpleQueue[Sequence[Entry] | Exception] = SimpleQueue()
    Thread(target=_listen, args=(questions, asked), daemon=True).start()
    while not isinstance(entries := asked.get(), EOFError):
        if isinstance(entries, Exception):
            raise entries
        for entry in entries:
            pickle.dump(_answer(reader, entry), answers)
            answers.flush()


def _listen(questions: IO[bytes], asked: "SimpleQueue[Sequence[Entry] | Exception]") -> None:
    """Passes on what is asked, at once: who asks while answers fill their pipe would else wait for ever."""
    while True:
        try:
            asked.put(pickle.load(questions))
        except Exception as error:  # EOFError, where all is asked
            asked.put(error)
            return


def _answer(reader: MaskReader, entry: Entry) -> ReadMask | Exception:
    try:
        return reader.read(entry)
    except Exception as error:  # whatever it is, it is raised where the masks are asked for
        return error


if __name__ == "__main__":
    main()
