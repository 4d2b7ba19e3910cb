"""Makes what TFX's compiler writes compatible with the open-source backend of Kubeflow Pipelines.

TFX compiles for Vertex AI. kfp's client takes what it writes, and then the backend fails on it, or ignores
it. Each rule is one function here, with its reason; files named are those of github.com/kubeflow/pipelines.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, TypeAlias

import yaml
from google.protobuf import json_format
from google.protobuf.duration_pb2 import Duration
from kfp.pipeline_spec.pipeline_spec_pb2 import (
    ArtifactTypeSchema,
    PipelineDeploymentConfig,
    PipelineSpec,
    PipelineTaskSpec,
)

from components.dataset.artifacts import HtmlReport
from pipeline.kubeflow.executor_input import PUSHED_MODEL
from pipeline.kubeflow.spec.caching import LINEAGE
from pipeline.kubeflow_config import MODEL_PUSHED, KubeflowConfig
from pipeline.kubernetes_types import parse_quantity

OUTPUTS_SPEC_FLAG: Final = "--json_serialized_outputs_spec_args"
_EXECUTOR_FLAG: Final = "--executor_class_path"
_PLAIN_TYPE: Final = "system.Artifact"
_KNOWN_TYPES: Final = {
    "tfx.Examples": "system.Dataset",
    "tfx.Model": "system.Model",
    HtmlReport.TYPE_NAME: "system.HTML",
}
_TYPE_VERSION: Final = "0.0.1"
_CACHEABLE: Final = frozenset({"CuratedSchema"})
_RETRY_WINDOW: Final = Duration(seconds=365 * 24 * 3600)
"""Long enough for any number of attempts."""

_ANNOUNCE_FLAG: Final = "--announce_pushed_model"

ContainerSpec: TypeAlias = PipelineDeploymentConfig.PipelineContainerSpec


@dataclass(frozen=True)
class Target:
    """What the compatible pipeline is to say where TFX has no words for it."""

    image: str
    command: tuple[str, ...]
    """Of every stage's container."""
    pipeline_root: str
    defaults: Mapping[str, str | int | float]
    """Of the pipeline's parameters, by name."""
    config: KubeflowConfig


Rule = Callable[[PipelineSpec, Target], None]


def make_compatible(spec: PipelineSpec, target: Target) -> None:
    """Applies all rules to a pipeline as TFX has compiled it, in place."""
    for rule in RULES:
        rule(spec, target)


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


def add_verdict(spec: PipelineSpec, target: Target) -> None:
    """Ends the pipeline in a task that runs only if a model was pushed.

    Whether the gate let the model pass is in the Pusher's metadata alone, which no API of a run shows: a
    refusal is no failure. The state of this task shows it: SUCCEEDED or SKIPPED. The condition is what TFX's
    ``Cond`` compiles to, and 1.0 a double as all numbers in the backend's metadata; ``Cond`` itself names an
    input that does not exist where the stage also reads what the condition looks at.
    """
    tasks = spec.root.dag.tasks
    for producer, task in list(tasks.items()):
        outputs = spec.components[task.component_ref.name].output_definitions.artifacts
        if PUSHED_MODEL not in outputs:
            continue
        component = spec.components[MODEL_PUSHED]
        component.executor_label = f"{MODEL_PUSHED}-executor"
        component.input_definitions.artifacts[PUSHED_MODEL].artifact_type.CopyFrom(
            outputs[PUSHED_MODEL].artifact_type
        )
        verdict = tasks[MODEL_PUSHED]
        verdict.task_info.name = verdict.component_ref.name = MODEL_PUSHED
        verdict.dependent_tasks.append(producer)
        artifact = verdict.inputs.artifacts[PUSHED_MODEL].task_output_artifact
        artifact.producer_task, artifact.output_artifact_key = producer, PUSHED_MODEL
        verdict.trigger_policy.condition = (
            f"(inputs.artifacts['{PUSHED_MODEL}'].artifacts[0].metadata['pushed'] == 1.0)"
        )
        with open_deployment(spec) as deployment:
            deployment.executors[component.executor_label].container.CopyFrom(
                ContainerSpec(image=target.image, command=target.command, args=[_ANNOUNCE_FLAG, "{{$}}"])
            )
        return


def keep_pipeline_root(spec: PipelineSpec, target: Target) -> None:
    """Names the directory of all artifacts, which TFX writes into a PipelineJob's JSON only.

    For people and for KFP's pages; what a run uses is given at its submission.
    """
    spec.default_pipeline_root = target.pipeline_root


def keep_defaults(spec: PipelineSpec, target: Target) -> None:
    """Gives the pipeline's parameters their defaults, which TFX drops.

    Without them a run that leaves one out fails to start.
    """
    for name, parameter in spec.root.input_definitions.parameters.items():
        json_format.ParseDict(target.defaults[name], parameter.default_value)


