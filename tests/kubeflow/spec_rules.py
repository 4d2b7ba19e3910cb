"""What open-source Kubeflow Pipelines asks of a package's first document, one function a rule.

Written from the backend's side: each rule looks at what the backend reads, not at what mending does. Files
named are those of github.com/kubeflow/pipelines/backend/src.
"""

import json
import re
from collections.abc import Callable, Iterator
from math import isclose

from google.protobuf import json_format
from kfp.pipeline_spec.pipeline_spec_pb2 import (
    ComponentOutputsSpec,
    ParameterType,
    PipelineDeploymentConfig,
    PipelineSpec,
)

from pipeline.kubeflow_config import KubeflowConfig
from pipeline.kubernetes_types import parse_quantity

Rule = Callable[[PipelineSpec, KubeflowConfig], Iterator[str]]

ARTIFACT_TYPES = {
    *("system.Artifact", "system.Dataset", "system.Model", "system.Metrics", "system.ClassificationMetrics"),
    *("system.SlicedClassificationMetrics", "system.HTML", "system.Markdown"),
}
"""``artifactTypeSchemaToArtifactTypeMap`` in v2/component/util.go."""


def violations(spec: PipelineSpec, config: KubeflowConfig) -> list[str]:
    """Returns what the backend would fail on or ignore, a line each."""
    return [f"{rule.__name__}: {problem}" for rule in RULES for problem in rule(spec, config)]


def is_complete(spec: PipelineSpec, config: KubeflowConfig) -> Iterator[str]:
    # apiserver/template/template.go tells v2 from v1 by it; v2/compiler/argocompiler/argo.go wants the name.
    if spec.schema_version != "2.1.0":
        yield f"schemaVersion {spec.schema_version}"
    if not spec.pipeline_info.name:
        yield "no pipelineInfo.name"
    if not spec.default_pipeline_root:
        yield "no defaultPipelineRoot"


def containers_have_no_variables(spec: PipelineSpec, config: KubeflowConfig) -> Iterator[str]:
    # Backends newer than 2.17 count them in the cache's key: getFingerPrint in v2/driver/cache.go.
    for label, executor in json_format.MessageToDict(spec.deployment_spec)["executors"].items():
        if executor.get("container", {}).get("env"):
            yield label


def names_suit_argo(spec: PipelineSpec, config: KubeflowConfig) -> Iterator[str]:
    for name in (*spec.root.dag.tasks, *spec.components):
        if not re.fullmatch(r"[a-zA-Z0-9][-a-zA-Z0-9]*", name):
            yield name
    for name, task in spec.root.dag.tasks.items():
        # v2/metadata/client.go finds the producer of an artifact by its taskInfo.
        if task.task_info.name != name:
            yield f"{name} calls itself {task.task_info.name}"


def references_exist(spec: PipelineSpec, config: KubeflowConfig) -> Iterator[str]:
    # addImplicitDependencies in v2/compiler/argocompiler/dag.go: "unknown producer task".
    tasks = spec.root.dag.tasks
    for name, task in tasks.items():
        if task.component_ref.name not in spec.components:
            yield f"{name}: component {task.component_ref.name}"
        for dependency in task.dependent_tasks:
            if dependency not in tasks:
                yield f"{name} depends on {dependency}"
        for artifact in task.inputs.artifacts.values():
            output = artifact.task_output_artifact
            if output.output_artifact_key not in _outputs(spec, output.producer_task).artifacts:
                yield f"{name} reads {output.producer_task}.{output.output_artifact_key}"
        for parameter in task.inputs.parameters.values():
            source = parameter.WhichOneof("kind")
            if source == "task_output_parameter":
                value = parameter.task_output_parameter
                if value.output_parameter_key not in _outputs(spec, value.producer_task).parameters:
                    yield f"{name} takes {value.producer_task}.{value.output_parameter_key}"
            elif source == "component_input_parameter":
                if parameter.component_input_parameter not in spec.root.input_definitions.parameters:
                    yield f"{name} takes {parameter.component_input_parameter}"
            elif source != "runtime_value":
                yield f"{name} has a parameter from nowhere"


def inputs_are_given(spec: PipelineSpec, config: KubeflowConfig) -> Iterator[str]:
    for name, task in spec.root.dag.tasks.items():
        declared = spec.components[task.component_ref.name].input_definitions
        for kind in ("artifacts", "parameters"):
            missing = set(getattr(declared, kind)) ^ set(getattr(task.inputs, kind))
            if missing:
                yield f"{name}: {kind} {sorted(missing)}"


def executors_are_containers_or_importers(spec: PipelineSpec, config: KubeflowConfig) -> Iterator[str]:
    # v2/compiler/argocompiler/dag.go: "resolver executors not implemented".
    executors = _deployment(spec).executors
    for name, component in spec.components.items():
        label = component.executor_label
        if label not in executors or executors[label].WhichOneof("spec") not in ("container", "importer"):
            yield name


