"""Tells the backend's cache of what its key does not hold.

The key (``GenerateCacheKey`` in the backend's ``v2/cacheutils/cache.go``) is made of image, arguments,
parameters, and the names of claims and input artifacts. What lies below a path or is being served it does not
know, nor on what devices a model is trained; and an artifact's name is its id in ML Metadata or, on backends
without that, the output's key, which is ``model`` for every model. So two small tasks read what no key holds,
every run anew, and give it on as parameters; the Trainer has its devices as one; and each stage has besides,
as parameters that begin with `LINEAGE`, whatever the tasks before it depend on. Equal keys then mean equal
inputs on every backend.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from graphlib import TopologicalSorter
from typing import Final

from google.protobuf import json_format
from kfp.pipeline_spec.pipeline_spec_pb2 import (
    ParameterType,
    PipelineDeploymentConfig,
    PipelineSpec,
    PipelineTaskSpec,
    TaskInputsSpec,
)

from components.image_mask_example_gen.inputs import DATASET_KEY, FINGERPRINT_KEY
from components.model_store.tokens import PUSH_TOKEN_KEY, SERVED_MODEL_KEY
from components.run_parameters import DATA_PATH, SERVING_DIR
from pipeline.kubeflow_config import PUSHER

LINEAGE: Final = "lineage"
"""Parameters that begin so are for the cache alone; no stage hears of them."""
DATA_TASK: Final = "data-fingerprint"
SERVED_TASK: Final = "served-fingerprint"
READER: Final = "ImageMaskExampleGen"
"""The stage that reads the data."""

_DATA_FLAG: Final = "--fingerprint_data"
_SERVED_FLAG: Final = "--fingerprint_served"
_MODEL_KEY: Final = "model"
_BASELINE: Final = "Baseline"
_SERVING_CHECK: Final = "ServingCheck"
_TRAINER: Final = "Trainer"


def complete_cache_keys(spec: PipelineSpec, image: str, command: Sequence[str], devices: str) -> None:
    """Adds the two tasks and the stages' lineage.

    Args:
        spec: as TFX has compiled it, changed in place.
        image: of all containers.
        command: of all containers.
        devices: the Trainer's: another number or kind makes another model.
    """
    container = PipelineDeploymentConfig.PipelineContainerSpec(image=image, command=command)
    read = (DATASET_KEY, DATA_PATH)
    _add_task(spec, container, DATA_TASK, _DATA_FLAG, READER, read, (), (FINGERPRINT_KEY,))
    _give(spec, DATA_TASK, FINGERPRINT_KEY, READER)
    answers = (SERVED_MODEL_KEY, PUSH_TOKEN_KEY)
    _add_task(spec, container, SERVED_TASK, _SERVED_FLAG, _BASELINE, (SERVING_DIR,), (_MODEL_KEY,), answers)
    _give(spec, SERVED_TASK, SERVED_MODEL_KEY, _BASELINE)
    _give(spec, SERVED_TASK, PUSH_TOKEN_KEY, PUSHER)
    # The token is new in every run until the model is served: a check that refused it is made again.
    _give(spec, SERVED_TASK, PUSH_TOKEN_KEY, _SERVING_CHECK, f"{LINEAGE}_{PUSH_TOKEN_KEY}")
    _add_parameter(spec, _TRAINER, f"{LINEAGE}_devices", _constant(devices))
    _hand_lineage_down(spec)


def _add_task(
    spec: PipelineSpec,
    container: PipelineDeploymentConfig.PipelineContainerSpec,
    name: str,
    flag: str,
    like: str,
    parameters: Sequence[str],
    artifacts: Sequence[str],
    answers: Sequence[str],
) -> None:
    """Adds a task that takes some of another one's inputs, and answers with texts."""
    model = spec.root.dag.tasks[like]
    declared = spec.components[model.component_ref.name].input_definitions
    task, component = spec.root.dag.tasks[name], spec.components[name]
    task.task_info.name = task.component_ref.name = name
    component.executor_label = f"{name}-executor"
    for key in parameters:
        task.inputs.parameters[key].CopyFrom(model.inputs.parameters[key])
        component.input_definitions.parameters[key].CopyFrom(declared.parameters[key])
    for key in artifacts:
        task.inputs.artifacts[key].CopyFrom(model.inputs.artifacts[key])
        task.dependent_tasks.append(model.inputs.artifacts[key].task_output_artifact.producer_task)
        component.input_definitions.artifacts[key].CopyFrom(declared.artifacts[key])
    for key in answers:
        component.output_definitions.parameters[key].parameter_type = ParameterType.STRING
    executor = PipelineDeploymentConfig.ExecutorSpec(container=container)
    executor.container.args.extend([flag, "{{$}}"])
    spec.deployment_spec["executors"][component.executor_label] = json_format.MessageToDict(executor)


