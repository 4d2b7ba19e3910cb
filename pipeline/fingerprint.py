"""A stage's code as part of its parameters: TFX's cache sees parameters and inputs, but not code."""

import hashlib
from pathlib import Path
from types import ModuleType

_SUFFIXES = (".py", ".pbtxt")


def source_fingerprint(*packages: ModuleType) -> str:
    """Returns a digest of the packages' sources; it changes with any of them, not with where they lie."""
    digest = hashlib.sha256()
    for package in packages:
        for root in map(Path, package.__path__):
            for path in sorted(path for path in root.rglob("*") if path.suffix in _SUFFIXES):
                name = f"{package.__name__}/{path.relative_to(root).as_posix()}"
                content = path.read_bytes()
                digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:16]
