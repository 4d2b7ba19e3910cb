"""A fingerprint of the input files, so that changed data never meets an outdated cache."""

from hashlib import blake2b
from pathlib import Path

from components.errors import StageError
from components.image_mask_example_gen.config import DatasetConfig
from components.image_mask_example_gen.layouts.registry import LAYOUTS, check_root


def fingerprint_inputs(config: DatasetConfig) -> str:
    """Hashes name, size and modification time of every input file; the files are not read.

    The drawn dataset has no input files: its settings say it all.

    Raises:
      StageError: the root is missing or not this layout's folder.
    """
    if config.root is None:
        return "drawn"
    try:
        check_root(config)
    except ValueError as error:
        raise StageError(str(error)) from error
    root = Path(config.root)
    digest = blake2b(digest_size=16)
    for path in LAYOUTS[config.layout].scan(config, root).files:
        file = root / path
        status = file.stat() if file.exists() else file.lstat()
        digest.update(f"{path}\0{status.st_size}\0{status.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
