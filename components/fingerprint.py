"""A digest of the code: for the keys of TFX's cache, which see no code, and for the report."""

import hashlib
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

_LIBRARIES = (
    *("apache-beam", "imagecodecs", "keras", "numpy", "pillow", "pycocotools", "tensorflow"),
    *("tensorflow-data-validation", "tensorflow-datasets", "tensorflow-model-analysis"),
    *("tensorflow-transform", "tfx", "tifffile"),
)
"""Those whose versions can change what a stage produces."""


def source_fingerprint(*packages: ModuleType) -> str:
    """Returns a digest of the packages' sources and of the libraries' versions.

    It changes with any of them, but not with where they lie.
    """
    digest = hashlib.sha256()
    for library in _LIBRARIES:
        digest.update(f"{library}=={version(library)}\n".encode())
    for package in packages:
        for root in map(Path, package.__path__):
            for path in sorted(root.rglob("*.py")):
                name = f"{package.__name__}/{path.relative_to(root).as_posix()}"
                content = path.read_bytes()
                digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:16]
