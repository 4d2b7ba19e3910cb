"""What the pods ask of Kubernetes beyond resources: a package's second document.

TFX cannot say any of it. The backend reads it in ``backend/src/v2/driver/k8s.go``.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Final

from google.protobuf import json_format
from google.protobuf.struct_pb2 import Value
from kfp.kubernetes import kubernetes_executor_config_pb2 as kubernetes
from kfp.pipeline_spec.pipeline_spec_pb2 import (
    PipelineSpec,
    PlatformSpec,
    TaskInputsSpec,
    ValueOrRuntimeParameter,
)

from pipeline.kubeflow.entrypoint import OPTIONS_ANNOTATION, OPTIONS_VARIABLE, pack_options
from pipeline.kubeflow_config import SIGNING_DIR, KubeflowConfig, SecretVariable, StageConfig, Toleration
from pipeline.kubernetes_types import SHARED_MEMORY

_KUBERNETES: Final = "kubernetes"


def build_platform_spec(
    spec: PipelineSpec,
    config: KubeflowConfig,
    options: Mapping[str, Sequence[str]],
    opening_buckets: Collection[str],
) -> PlatformSpec:
    """Returns the Kubernetes part for every executor of a pipeline.

    Options of a stage that bear on no result come by an annotation of its pod and a variable that shows it:
    of these no key of the backend's cache has anything, while newer ones count a container's own variables
    (``getFingerPrint`` in ``v2/driver/cache.go``).

    The variables of ``secrets`` are for those who open a bucket, and for nobody else: the backend's launcher
    runs in the same container, where ``AWS_ENDPOINT_URL_S3`` and its like bear on its own client, too.

    Args:
        spec: the compatible pipeline; its tasks bear the names of the stages.
        config: the recipe's ``kubeflow`` block.
        options: by stage.
        opening_buckets: the tasks whose containers read or write objects themselves.
    """
    platform = PlatformSpec()
    executors = platform.platforms[_KUBERNETES].deployment_spec.executors
    for name, task in spec.root.dag.tasks.items():
        label = spec.components[task.component_ref.name].executor_label
        asked = executor_config(config, config.task_pod(name))
        if name == "Pusher" and (secret := config.signing_secret):
            asked.secret_as_volume.add(
                secret_name=secret, secret_name_parameter=_constant(secret), mount_path=SIGNING_DIR
            )
        if name in opening_buckets:
            asked.secret_as_env.extend(_secrets(config.secrets))
        if given := options.get(name):
            asked.pod_metadata.annotations[OPTIONS_ANNOTATION] = pack_options(given)
            shown = f"metadata.annotations['{OPTIONS_ANNOTATION}']"
            asked.field_path_as_env.add(name=OPTIONS_VARIABLE, field_path=shown)
        executors[label].update(json_format.MessageToDict(asked))
    return platform


def executor_config(config: KubeflowConfig, stage: StageConfig) -> kubernetes.KubernetesExecutorConfig:
    """Returns what one stage's pods ask for.

    Names of claims and secrets are given twice: newer backends read the parameter, older ones know only the
    plain field.

    Args:
        config: what holds for every stage.
        stage: one stage's own, defaults filled in.
    """
    return kubernetes.KubernetesExecutorConfig(
        pvc_mount=[
            kubernetes.PvcMount(
                constant=volume.claim,
                pvc_name_parameter=_constant(volume.claim),
                mount_path=volume.mount_path,
                sub_path=volume.sub_path or "",
            )
            for volume in config.volumes
        ],
        node_selector=kubernetes.NodeSelector(labels=stage.node_selector) if stage.node_selector else None,
        tolerations=map(_toleration, stage.tolerations or ()),
        image_pull_secret=[
            kubernetes.ImagePullSecret(secret_name=name, secret_name_parameter=_constant(name))
            for name in config.image_pull_secrets
        ],
        image_pull_policy=config.image_pull_policy,
        active_deadline_seconds=stage.timeout_seconds,
        empty_dir_mounts=shared_memory(stage),
    )


def _constant(value: str) -> TaskInputsSpec.InputParameterSpec:
    constant = ValueOrRuntimeParameter(constant=Value(string_value=value))
    return TaskInputsSpec.InputParameterSpec(runtime_value=constant)


def _toleration(toleration: Toleration) -> kubernetes.Toleration:
    return kubernetes.Toleration(
        key=toleration.key, operator=toleration.operator, value=toleration.value, effect=toleration.effect
    )


def _secrets(variables: Sequence[SecretVariable]) -> Iterator[kubernetes.SecretAsEnv]:
    for variable in variables:
        yield kubernetes.SecretAsEnv(
            secret_name=variable.secret,
            secret_name_parameter=_constant(variable.secret),
            key_to_env=[
                kubernetes.SecretAsEnv.SecretKeyToEnvMap(secret_key=variable.key, env_var=variable.variable)
            ],
        )


def shared_memory(stage: StageConfig) -> list[kubernetes.EmptyDirMount]:
    """Returns the memory that the processes or GPUs of a stage share, none where it has no use for it."""
    # NCCL hands gradients from GPU to GPU through /dev/shm, of which a container has 64 MB unless it is
    # given more. No backend reads the proto's enabled_shared_memory; an emptyDir is what its maintainers
    # advise instead (github.com/kubeflow/pipelines/issues/9893).
    if (stage.gpus or 0) < 2:
        return []
    return [kubernetes.EmptyDirMount(volume_name=SHARED_MEMORY, mount_path="/dev/shm", medium="Memory")]
