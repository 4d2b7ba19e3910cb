"""TensorFlow, TFX and Beam imported in less time."""

import gc
import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock
from typing import Final

OPTIONAL_TO_KERAS: Final = ("jax", "sklearn")
"""What Keras imports where it finds it, for its other backends and for wrappers."""
ONLY_FOR_OTHERS: Final = (
    *("IPython", "matplotlib", "scipy"),
    *("apache_beam.io.gcp.bigquery", "apache_beam.io.gcp.gcsfilesystem", "google.cloud.dataflow"),
    *("apitools", "bson", "oauth2client", "pymongo"),
)
"""What Beam, TensorFlow and Keras, the old and the new one, import where they find it: for notebooks, for
clouds and databases, and for augmentation in NumPy."""


@contextmanager
def quick_imports(*absent: str) -> Iterator[None]:
    """Has the imports of the block find none of these packages, and the collector pass over what they make.

    Some ten thousand modules make objects by the million and next to no garbage, which the collector looks
    for again and again: while they are imported, and in each full pass afterwards.

    TensorFlow is told to take of a GPU what it needs, not all at once: a server and a run may share one.

    Args:
        absent: what others import where they find it, and what nobody here uses of them. What has been
            imported before, stays.
    """
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
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


def postpone_init(package: str) -> None:
    """Has a package's ``__init__`` run when somebody asks the package for what is no module of it.

    Until then its modules are imported without it, and without what that imports. One thread should ask:
    another that imports what ``__init__`` does might wait for it, and it for that.

    Raises:
        ModuleNotFoundError: it is not installed.
    """
    if package in sys.modules:
        return
    without_init(package)
    module = sys.modules[package]
    assert module.__spec__ is not None and module.__spec__.loader is not None
    run = module.__spec__.loader.exec_module
    lock, begun = RLock(), False

    def find(name: str) -> object:
        nonlocal begun
        # Those tools ask for that look through all modules.
        if not name.startswith("__"):
            with lock:
                if not begun and importlib.util.find_spec(f"{package}.{name}"):
                    return importlib.import_module(f"{package}.{name}")
                # What it imports itself asks for more.
                if not begun:
                    begun = True
                    run(module)
                if name in vars(module):
                    return vars(module)[name]
        raise AttributeError(f"module {package!r} has no attribute {name!r}", name=name, obj=module)

    vars(module)["__getattr__"] = find
