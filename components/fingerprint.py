"""A digest of the code: for the keys of TFX's cache, which see no code, and for the report."""

import hashlib
from collections.abc import Iterator
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import Final

CODE_FINGERPRINT_KEY: Final = "code_fingerprint"
"""Parameter of a stage: a digest of its code, so that TFX's cache answers from no other."""

_LIBRARIES = (
    *("apache-beam", "imagecodecs", "keras", "numpy", "pillow", "pycocotools", "tensorflow"),
    *("tensorflow-data-validation", "tensorflow-datasets", "tensorflow-model-analysis"),
    *("tensorflow-transform", "tfx", "tifffile"),
)
"""Those whose versions can change what a stage produces."""


def source_fingerprint(*sources: ModuleType) -> str:
    """Returns a digest of sources and of the libraries' versions.

    It changes with any of them, but not with where they lie.

    Args:
        sources: packages, of which all modules count, and single modules. The modules right under
            ``components`` count always, as every stage shares some of them.
    """
    digest = hashlib.sha256()
    for library in _LIBRARIES:
        digest.update(f"{library}=={version(library)}\n".encode())
    for name, path in chain(_files_of("components", Path(__file__).parent, "*.py"), *map(_files, sources)):
        content = path.read_bytes()
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:16]


def _files(source: ModuleType) -> Iterator[tuple[str, Path]]:
    if not hasattr(source, "__path__"):
        yield f"{source.__name__}.py", Path(str(source.__file__))
    for root in getattr(source, "__path__", ()):
        yield from _files_of(source.__name__, Path(root), "**/*.py")


def _files_of(package: str, root: Path, pattern: str) -> Iterator[tuple[str, Path]]:
    """Files of a package with names that do not change with where they lie.

    Hidden ones, an editor's locks and copies, are no code, nor are links that lead nowhere.
    """
    for path in sorted(root.glob(pattern)):
        relative = path.relative_to(root)
        if path.is_file() and not any(part.startswith(".") for part in relative.parts):
            yield f"{package}/{relative.as_posix()}", path
