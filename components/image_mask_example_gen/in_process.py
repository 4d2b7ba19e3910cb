"""What Beam copies for workers within one process, and yet is one for all of them."""

import uuid
from collections.abc import Callable
from typing import Final
from weakref import WeakValueDictionary


class OneInProcess:
    """What pickle copies within this process is the original again, as long as that is there."""

    def __init__(self) -> None:
        self._key = uuid.uuid4().hex
        _originals[self._key] = self

    def __reduce__(self) -> "tuple[Callable[[str], OneInProcess], tuple[str]]":
        return _original, (self._key,)


_originals: Final[WeakValueDictionary[str, OneInProcess]] = WeakValueDictionary()


def _original(key: str) -> OneInProcess:
    return _originals[key]
