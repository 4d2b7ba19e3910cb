"""The TFX component."""

from typing import ClassVar

from tfx.dsl.components.base import base_beam_component, executor_spec
from tfx.orchestration.data_types import RuntimeParameter
from tfx.types import Channel, standard_artifacts
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from components.dataset.artifacts import IngestionReportArtifact
from components.dataset.labels import LabelSet
from components.image_mask_example_gen.config import DatasetConfig
from components.image_mask_example_gen.driver import DATASET_KEY, ROOT_KEY, Driver
from components.image_mask_example_gen.executor import Executor


class ImageMaskExampleGenSpec(ComponentSpec):
    """Parameters and outputs of ImageMaskExampleGen."""

    PARAMETERS: ClassVar = {
        DATASET_KEY: ExecutionParameter(type=str),
        ROOT_KEY: ExecutionParameter(type=str),
        "labels": ExecutionParameter(type=str),
        "fingerprint": ExecutionParameter(type=str),
        "code_fingerprint": ExecutionParameter(type=str),
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
      root: Folder of the dataset, instead of ``dataset.root``; empty for the drawn dataset.
      code_fingerprint: Stands for the code's version; another one makes cached results outdated.
    """

    SPEC_CLASS = ImageMaskExampleGenSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(Executor)
    DRIVER_CLASS = Driver

    def __init__(
        self,
        dataset: DatasetConfig,
        labels: LabelSet,
        root: str | RuntimeParameter,
        code_fingerprint: str = "",
    ):
        super().__init__(
            spec=ImageMaskExampleGenSpec(
                dataset=dataset.model_dump_json(),
                labels=labels.model_dump_json(),
                root=root,
                fingerprint="",  # The driver fills it in at run time.
                code_fingerprint=code_fingerprint,
                examples=Channel(type=standard_artifacts.Examples),
                ingestion=Channel(type=IngestionReportArtifact),
            )
        )