def importers_find_their_uri(spec: PipelineSpec, config: KubeflowConfig) -> Iterator[str]:
    # ImportSpecToMLMDArtifact in v2/component/importer_launcher.go: "cannot find parameter … in task input";
    # then it looks in the inputs of the whole pipeline, so neither a constant nor another task's output does.
    for name, importer in _importers(spec):
        parameters = spec.root.dag.tasks[name].inputs.parameters
        key = importer.artifact_uri.runtime_parameter
        if key not in parameters or not parameters[key].component_input_parameter:
            yield name


def importers_are_what_the_backend_runs(spec: PipelineSpec, config: KubeflowConfig) -> Iterator[str]:
    for name, importer in _importers(spec):
        task = spec.root.dag.tasks[name]
        outputs = list(_outputs(spec, name).artifacts.values())
        # v2/compiler/argocompiler/dag.go: "triggerPolicy.condition on importer task is not supported"; its
        # importer.go has no retries.
        if task.trigger_policy.condition or task.HasField("retry_policy"):
            yield f"{name}: {task}"
        # getOutPutArtifactName in v2/component/importer_launcher.go: exactly one.
        if [output.artifact_type for output in outputs] != [importer.type_schema]:
            yield f"{name} gives {outputs}"
        # findOrNewArtifactToImport there: an earlier run's artifact, as long as the URI is the same.
        if not importer.reimport:
            yield f"{name} takes the artifact of another run"


def containers_run_our_entrypoint(spec: PipelineSpec, config: KubeflowConfig) -> Iterator[str]:
    for name, container in _containers(spec):
        if list(container.command) != ["python", "-m", "pipeline.kubeflow.entrypoint"] or not container.image:
            yield f"{name}: {container.image} {list(container.command)}"
        if list(container.args).count("{{$}}") != 1:
            yield f"{name}: {list(container.args)}"


def parameters_have_defaults(spec: PipelineSpec, config: KubeflowConfig) -> Iterator[str]:
    # Compile in v2/compiler/argocompiler/argo.go fills them in.
    kinds = {
        ParameterType.STRING: "string_value",
        ParameterType.NUMBER_INTEGER: "number_value",
        ParameterType.NUMBER_DOUBLE: "number_value",
    }
    for name, parameter in spec.root.input_definitions.parameters.items():
        if parameter.default_value.WhichOneof("kind") != kinds[parameter.parameter_type]:
            yield name


def types_are_known(spec: PipelineSpec, config: KubeflowConfig) -> Iterator[str]:
    # v2/component/launcher_v2.go: "unknown artifact type".
    for name, component in spec.components.items():
        for definitions in (component.input_definitions, component.output_definitions):
            for key, artifact in definitions.artifacts.items():
                if artifact.artifact_type.schema_title not in ARTIFACT_TYPES:
                    yield f"{name}.{key}: {artifact.artifact_type}"


def tfx_types_can_be_restored(spec: PipelineSpec, config: KubeflowConfig) -> Iterator[str]:
    for name, container in _containers(spec):
        arguments = list(container.args)
        if "--executor_class_path" not in arguments:
            continue
        component = spec.components[spec.root.dag.tasks[name].component_ref.name]
        for flag, definitions in (
            ("--json_serialized_inputs_spec_args", component.input_definitions),
            ("--json_serialized_outputs_spec_args", component.output_definitions),
        ):
            if flag not in arguments:
                yield f"{name}: no {flag}"
                continue
            declared = json.loads(arguments[arguments.index(flag) + 1]).get("artifacts", {})
            if set(declared) != set(definitions.artifacts):
                yield f"{name}: {flag} has {sorted(declared)}"


def no_driver_is_expected(spec: PipelineSpec, config: KubeflowConfig) -> Iterator[str]:
    # No file of the backend reads lifecycle.
    for name, container in _containers(spec):
        if container.HasField("lifecycle"):
            yield name


def cache_knows_all_that_a_stage_reads(spec: PipelineSpec, config: KubeflowConfig) -> Iterator[str]:
    # GenerateCacheKey in v2/cacheutils/cache.go: names of artifacts, not what is in them; no files.
    tasks = spec.root.dag.tasks
    reads_files = ("ExampleGen", "Baseline", "Pusher")
    for name, task in tasks.items():
        if not task.caching_options.enable_cache:
            continue
        sources = list(task.inputs.parameters.values())
        fingerprinted = any(source.HasField("task_output_parameter") for source in sources)
        if not config.cache or (name.endswith(reads_files) and not fingerprinted):
            yield name
        for other in _before(spec, name):
            for key, source in tasks[other].inputs.parameters.items():
                if source.WhichOneof("kind") != "runtime_value" and source not in sources:
                    yield f"{name} does not know {key} of {other}"
            if "lineage" not in task.inputs.parameters:
                yield f"{name} does not know how {other} was compiled"


def unchanged_data_trains_nothing(spec: PipelineSpec, config: KubeflowConfig) -> Iterator[str]:
    # What no key holds is read in every run, and the verdict is said in every run.
    for name, container in _containers(spec):
        asks = spec.root.dag.tasks[name].caching_options.enable_cache
        is_stage = "--executor_class_path" in container.args
        if asks and not is_stage:
            yield f"{name} is answered"
        if is_stage and not asks and "data-fingerprint" in spec.root.dag.tasks:
            yield name


