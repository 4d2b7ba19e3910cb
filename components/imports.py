"""TensorFlow, TFX and Beam imported in less time."""

import gc
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

OPTIONAL_TO_KERAS: Final = ("jax", "sklearn")
"""What Keras imports where it finds it, for its other backends and for wrappers."""


@contextmanager
def quick_imports(*absent: str) -> Iterator[None]:
    """Has the imports of the block find none of these packages, and the collector pass over what they make.

    Some ten thousand modules make objects by the million and next to no garbage, which the collector looks
    for again and again: while they are imported, and in each full pass afterwards.

    Args:
        absent: what others import where they find it, and what nobody here uses of them. What has been
            imported before, stays.
    """
    hidden = [name for name in absent if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        for name in hidden:
            sys.modules.pop(name, None)
        if collecting:
            gc.freeze()
            gc.enable()


def without_init(package: str) -> None:
    """Has modules of a package be imported without its ``__init__``, and so without what that imports.

    ``package`` itself then has nothing in it, for the whole process. One that was imported before is left.

    Raises:
        ModuleNotFoundError: it is not installed.
    """
    if package not in sys.modules:
        if (spec := importlib.util.find_spec(package)) is None:
            raise ModuleNotFoundError(f"no module named {package!r}", name=package)
        sys.modules[package] = importlib.util.module_from_spec(spec)