def _give(spec: PipelineSpec, producer: str, key: str, consumer: str, name: str = "") -> None:
    """Makes an answer a parameter of another task, of the same name unless another is given."""
    spec.root.dag.tasks[consumer].dependent_tasks.append(producer)
    source = TaskInputsSpec.InputParameterSpec()
    source.task_output_parameter.producer_task = producer
    source.task_output_parameter.output_parameter_key = key
    _add_parameter(spec, consumer, name or key, source)


def _hand_lineage_down(spec: PipelineSpec) -> None:
    tasks = spec.root.dag.tasks
    before = {name: set(task.dependent_tasks) for name, task in tasks.items()}
    ancestors: dict[str, set[str]] = {}
    for name in TopologicalSorter(before).static_order():
        ancestors[name] = before[name].union(*(ancestors[other] for other in before[name]))
    own = {name: dict(task.inputs.parameters.items()) for name, task in tasks.items()}
    for name in sorted(tasks.keys() - {DATA_TASK, SERVED_TASK}):
        if not ancestors[name]:
            continue
        constants = []
        for ancestor in sorted(ancestors[name]):
            constants.append([ancestor, *_constants(spec, tasks[ancestor])])
            for source in own[ancestor].values():
                if source.WhichOneof("kind") != "runtime_value" and source not in own[name].values():
                    _add_parameter(spec, name, _lineage_name(source), source)
        text = json.dumps(constants, sort_keys=True).encode()
        _add_parameter(spec, name, LINEAGE, _constant(hashlib.sha256(text).hexdigest()))


def _lineage_name(source: TaskInputsSpec.InputParameterSpec) -> str:
    """One name for each source: two tasks may call different things alike."""
    output = source.task_output_parameter
    parts = (LINEAGE, source.component_input_parameter, output.producer_task, output.output_parameter_key)
    return "_".join(filter(None, parts)).replace("-", "_")


def _constants(spec: PipelineSpec, task: PipelineTaskSpec) -> Iterator[object]:
    """Yields what is fixed in a package of that on which a task's outputs depend."""
    label = spec.components[task.component_ref.name].executor_label
    yield json_format.MessageToDict(spec.deployment_spec["executors"][label])
    for key, source in sorted(task.inputs.parameters.items()):
        if source.WhichOneof("kind") == "runtime_value" and key != LINEAGE:
            yield [key, json_format.MessageToDict(source)]


def _constant(text: str) -> TaskInputsSpec.InputParameterSpec:
    source = TaskInputsSpec.InputParameterSpec()
    source.runtime_value.constant.string_value = text
    return source


def _add_parameter(
    spec: PipelineSpec, name: str, key: str, source: TaskInputsSpec.InputParameterSpec
) -> None:
    task = spec.root.dag.tasks[name]
    task.inputs.parameters[key].CopyFrom(source)
    declared = spec.components[task.component_ref.name].input_definitions.parameters[key]
    if source.HasField("component_input_parameter"):
        of_run = spec.root.input_definitions.parameters[source.component_input_parameter]
        declared.parameter_type = of_run.parameter_type
    else:
        declared.parameter_type = ParameterType.STRING
