"""What is mended in a compiled pipeline, and what for."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias

from google.protobuf import json_format
from kfp.pipeline_spec.pipeline_spec_pb2 import PipelineDeploymentConfig, PipelineSpec

from pipeline.kubeflow.config import KubeflowConfig

ContainerSpec: TypeAlias = PipelineDeploymentConfig.PipelineContainerSpec


@dataclass(frozen=True)
class Target:
    """What the mended pipeline is to say where TFX has no words for it."""

    image: str
    command: tuple[str, ...]
    """Of every stage's container."""
    pipeline_root: str
    defaults: Mapping[str, str | int | float]
    """Of the pipeline's parameters, by name."""
    config: KubeflowConfig


@contextmanager
def open_deployment(spec: PipelineSpec) -> Iterator[PipelineDeploymentConfig]:
    """Gives the executors, which the spec holds as plain JSON; what is changed in them goes back there."""
    deployment = PipelineDeploymentConfig()
    json_format.ParseDict(json_format.MessageToDict(spec.deployment_spec), deployment)
    yield deployment
    spec.deployment_spec.Clear()
    spec.deployment_spec.update(json_format.MessageToDict(deployment))


def containers(
    spec: PipelineSpec, deployment: PipelineDeploymentConfig
) -> Iterator[tuple[str, ContainerSpec]]:
    """Yields every task's name and container."""
    for name, task in spec.root.dag.tasks.items():
        label = spec.components[task.component_ref.name].executor_label
        yield name, deployment.executors[label].container