def retries_are_complete(spec: PipelineSpec, config: KubeflowConfig) -> Iterator[str]:
    # getTaskRetryParameters in v2/compiler/argocompiler/container.go: what is not given becomes 0. The
    # longest duration is that of all attempts together, for Argo (processNodeRetries in its
    # workflow/controller/operator.go).
    for name, _ in _containers(spec):
        policy, stage = spec.root.dag.tasks[name].retry_policy, config.stage(name)
        if policy.max_retry_count != stage.retries:
            yield f"{name}: {policy.max_retry_count}"
        if policy.max_retry_count and not (
            policy.HasField("backoff_duration")
            and policy.backoff_factor >= 1
            and policy.backoff_max_duration.seconds
            > (policy.max_retry_count + 1) * (stage.timeout_seconds or 0)
        ):
            yield f"{name}: {policy}"


def resources_are_asked_for(spec: PipelineSpec, config: KubeflowConfig) -> Iterator[str]:
    # initPodSpecPatch in v2/driver/driver.go: the text, or else the number; %v cores, %vG of memory.
    for name, container in _containers(spec):
        stage, resources = config.task_pod(name), container.resources
        for bound in ("request", "limit"):
            for kind, unit in (("cpu", 1.0), ("memory", 1e9)):
                text = getattr(resources, f"resource_{kind}_{bound}")
                number = getattr(resources, f"{kind}_{bound}")
                if text != getattr(stage, f"{kind}_{bound}") or not isclose(
                    parse_quantity(text), number * unit
                ):
                    yield f"{name}: {kind} {bound} {text!r} {number}"
        accelerator = resources.accelerator
        expected = (stage.gpu_resource, stage.gpus) if stage.gpus else ("", 0)
        if (accelerator.type, accelerator.count) != expected or (
            accelerator.resource_type,
            int(accelerator.resource_count or 0),
        ) != expected:
            yield f"{name}: {accelerator}"


def a_push_is_announced(spec: PipelineSpec, config: KubeflowConfig) -> Iterator[str]:
    for name, task in spec.root.dag.tasks.items():
        if "pushed_model" in _outputs(spec, name).artifacts:
            verdict = spec.root.dag.tasks.get("model-pushed")
            if verdict is None or list(verdict.dependent_tasks) != [name]:
                yield "no model-pushed"
        if bool(task.trigger_policy.condition) != (name == "model-pushed"):
            yield f"{name} runs if {task.trigger_policy.condition!r}"


RULES: tuple[Rule, ...] = (
    is_complete,
    containers_have_no_variables,
    names_suit_argo,
    references_exist,
    inputs_are_given,
    executors_are_containers_or_importers,
    importers_find_their_uri,
    importers_are_what_the_backend_runs,
    containers_run_our_entrypoint,
    parameters_have_defaults,
    types_are_known,
    tfx_types_can_be_restored,
    no_driver_is_expected,
    cache_knows_all_that_a_stage_reads,
    unchanged_data_trains_nothing,
    retries_are_complete,
    resources_are_asked_for,
    a_push_is_announced,
)


def _deployment(spec: PipelineSpec) -> PipelineDeploymentConfig:
    # v2/compiler/util.go reads the struct just so.
    values = json_format.MessageToDict(spec.deployment_spec)
    return json_format.ParseDict(values, PipelineDeploymentConfig())


def _containers(spec: PipelineSpec) -> Iterator[tuple[str, PipelineDeploymentConfig.PipelineContainerSpec]]:
    executors = _deployment(spec).executors
    for name, task in spec.root.dag.tasks.items():
        executor = executors[spec.components[task.component_ref.name].executor_label]
        if executor.HasField("container"):
            yield name, executor.container


def _importers(spec: PipelineSpec) -> Iterator[tuple[str, PipelineDeploymentConfig.ImporterSpec]]:
    executors = _deployment(spec).executors
    for name, task in spec.root.dag.tasks.items():
        executor = executors[spec.components[task.component_ref.name].executor_label]
        if executor.HasField("importer"):
            yield name, executor.importer


def _before(spec: PipelineSpec, name: str) -> set[str]:
    """All tasks that a task comes after."""
    task = spec.root.dag.tasks[name]
    direct = {*task.dependent_tasks}
    direct |= {source.task_output_artifact.producer_task for source in task.inputs.artifacts.values()}
    direct |= {source.task_output_parameter.producer_task for source in task.inputs.parameters.values()}
    direct -= {""}
    return direct.union(*(_before(spec, other) for other in direct))


def _outputs(spec: PipelineSpec, task_name: str) -> ComponentOutputsSpec:
    if task_name not in spec.root.dag.tasks:
        return ComponentOutputsSpec()
    component = spec.root.dag.tasks[task_name].component_ref.name
    return spec.components[component].output_definitions
