"""Threads for gRPC's calls, of which only so many may wait."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any


class BoundedPool(ThreadPoolExecutor):
    """A pool that knows when it is full; gRPC submits every call, and can refuse one only beforehand."""

    def __init__(self, threads: int, waiting: int, name: str):
        """Makes a pool of ``threads`` in which as many as ``waiting`` calls may wait for one."""
        super().__init__(threads, thread_name_prefix=name)
        self._places = threads + waiting
        self._taken = 0
        self._lock = threading.Lock()

    @property
    def is_full(self) -> bool:
        """Whether the next call should be refused."""
        with self._lock:
            return self._taken >= self._places

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Runs ``fn`` in a thread, full or not."""
        future = super().submit(fn, *args, **kwargs)
        with self._lock:
            self._taken += 1
        future.add_done_callback(self._leave)
        return future

    def _leave(self, _: Future[Any]) -> None:
        with self._lock:
            self._taken -= 1
