"""Runs a pipeline's stages one after the other in this process, and tells what became of each.

TFX's own LocalDagRunner does the same, but says neither when a stage starts nor whether it was cached.
"""

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Final

from ml_metadata.proto import metadata_store_pb2
from tfx.dsl.compiler import compiler, constants
from tfx.orchestration import metadata
from tfx.orchestration.local import runner_utils
from tfx.orchestration.pipeline import Pipeline
from tfx.orchestration.portable import (
    base_executor_operator,
    beam_executor_operator,
    python_executor_operator,
    runtime_parameter_utils,
)
from tfx.orchestration.portable.mlmd import execution_lib
from tfx.proto.orchestration import executable_spec_pb2

from components.memory import high_water_mark
from pipeline.failures import exits_are_failures
from pipeline.local.launcher import Launcher
from pipeline.local.running_code import RunningCode
from pipeline.tfxio import configure_tfxio

_Execution = metadata_store_pb2.Execution
_PROCESS: Final = Path("/proc/self")
_RESET_PEAK: Final = "5"
"""What ``clear_refs`` takes for: the peak of the resident set is what it is now (proc_pid_clear_refs(5))."""
_MEGABYTE: Final = 1e6
BeamArgs = Callable[[str], Sequence[str]]
"""Gives Beam's command line by a stage's name."""
_OPERATORS: Final = {
    executable_spec_pb2.BeamExecutableSpec: beam_executor_operator.BeamExecutorOperator,
    executable_spec_pb2.PythonClassExecutableSpec: python_executor_operator.PythonExecutorOperator,
}
"""What runs executors of either kind."""


@dataclass(frozen=True)
class StageResult:
    """A stage that is done."""

    name: str
    seconds: float
    cached: bool
    """Nothing was executed: the same code, settings and inputs had been seen before."""
    outputs: dict[str, list[Any]]
    """TFX artifacts by output key."""
    memory_mb: float | None = None
    """The most memory this process had meanwhile, in units of 10⁶ bytes; None where it cannot be measured or
    nothing was executed. What Beam's worker processes had is not in it."""


class Stage:
    """One node of a compiled pipeline, ready to run."""

    def __init__(
        self,
        node: Any,
        pipeline: Any,
        deployment: Any,
        connection: Any,
        beam_args: BeamArgs,
        code: RunningCode,
    ):
        self.name: str = node.node_info.id
        self._node = node
        self._pipeline = pipeline
        self._deployment = deployment
        self._connection = connection
        self._beam_args = beam_args
        self._code = code

    def run(self) -> StageResult:
        """Runs the stage, or takes the outputs of an equal earlier execution from the cache.

        Raises:
            Exception: whatever the stage raises.
        """
        started = time.monotonic()
        measures_memory = forget_peak_memory()
        execution_info = Launcher(
            self._code,
            pipeline_node=self._node,
            mlmd_connection=metadata.Metadata(self._connection),
            pipeline_info=self._pipeline.pipeline_info,
            pipeline_runtime_spec=self._pipeline.runtime_spec,
            executor_spec=runner_utils.extract_executor_spec(self._deployment, self.name),
            custom_driver_spec=runner_utils.extract_custom_driver_spec(self._deployment, self.name),
            custom_executor_operators=dict.fromkeys(
                _OPERATORS, partial(_LateOperator, beam_pipeline_args=self._beam_args(self.name))
            ),
        ).launch()
        with metadata.Metadata(self._connection) as store:
            [execution] = store.store.get_executions_by_id([execution_info.execution_id])
            if not execution_lib.is_execution_successful(execution):
                # The launcher raises what the executor raises, but only records inputs it cannot resolve.
                raise RuntimeError(f"{self.name} could not start: {_recorded_reason(execution)}")
            outputs = execution_lib.get_output_artifacts(store, execution.id)
        cached = execution.last_known_state == _Execution.CACHED
        return StageResult(
            name=self.name,
            seconds=time.monotonic() - started,
            cached=cached,
            outputs={key: list(artifacts) for key, artifacts in outputs.items()},
            memory_mb=peak_memory_mb() if measures_memory and not cached else None,
        )


