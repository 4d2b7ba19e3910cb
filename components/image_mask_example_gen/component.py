"""The TFX component."""

from typing import ClassVar

from tfx.dsl.components.base import base_beam_component, executor_spec
from tfx.orchestration.data_types import RuntimeParameter
from tfx.types import Channel, standard_artifacts
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from components.dataset.artifacts import IngestionReportArtifact
from components.dataset.labels import LabelSet
from components.fingerprint import CODE_FINGERPRINT_KEY
from components.image_mask_example_gen.config import DatasetConfig
from components.image_mask_example_gen.driver import Driver
from components.image_mask_example_gen.executor import Executor
from components.image_mask_example_gen.inputs import DATASET_KEY, FINGERPRINT_KEY, IngestionSettings
from components.imaging.reading import Bands
from components.run_parameters import DATA_PATH, settings_of_any_run


class ImageMaskExampleGenSpec(ComponentSpec):
    """Parameters and outputs of ImageMaskExampleGen."""

    PARAMETERS: ClassVar = {
        DATASET_KEY: ExecutionParameter(type=str),
        DATA_PATH: ExecutionParameter(type=str),
        "labels": ExecutionParameter(type=str),
        FINGERPRINT_KEY: ExecutionParameter(type=str),
        CODE_FINGERPRINT_KEY: ExecutionParameter(type=str),
    }
    INPUTS: ClassVar[dict[str, ChannelParameter]] = {}
    OUTPUTS: ClassVar = {
        "examples": ChannelParameter(type=standard_artifacts.Examples),
        "ingestion": ChannelParameter(type=IngestionReportArtifact),
    }


class ImageMaskExampleGen(base_beam_component.BaseBeamComponent):
    """Turns pairs of image and mask files into tf.Examples with the splits train, val and test.

    Outputs:
      examples: ``Examples``, uncompressed TFRecords of the features in ``components.dataset.features``.
      ingestion: `Ingestion`, the number of examples and the list of rejected files.

    Args:
      dataset: Where the files lie and what the masks mean.
      labels: The classes, usually ``dataset.label_set()``.
      data_path: Folder of the dataset in this run, empty for the drawn dataset; ``dataset.root`` is not read.
      code_fingerprint: Stands for the code's version; another one makes cached results outdated.
      bands: Those that are read of each image, see ``Reading``; None for pictures.
    """

    SPEC_CLASS = ImageMaskExampleGenSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(Executor)
    DRIVER_CLASS = Driver

    def __init__(
        self,
        dataset: DatasetConfig,
        labels: LabelSet,
        data_path: str | RuntimeParameter,
        code_fingerprint: str = "",
        bands: Bands | None = None,
    ):
        super().__init__(
            spec=ImageMaskExampleGenSpec(
                dataset=settings_of_any_run(
                    IngestionSettings(dataset=dataset, bands=bands).model_dump(mode="json")
                ),
                labels=labels.model_dump_json(),
                data_path=data_path,
                fingerprint="",  # The driver fills it in at run time.
                code_fingerprint=code_fingerprint,
                examples=Channel(type=standard_artifacts.Examples),
                ingestion=Channel(type=IngestionReportArtifact),
            )
        )