def hand_over_types(spec: PipelineSpec, target: Target) -> None:
    """Tells the entrypoint of the TFX types of a stage's outputs, as TFX itself tells it of the inputs'.

    The argument ``--json_serialized_outputs_spec_args`` is the component's ``outputDefinitions`` as TFX has
    compiled them, the JSON of a ComponentOutputsSpec; what the launcher says of types is what
    `use_known_types` leaves.
    """
    with open_deployment(spec) as deployment:
        for name, container in containers(spec, deployment):
            if _EXECUTOR_FLAG in container.args:
                outputs = spec.components[spec.root.dag.tasks[name].component_ref.name].output_definitions
                text = json_format.MessageToJson(outputs, sort_keys=True)
                container.args.extend([OUTPUTS_SPEC_FLAG, text])


def use_known_types(spec: PipelineSpec, target: Target) -> None:
    """Types artifacts as KFP does itself.

    Backends without ML Metadata fail a task whose output has any other type ("unknown artifact type":
    ``artifactTypeSchemaToArtifactType`` in ``v2/component/util.go``, called by ``launcher_v2.go``), and
    compare the whole of TFX's YAML schema. KFP's pages show ``system.HTML``. ``system.Metrics`` would not
    do for an evaluation: its metadata must be numbers.
    """
    for component in spec.components.values():
        for definitions in (component.input_definitions, component.output_definitions):
            for artifact in definitions.artifacts.values():
                title = yaml.safe_load(artifact.artifact_type.instance_schema)["title"]
                known = ArtifactTypeSchema(
                    schema_title=_KNOWN_TYPES.get(title, _PLAIN_TYPE), schema_version=_TYPE_VERSION
                )
                artifact.artifact_type.CopyFrom(known)


def restrict_caching(spec: PipelineSpec, target: Target) -> None:
    """Lets the cache answer only for a stage whose key tells all that it reads.

    One reads nothing but its own parameters; the others need what `complete_cache_keys` adds, or would be
    answered with what was made from other files, or with the blessing of another model.
    """
    for name, task in spec.root.dag.tasks.items():
        task.ClearField("caching_options")
        if target.config.cache and (name in _CACHEABLE or LINEAGE in task.inputs.parameters):
            task.caching_options.enable_cache = True


def set_retries(spec: PipelineSpec, target: Target) -> None:
    """Says how often a failed pod is started again, which is at once.

    Failed is also one past its ``timeout_seconds`` (``inferFailedReason`` in Argo's ``operator.go``), and a
    policy that says nothing else takes failed ones, not deleted ones (``RetryPolicyActual``).

    All four fields are needed (``getTaskRetryParameters`` in ``v2/compiler/argocompiler/container.go``): one
    that is missing becomes 0. The longest duration is none of a pause but of all attempts together, waiting
    for nodes included, from the start of the first: after it Argo starts no other, and stops one that runs
    (``processNodeRetries`` in github.com/argoproj/argo-workflows, ``workflow/controller/operator.go``). The
    hour of KFP's own SDK would leave a longer training without a second attempt. What bounds an attempt
    here is its ``timeout_seconds``.
    """
    for name, task in spec.root.dag.tasks.items():
        retries = target.config.stage(name).retries
        if retries:
            task.retry_policy.CopyFrom(
                PipelineTaskSpec.RetryPolicy(
                    max_retry_count=retries,
                    backoff_duration=Duration(seconds=0),
                    backoff_factor=1.0,
                    backoff_max_duration=_RETRY_WINDOW,
                )
            )


def set_resources(spec: PipelineSpec, target: Target) -> None:
    """Says what each container needs, which TFX keeps for some stages and drops for others.

    The backend reads the fields of text and, where it does not know them yet, those of numbers: cores, and
    gigabytes of 10⁹ (``getPodResource`` in ``v2/driver``). An accelerator's type becomes the name of the
    Kubernetes resource.
    """
    with open_deployment(spec) as deployment:
        for name, container in containers(spec, deployment):
            stage = target.config.task_pod(name)
            resources = container.resources
            for bound in ("request", "limit"):
                cpu, memory = str(getattr(stage, f"cpu_{bound}")), str(getattr(stage, f"memory_{bound}"))
                setattr(resources, f"resource_cpu_{bound}", cpu)
                setattr(resources, f"cpu_{bound}", parse_quantity(cpu))
                setattr(resources, f"resource_memory_{bound}", memory)
                setattr(resources, f"memory_{bound}", parse_quantity(memory) / 1e9)
            if stage.gpus:
                accelerator = resources.accelerator
                accelerator.type = accelerator.resource_type = stage.gpu_resource or ""
                accelerator.count, accelerator.resource_count = stage.gpus, str(stage.gpus)


RULES: Final[tuple[Rule, ...]] = (
    add_verdict,
    keep_pipeline_root,
    keep_defaults,
    hand_over_types,
    use_known_types,
    restrict_caching,
    set_retries,
    set_resources,
)
"""In the order in which they are applied."""
