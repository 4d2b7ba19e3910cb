"""What the Trainer trains on: its devices, and machines in the place of its task where there are several."""

import json
from collections.abc import Iterator
from typing import Any

from pipeline.config import Recipe
from pipeline.kubeflow.spec.platform import shared_memory
from pipeline.kubeflow_config import KubeflowConfig, names_digest


def machine_problems(recipe: Recipe, image: str) -> Iterator[str]:
    """Yields what keeps several devices or machines from training together.

    Args:
        recipe: asks for several, or not.
        image: of all containers.
    """
    machines, training = _machines(recipe.kubeflow), recipe.training
    number, _ = _devices(recipe.kubeflow)
    if training.batch_size % number:
        where = "one machine" if machines == 1 else f"{machines} machines"
        yield (
            f"training.batch_size is {training.batch_size}, but kubeflow.stages.Trainer has {number} "
            f"devices on {where}, which share each batch; take a multiple of {number}"
        )
    if machines == 1:
        return
    if training.jit_compile:
        yield (
            f"training.jit_compile is true, but XLA cannot compile a step that {machines} machines share "
            "(kubeflow.stages.Trainer.machines); set it to null"
        )
    if not names_digest(image):
        yield (
            f"kubeflow.stages.Trainer.machines is {machines}, but kubeflow.image is {image}: a tag may name "
            "one image on this node and another on that; name it by its digest, NAME@sha256:DIGEST"
        )


def devices(config: KubeflowConfig) -> str:
    """Returns on what a model is trained, as far as it bears on the model: how many devices, and which.

    On how many machines they are does not: the devices of all share each batch in the same way. What kind of
    GPU it is, which may decide the precision, the resource's name seldom tells, but a selector of nodes.
    """
    number, kind = _devices(config)
    stage = config.stage("Trainer")
    nodes = (
        f" on {json.dumps(stage.node_selector, sort_keys=True)}" if stage.gpus and stage.node_selector else ""
    )
    return f"{number} of {kind}{nodes}"


def machine_options(config: KubeflowConfig, image: str) -> list[str]:
    """Returns what the Trainer's task must know of the machines in its place, nothing where it is alone.

    Args:
        config: says how many, and what each asks for.
        image: of all containers.
    """
    machines = _machines(config)
    if machines == 1:
        return []
    return [
        f"--training_machines={machines}",
        f"--training_pod={json.dumps(worker_pod(config, image))}",
        *shared_options(config, "Trainer"),
    ]


def shared_options(config: KubeflowConfig, stage: str) -> list[str]:
    """Returns what a stage must know whose artifacts other machines are to see."""
    seconds = config.stage(stage).timeout_seconds
    return [f"--shared_dir={config.shared_dir}", f"--shared_seconds={seconds}"]


def _machines(config: KubeflowConfig) -> int:
    return config.stage("Trainer").machines or 1


def _devices(config: KubeflowConfig) -> tuple[int, str]:
    stage = config.stage("Trainer")
    return _machines(config) * max(1, stage.gpus or 0), str(stage.gpu_resource) if stage.gpus else "cpu"


def worker_pod(config: KubeflowConfig, image: str) -> dict[str, Any]:
    """Returns the template of the pods of a training on several machines, but for what its job gives them.

    It is what the Trainer's own pod would be, in Kubernetes' words, and content with restricted Pod Security.

    Args:
        config: what holds for every stage, and the Trainer's.
        image: the pods'.
    """
    stage = config.stage("Trainer")
    limits = {"cpu": stage.cpu_limit, "memory": stage.memory_limit}
    if stage.gpus:
        limits[str(stage.gpu_resource)] = str(stage.gpus)
    mounts = [
        _without_nulls(name=each.claim, mountPath=each.mount_path, subPath=each.sub_path)
        for each in config.volumes
    ]
    volumes: list[dict[str, Any]] = [
        {"name": each.claim, "persistentVolumeClaim": {"claimName": each.claim}} for each in config.volumes
    ]
    for shared in shared_memory(stage):
        mounts.append({"name": shared.volume_name, "mountPath": shared.mount_path})
        volumes.append({"name": shared.volume_name, "emptyDir": {"medium": shared.medium}})
    container = {
        "name": "worker",
        "image": image,
        "imagePullPolicy": config.image_pull_policy,
        "resources": {
            "requests": {"cpu": stage.cpu_request, "memory": stage.memory_request},
            "limits": limits,
        },
        "volumeMounts": mounts,
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        # Why it failed is then in the pod's status, and following it takes no right to read logs.
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    component = {"app.kubernetes.io/component": "training-worker"}
    pod = _without_nulls(
        restartPolicy="Never",
        serviceAccountName=config.service_account,
        # They ask the API server for nothing.
        automountServiceAccountToken=False,
        imagePullSecrets=[{"name": name} for name in config.image_pull_secrets] or None,
        nodeSelector=stage.node_selector or None,
        tolerations=[each.model_dump(exclude_none=True) for each in stage.tolerations or ()] or None,
        # Several on one node would be no several machines.
        topologySpreadConstraints=[
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": component},
            }
        ],
        securityContext={"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        containers=[container],
        volumes=volumes,
    )
    # A proxy beside them would end gRPC and NCCL between the pods, and never end itself.
    labels = {**component, "sidecar.istio.io/inject": "false"}
    return {"metadata": {"labels": labels}, "spec": pod}


def _without_nulls(**values: Any) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}
