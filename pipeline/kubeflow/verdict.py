"""The task whose state says whether a finished run has pushed a model."""

from typing import Final

from kfp.pipeline_spec.pipeline_spec_pb2 import PipelineSpec

from pipeline.kubeflow.config import MODEL_PUSHED
from pipeline.kubeflow.deployment import ContainerSpec, Target, open_deployment

_ANNOUNCE_FLAG: Final = "--announce_pushed_model"
_PUSHED_MODEL: Final = "pushed_model"


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
        if _PUSHED_MODEL not in outputs:
            continue
        component = spec.components[MODEL_PUSHED]
        component.executor_label = f"{MODEL_PUSHED}-executor"
        component.input_definitions.artifacts[_PUSHED_MODEL].artifact_type.CopyFrom(
            outputs[_PUSHED_MODEL].artifact_type
        )
        verdict = tasks[MODEL_PUSHED]
        verdict.task_info.name = verdict.component_ref.name = MODEL_PUSHED
        verdict.dependent_tasks.append(producer)
        artifact = verdict.inputs.artifacts[_PUSHED_MODEL].task_output_artifact
        artifact.producer_task, artifact.output_artifact_key = producer, _PUSHED_MODEL
        verdict.trigger_policy.condition = (
            f"(inputs.artifacts['{_PUSHED_MODEL}'].artifacts[0].metadata['pushed'] == 1.0)"
        )
        with open_deployment(spec) as deployment:
            deployment.executors[component.executor_label].container.CopyFrom(
                ContainerSpec(image=target.image, command=target.command, args=[_ANNOUNCE_FLAG, "{{$}}"])
            )
        return