class _LateOperator(base_executor_operator.BaseExecutorOperator):
    """TFX's operator, made when there is something to execute: it imports the executor."""

    SUPPORTED_EXECUTOR_SPEC_TYPE: ClassVar = list(_OPERATORS)
    SUPPORTED_PLATFORM_CONFIG_TYPE: ClassVar[list[type]] = []

    def __init__(self, executor_spec: Any, platform_config: Any, beam_pipeline_args: Sequence[str]):
        super().__init__(executor_spec, platform_config)
        self._beam_pipeline_args = beam_pipeline_args

    def run_executor(self, execution_info: Any) -> Any:
        spec = type(self._executor_spec)()
        spec.CopyFrom(self._executor_spec)
        if isinstance(spec, executable_spec_pb2.BeamExecutableSpec):
            # As late as here, behind the cache: who does the work changes no result.
            for argument in self._beam_pipeline_args:
                spec.beam_pipeline_args_placeholders.add().value.string_value = argument
        operator = _OPERATORS[type(spec)](spec)
        with exits_are_failures():
            return operator.with_execution_watcher(self._execution_watcher_address).run_executor(
                execution_info
            )


def stages_of(
    pipeline: Pipeline,
    run_id: str,
    beam_args: BeamArgs = lambda _: (),
    code: RunningCode | None = None,
) -> list[Stage]:
    """Compiles a pipeline for a new run and returns its stages in the order they must run.

    Args:
        pipeline: what to run.
        run_id: no other run of the pipeline has it.
        beam_args: gives Beam's command line for a stage; not part of what the cache compares.
        code: what it was composed from; None is what is there now.
    """
    code = code or RunningCode()
    configure_tfxio()
    compiled = compiler.Compiler().compile(pipeline)
    runtime_parameter_utils.substitute_runtime_parameter(
        compiled, {constants.PIPELINE_RUN_ID_PARAMETER_NAME: run_id}
    )
    deployment = runner_utils.extract_local_deployment_config(compiled)
    connection_config = deployment.metadata_connection_config
    connection = getattr(connection_config, connection_config.WhichOneof("connection_config"))
    return [
        Stage(node.pipeline_node, compiled, deployment, connection, beam_args, code)
        for node in compiled.nodes
    ]


def fail_abandoned_executions(metadata_path: Path, artifacts: Path) -> None:
    """Records that what a run was at when it was killed, or interrupted, has failed, and removes its outputs.

    TFX takes an execution for running until it hears of its end. Nobody else may be at work there.

    Args:
        metadata_path: the SQLite file of ML Metadata.
        artifacts: directory of all artifacts.
    """
    connection = metadata.sqlite_metadata_connection_config(str(metadata_path))
    with metadata.Metadata(connection) as store:
        for execution in store.store.get_executions():
            if execution_lib.is_execution_active(execution):
                # As `outputs_utils` of TFX names them; the same number stands for nothing else.
                for pattern in (f"*/*/{execution.id}", f"*/.system/*/{execution.id}"):
                    for outputs in artifacts.glob(pattern):
                        shutil.rmtree(outputs)
                # Last: whoever is killed before it will be here again.
                execution.last_known_state = _Execution.FAILED
                store.store.put_executions([execution])
    for left in artifacts.glob("*/.system/stateful_working_dir/*"):
        shutil.rmtree(left)


def _recorded_reason(execution: Any) -> str:
    result = execution_lib.get_execution_result(execution, ignore_parse_errors=True)
    return result.result_message if result and result.result_message else "its inputs could not be resolved"


def forget_peak_memory() -> bool:
    """Has ``peak_memory_mb`` count from now on; returns whether this system can do that."""
    try:
        (_PROCESS / "clear_refs").write_text(_RESET_PEAK)
    except OSError:
        return False
    return True


def peak_memory_mb() -> float | None:
    """Returns the most that was resident, in units of 10⁶ bytes; None where the system does not count it."""
    peak = high_water_mark(_PROCESS)
    return None if peak is None else round(peak / _MEGABYTE, 1)
