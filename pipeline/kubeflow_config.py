"""The recipe's ``kubeflow`` block: everything that concerns Kubernetes.

It bears on a model only by the Trainer's devices: their number, ``machines`` times ``gpus``, and kind.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any, Final, Literal, Self, cast, get_args

from pydantic import Field, model_validator

from components.settings import Settings
from pipeline.kubernetes_types import (
    CpuQuantity,
    DnsName,
    FolderPath,
    ImageName,
    LabelKey,
    LabelValue,
    MemoryQuantity,
    MountPath,
    ResourceName,
    SecretKey,
    SubPath,
    VolumeName,
    parse_quantity,
)

StageName = Literal[
    "ImageMaskExampleGen",
    "StatisticsGen",
    "CuratedSchema",
    "ExampleValidator",
    "Transform",
    "Trainer",
    "Baseline",
    "Evaluator",
    "ServingCheck",
    "Pusher",
    "Report",
]
"""Node ids of the stages that a recipe may treat differently."""

MODEL_PUSHED: Final = "model-pushed"
"""The package's last task, which runs only if the Pusher has pushed."""
PUSHER: Final = "Pusher"
"""The stage that `MODEL_PUSHED` tells of."""

DATASET_URI: Final = re.compile(r"(s3|gs|minio)://[^/?#%\s]+(/(?!\.{1,2}(/|$))[^/?#%\s]+)+")
"""A folder in a bucket. The backend takes what follows a ``?`` for settings of the bucket, cannot fetch a
whole bucket (``KeyFromURI`` in ``v2/objectstore/config.go``), and newer ones decode ``%20`` and its like."""


class Toleration(Settings):
    """One taint that a stage's pods put up with; as in a pod's ``tolerations``."""

    key: str | None = None
    """Of the taint; null with operator Exists tolerates all."""
    operator: Literal["Equal", "Exists"] = "Exists"
    """Whether the taint must have ``value``, or only ``key``."""
    value: str | None = None
    """Of the taint, with operator Equal."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """Null for all."""

    @model_validator(mode="after")
    def _is_one_of_kubernetes(self) -> Self:
        if self.operator == "Exists" and self.value is not None:
            raise ValueError("operator Exists takes no value; leave it out, or make the operator Equal")
        if self.operator == "Equal" and self.key is None:
            raise ValueError("operator Equal needs a key")
        return self


class Volume(Settings):
    """A persistent volume claim that every stage's pods mount."""

    claim: VolumeName
    """Name of the PersistentVolumeClaim, in the namespace in which the pipeline runs."""
    mount_path: MountPath
    """Where the pods see it, an absolute path."""
    sub_path: SubPath | None = None
    """Folder of the volume to mount; null for all of it."""


class SecretVariable(Settings):
    """An environment variable that a Secret's key fills, of the containers that read the data (ingestion and
    data-fingerprint) and of those that work in a pipeline root in ``gs://`` themselves.
    """

    secret: DnsName
    """Name of the Secret, in the namespace in which the pipeline runs."""
    key: SecretKey
    """Which of its values."""
    variable: str = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    """Name of the environment variable, e.g. ``AWS_ACCESS_KEY_ID``."""


class StageConfig(Settings):
    """What one stage's pods ask for. Null takes the value of ``kubeflow.defaults``; for the Trainer its own
    defaults of CPUs, memory, GPUs and time go before those.
    """

    cpu_request: CpuQuantity | None = None
    """Cores that a pod is sure of, ``500m`` or ``2``."""
    cpu_limit: CpuQuantity | None = None
    """Cores that it may use where they are free."""
    memory_request: MemoryQuantity | None = None
    """Memory that a pod is sure of, ``8Gi``."""
    memory_limit: MemoryQuantity | None = None
    """Memory beyond which it is killed."""
    gpus: int | None = Field(default=None, ge=0)
    """How many; 0 for none."""
    gpu_resource: ResourceName | None = None
    """The resource's name on this cluster, ``nvidia.com/gpu`` for example."""
    node_selector: dict[LabelKey, LabelValue] | None = None
    """Labels that a node must have to run its pods."""
    tolerations: tuple[Toleration, ...] | None = Field(default=None, strict=False)
    retries: int | None = Field(default=None, ge=0)
    """How often a failed pod is started again, also one that took too long; one that was deleted is not."""
    timeout_seconds: int | None = Field(default=None, ge=1)
    """A pod that takes longer is stopped, and counts as failed: the next of ``retries`` begins anew, with as
    much time."""
    machines: int | None = Field(default=None, ge=1, le=1000)
    """Of the Trainer: how many train together, by a job of a training operator's, each with the CPUs, memory
    and GPUs that are said here; docs/scale.md says what it takes."""


