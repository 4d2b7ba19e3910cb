"""Looks at the input files before TFX looks for cached Examples."""

from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import Strict

from components.errors import StageError
from components.image_mask_example_gen.config import DatasetConfig
from components.imaging.reading import Bands, Reading
from components.run_parameters import settings_of_run
from components.settings import Settings
from components.token_driver import InputArtifacts, TokenDriver

DATASET_KEY: Final = "dataset"


class IngestionSettings(Settings):
    """What the stage needs to know, but for the classes."""

    dataset: DatasetConfig
    bands: Annotated[Bands, Strict(False)] | None = None
    """Those that are read of each image, see ``Reading``."""

    @property
    def reading(self) -> Reading:
        """How images are read, but for the channels of those that are no stacks of bands."""
        return Reading(bands=self.bands, exif=self.dataset.exif, value_range=self.dataset.value_range)


def ingestion_settings(exec_properties: Mapping[str, Any]) -> IngestionSettings:
    """Returns the settings with the root that this run reads from."""
    return settings_of_run(IngestionSettings, exec_properties[DATASET_KEY], exec_properties)


def dataset_root(config: DatasetConfig) -> Path:
    """Returns the folder of a dataset that is not drawn.

    Raises:
      StageError: it is missing or not what its layout says.
    """
    try:
        config.check_root()
    except ValueError as error:
        raise StageError(str(error)) from error
    return Path(config.root or "")


class Driver(TokenDriver):
    """Cached Examples are used as long as the input files are the same."""

    PROPERTY = "fingerprint"

    def token(self, inputs: InputArtifacts, exec_properties: Mapping[str, Any]) -> str:
        """Returns the fingerprint of the input files.

        Raises:
          StageError: the dataset's folder is missing or not what its layout says.
        """
        return fingerprint_inputs(ingestion_settings(exec_properties).dataset)


def fingerprint_inputs(config: DatasetConfig) -> str:
    """Hashes name, size and modification time of every input file; the files are not read.

    The drawn dataset has no input files: its settings say it all.

    Raises:
      StageError: the root is missing or not this layout's folder.
    """
    if config.root is None:
        return "drawn"
    root = dataset_root(config)
    digest = blake2b(digest_size=16)
    for path in (*config.source.scan(root).files, *config.splits.files):
        file = root / path
        try:
            status = file.stat() if file.exists() else file.lstat()
        except FileNotFoundError as error:
            raise StageError(
                f"dataset.splits names {path}, and there is no such file under {root}"
            ) from error
        digest.update(f"{path}\0{status.st_size}\0{status.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
