"""Reads a package as the backend does: a pipeline spec, and what only Kubernetes understands."""

from dataclasses import dataclass
from typing import Self, TypeAlias

import yaml
from google.protobuf import json_format
from kfp.kubernetes.kubernetes_executor_config_pb2 import KubernetesExecutorConfig
from kfp.pipeline_spec import pipeline_spec_pb2

Container: TypeAlias = pipeline_spec_pb2.PipelineDeploymentConfig.PipelineContainerSpec
Importer: TypeAlias = pipeline_spec_pb2.PipelineDeploymentConfig.ImporterSpec


@dataclass(frozen=True)
class LoadedPackage:
    """The two documents, taken apart."""

    spec: pipeline_spec_pb2.PipelineSpec
    containers: dict[str, Container]
    """By executor label."""
    importers: dict[str, Importer]
    """By executor label."""
    kubernetes: dict[str, KubernetesExecutorConfig]
    """By executor label."""

    def environment(self, label: str) -> dict[str, str]:
        """Variables of an executor's container, but for secrets (extendPodSpecPatch in ``driver/k8s.go``).

        What fields of the pod show is, of these, its annotations (``argocompiler/container.go``).
        """
        config = self.kubernetes[label]
        annotations = {f"metadata.annotations['{k}']": v for k, v in config.pod_metadata.annotations.items()}
        return {variable.name: variable.value for variable in self.containers[label].env} | {
            shown.name: annotations[shown.field_path] for shown in config.field_path_as_env
        }

    @classmethod
    def parse(cls, text: str) -> Self:
        """Takes nothing that the protos do not know."""
        pipeline, platform = yaml.safe_load_all(text)
        spec = json_format.ParseDict(pipeline, pipeline_spec_pb2.PipelineSpec())
        deployment = json_format.ParseDict(
            json_format.MessageToDict(spec.deployment_spec), pipeline_spec_pb2.PipelineDeploymentConfig()
        )
        platforms = json_format.ParseDict(platform, pipeline_spec_pb2.PlatformSpec())
        executors = platforms.platforms["kubernetes"].deployment_spec.executors
        return cls(
            spec,
            {
                label: executor.container
                for label, executor in deployment.executors.items()
                if executor.HasField("container")
            },
            {
                label: executor.importer
                for label, executor in deployment.executors.items()
                if executor.HasField("importer")
            },
            {
                label: json_format.ParseDict(json_format.MessageToDict(config), KubernetesExecutorConfig())
                for label, config in executors.items()
            },
        )