_DEFAULTS: Final = StageConfig(
    cpu_request="1",
    cpu_limit="2",
    memory_request="2Gi",
    memory_limit="8Gi",
    gpus=0,
    gpu_resource="nvidia.com/gpu",
    node_selector={},
    tolerations=(),
    retries=1,
    timeout_seconds=6 * 3600,
    machines=1,
)
SIGNING_DIR: Final = "/etc/model-signing"
"""Where the Pusher finds the values of ``kubeflow.signing_secret``."""
_STAGE_DEFAULTS: Final[dict[str, StageConfig]] = {
    "Trainer": StageConfig(
        cpu_request="4",
        cpu_limit="8",
        memory_request="8Gi",
        memory_limit="32Gi",
        gpus=1,
        timeout_seconds=24 * 3600,
    )
}


class KubeflowConfig(Settings):
    """How the pipeline runs on Kubeflow Pipelines."""

    image: ImageName | None = None
    """Container image of all stages; ``--image`` replaces it."""
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    """When a node fetches the image; a tag that is moved needs Always."""
    image_pull_secrets: tuple[DnsName, ...] = Field(default=(), strict=False)
    """Names of the Secrets that open a private registry."""
    service_account: DnsName | None = "segmentation-pipeline"
    """Under which the pods run; null for Kubeflow's own."""
    volumes: tuple[Volume, ...] = Field(
        default=(
            Volume(claim="segmentation-data", mount_path="/data"),
            Volume(claim="segmentation-serving", mount_path="/serving"),
        ),
        strict=False,
    )
    """What every stage mounts: the data comes from one of them, the models go to another."""
    secrets: tuple[SecretVariable, ...] = Field(default=(), strict=False)
    signing_secret: VolumeName | None = None
    """Name of the Secret with the key of ``serving.signing_key``. The Pusher alone has its values, as files
    in ``/etc/model-signing``."""
    copy_bucket: bool = True
    """Of data in a bucket: whether Kubeflow's launcher copies all of it to the ingestion's pod, with the keys
    that it has. False: the ingestion reads object by object, with credentials of its own, which are those of
    ``secrets`` (``AWS_ACCESS_KEY_ID``, …) or the service account's."""
    cache: bool = True
    """Whether an earlier task with the same inputs, settings and image may answer. Where the image is named
    by a tag, the launcher copies the data or ``model.encoder_weights`` names a file, only CuratedSchema asks,
    which reads nothing but its settings."""
    serving_root: FolderPath = "/serving"
    """Where the model server's volume is mounted; versions go to SERVING_ROOT/MODEL_NAME/VERSION."""
    checkpoint_dir: FolderPath | None = None
    """Where the Trainer's next attempt, or the next run over the same data, finds the checkpoints of the last
    one, on one of the volumes; null begins anew."""
    shared_dir: FolderPath | None = None
    """Where stages whose work other machines do, as an engine of the ``beam`` block, put their artifacts as
    long as it lasts: a folder on one of the volumes, whose claim is ReadWriteMany and mounted by these
    machines at the same path. Null: an engine needs a pipeline root in ``gs://``, where it reads and writes
    the artifacts themselves, as Dataflow does in any case."""
    defaults: StageConfig = StageConfig()
    """Of every stage that says nothing else; what stays null here too is this project's default: 1 to 2
    CPUs, 2 to 8 GiB and no GPU, one retry, six hours. The Trainer has 4 to 8 CPUs, 8 to 32 GiB, one
    ``nvidia.com/gpu`` and a day whatever is said here: only ``kubeflow.stages.Trainer`` changes these."""
    stages: dict[StageName, StageConfig] = Field(default_factory=dict)
    """By the stage's name."""

    def stage(self, name: str) -> StageConfig:
        """Returns what a stage asks for, with the defaults filled in."""
        own = self.stages.get(cast(StageName, name))
        return _merged(_DEFAULTS, self.defaults, _STAGE_DEFAULTS.get(name), own)

    def task_pod(self, name: str) -> StageConfig:
        """Returns what the pod of a stage's own task asks for.

        That is what the stage asks for, unless machines train in its place: these have the CPUs, memory and
        GPUs then, and the task, which follows them, has what every other stage has by default.
        """
        stage = self.stage(name)
        if stage.machines == 1:
            return stage
        keys = ("cpu_request", "cpu_limit", "memory_request", "memory_limit", "gpus", "node_selector")
        other = _merged(_DEFAULTS, self.defaults, StageConfig(gpus=0))
        return stage.model_copy(update={key: getattr(other, key) for key in (*keys, "tolerations")})

    @model_validator(mode="after")
    def _kubernetes_would_take_it(self) -> Self:
        problems = [
            *self._volume_problems(),
            *self._variable_problems(),
            *self._resource_problems(),
            *self._machine_problems(),
        ]
        if problems:
            raise ValueError("\n".join(problems))
        return self

    def _volume_problems(self) -> Iterator[str]:
        mounted = [volume.mount_path for volume in self.volumes]
        if len(set(mounted)) < len(mounted):
            yield "kubeflow.volumes mounts two claims at one path; give each its own mount_path"
        if len({volume.claim for volume in self.volumes}) < len(self.volumes):
            yield (
                "kubeflow.volumes mounts one claim twice, and KFP calls a pod's volumes after their claims; "
                "mount it once, where both places lie under it"
            )
        if self.signing_secret in {volume.claim for volume in self.volumes}:
            yield (
                f"kubeflow.signing_secret is {self.signing_secret}, and so is a claim of kubeflow.volumes, "
                "but KFP calls a pod's volumes after both; give the Secret another name"
            )
        for key in ("serving_root", "checkpoint_dir", "shared_dir"):
            path = getattr(self, key)
            if path is not None and not any(
                path == mount or path.startswith(f"{mount}/") for mount in mounted
            ):
                yield (
                    f"kubeflow.{key} is {path}, which none of kubeflow.volumes provides "
                    f"({', '.join(mounted) or 'there are none'}); what is written there would be lost"
                )

    def _variable_problems(self) -> Iterator[str]:
        variables = Counter(secret.variable for secret in self.secrets)
        for name, times in variables.items():
            if times > 1:
                yield f"kubeflow.secrets fills {name} {times} times; give each variable one secret"

    def _resource_problems(self) -> Iterator[str]:
        refused = defaultdict(list)
        for name in get_args(StageName):
            stage = self.stage(name)
            for resource in ("cpu", "memory"):
                request, limit = (getattr(stage, f"{resource}_{bound}") for bound in ("request", "limit"))
                if parse_quantity(request) > parse_quantity(limit):
                    what = f"{resource}_request is {request}, above {resource}_limit, which is {limit}"
                    refused[what].append(name)
        for what, names in refused.items():
            yield f"kubeflow: {what}, in {', '.join(names)}; Kubernetes refuses such pods"

    def _machine_problems(self) -> Iterator[str]:
        asked = {"defaults": self.defaults} | {f"stages.{name}": stage for name, stage in self.stages.items()}
        for where, stage in asked.items():
            if stage.machines is not None and where != "stages.Trainer":
                yield (
                    f"kubeflow.{where}.machines is {stage.machines}, but only the Trainer works on several; "
                    "give it as kubeflow.stages.Trainer.machines"
                )
        machines = self.stage("Trainer").machines or 1
        if machines > 1 and self.shared_dir is None:
            yield (
                f"kubeflow.stages.Trainer.machines is {machines}, but kubeflow.shared_dir is null, and "
                "machines do not see each other's disks; set it to a folder on a claim that all mount"
            )


def _merged(*layers: StageConfig | None) -> StageConfig:
    """Returns what the last layer says that says anything, key by key."""
    asked: dict[str, Any] = {}
    for layer in layers:
        if layer is not None:
            asked |= {key: value for key, value in iter(layer) if value is not None}
    return StageConfig(**asked)


def names_digest(image: str) -> bool:
    """Whether an image's name tells its content."""
    return "@sha256:" in image
