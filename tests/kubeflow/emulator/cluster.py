"""Argo's part: which task runs when, how often, and what becomes of those after it."""

import enum
import itertools
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from emulator import driver, launcher
from emulator.engine import Container, Image
from emulator.package import LoadedPackage
from emulator.pod import Pod
from emulator.stores import MetadataError, MetadataStore, ObjectStore, StoredArtifact

_PIPELINE_ROOT: Final = "s3://artifacts/pipelines"


class State(enum.StrEnum):
    """Of a task, in the words of the API's run details."""

    SUCCEEDED = "SUCCEEDED"
    CACHED = "CACHED"
    SKIPPED = "SKIPPED"
    """Its condition did not hold, or a task before it was skipped."""
    FAILED = "FAILED"
    OMITTED = "OMITTED"
    """A task before it failed."""


@dataclass
class TaskResult:
    """What became of a task."""

    state: State
    outputs: dict[str, StoredArtifact] = field(default_factory=dict)
    answers: dict[str, str] = field(default_factory=dict)
    """Output parameters."""
    log: str = ""
    seconds: float = 0
    attempts: int = 0


class Cluster:
    """Runs packages; artifacts, volumes and the cache outlive a run."""

    def __init__(
        self,
        directory: Path,
        code: Path | Image,
        claims: Mapping[str, Path],
        *,
        names_are_keys: bool = False,
        secrets: Mapping[str, Mapping[str, str]] = MappingProxyType({}),
        root: str = _PIPELINE_ROOT,
        objects: ObjectStore | None = None,
    ):
        """Prepares a cluster.

        Args:
            directory: for everything it keeps.
            code: what ``pod.install`` returned, which stands for the image; or a real image.
            claims: the persistent volume claims and their folders.
            names_are_keys: see `MetadataStore`.
            secrets: the Secrets of the namespace, and what their keys hold.
            root: the pipeline root of all runs.
            objects: the object store; None for one of folders.
        """
        self._directory = directory
        self._secrets = secrets
        self._code = code
        self._claims = claims
        self._runs = itertools.count(1)
        self.root = root
        self.objects = objects or ObjectStore(directory / "objects")
        self.store = MetadataStore(names_are_keys=names_are_keys)

    def run(
        self,
        text: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        up_to: str | None = None,
        code: Path | Image | None = None,
    ) -> dict[str, TaskResult]:
        """Runs a package, one task after the other.

        Args:
            text: the YAML package.
            parameters: values for the run's parameters, over their defaults.
            up_to: run only this task and those that it needs; None runs all.
            code: for this run, in place of the cluster's.

        Returns:
            The results by task name.
        """
        package = LoadedPackage.parse(text)
        given = driver.root_parameters(package.spec, parameters or {})
        run = _Run(self, package, given, next(self._runs), code or self._code)
        for name in _in_order(package.spec.root.dag.tasks, up_to):
            run.results[name] = run.task(name)
        return run.results

    def pod(self, name: str, package: LoadedPackage, label: str, code: Path | Image) -> Pod:
        """A new pod with the volumes of its executor (``driver/k8s.go``, makeVolumeMountPatch)."""
        mounts = {
            mount.mount_path: self._claims[_claim(mount)] / mount.sub_path
            for mount in package.kubernetes[label].pvc_mount
        }
        environment = package.environment(label)
        for secret in package.kubernetes[label].secret_as_env:
            for each in secret.key_to_env:
                environment[each.env_var] = self._secrets[secret.secret_name][each.secret_key]
        directory = self._directory / "pods" / name
        if isinstance(code, Image):
            return Container(directory, code, mounts, environment)
        return Pod(directory, code, mounts, environment)


class _Run:
    def __init__(
        self,
        cluster: Cluster,
        package: LoadedPackage,
        parameters: Mapping[str, Any],
        number: int,
        code: Path | Image,
    ):
        self._code = code
        self._cluster = cluster
        self._package = package
        self._parameters = parameters
        self._number = number
        # As GetPipeline in metadata/client.go puts it together.
        self._root = f"{cluster.root}/{package.spec.pipeline_info.name}/run-{number}"
        self.results: dict[str, TaskResult] = {}

    def task(self, name: str) -> TaskResult:
        task = self._package.spec.root.dag.tasks[name]
        before = [self.results[other].state for other in _dependencies(task)]
        # depends() in compiler/argocompiler/dag.go: every task before it must have succeeded.
        if State.FAILED in before or State.OMITTED in before:
            return TaskResult(State.OMITTED)
        if State.SKIPPED in before:
            return TaskResult(State.SKIPPED)
        started = time.monotonic()
        try:
            result = self._drive(name)
        except (driver.DriverError, MetadataError) as error:
            result = TaskResult(State.FAILED, log=str(error))
        except launcher.ImporterError as error:
            result = TaskResult(State.FAILED, log=f"failed to execute importer component: {error}")
        result.seconds = time.monotonic() - started
        return result

    def _drive(self, name: str) -> TaskResult:
        """``Container`` in ``driver/container.go``."""
        spec, store = self._package.spec, self._cluster.store
        task = spec.root.dag.tasks[name]
        component = spec.components[task.component_ref.name]
        if (spec_of_importer := self._package.importers.get(component.executor_label)) is not None:
            made = launcher.run_importer(task, component, spec_of_importer, self._parameters, store)
            return TaskResult(State.SUCCEEDED, self._artifacts(made), attempts=1)
        outputs = {
            other: {key: artifact.id for key, artifact in result.outputs.items()}
            for other, result in self.results.items()
        }
        answers = {other: result.answers for other, result in self.results.items()}
        executor_input = driver.resolve_inputs(task, component, self._parameters, outputs, answers, store)
        if not driver.triggers(task, executor_input):
            return TaskResult(State.SKIPPED)
        driver.provision_outputs(executor_input, self._root, name, component)
        label, pipeline = component.executor_label, spec.pipeline_info.name
        claims = [_claim(mount) for mount in self._package.kubernetes[label].pvc_mount]
        key = driver.fingerprint(executor_input, self._package.containers[label], claims)
        caches = task.caching_options.enable_cache
        if caches and (found := store.cached(pipeline, key)) is not None:
            return TaskResult(State.CACHED, self._artifacts(found))  # none that is cached has answers
        result = self._launch(name, executor_input, component, 1 + task.retry_policy.max_retry_count)
        if caches and result.state is State.SUCCEEDED:
            made = {output: artifact.id for output, artifact in result.outputs.items()}
            store.remember(pipeline, key, made)
        return result

    def _launch(
        self,
        name: str,
        executor_input: driver.ExecutorInput,
        component: driver.Component,
        attempts: int,
    ) -> TaskResult:
        """A pod that fails is started again with the same ExecutorInput (``argocompiler/container.go``)."""
        label = component.executor_label
        container = self._package.containers[label]
        result = TaskResult(State.FAILED)
        while result.state is State.FAILED and result.attempts < attempts:
            result.attempts += 1
            pod = self._cluster.pod(
                f"{self._number}-{name}-{result.attempts}", self._package, label, self._code
            )
            try:
                made, result.answers, result.log = launcher.launch(
                    *(pod, executor_input, component, container, self._cluster.objects, self._cluster.store),
                    retry=result.attempts - 1,
                )
            except launcher.TaskFailedError as error:
                result.log, result.outputs = str(error), self._artifacts(error.outputs)
            else:
                result.outputs, result.state = self._artifacts(made), State.SUCCEEDED
        return result

    def _artifacts(self, ids: Mapping[str, int]) -> dict[str, StoredArtifact]:
        return {key: self._cluster.store.artifact(artifact_id) for key, artifact_id in ids.items()}


def _in_order(tasks: Mapping[str, driver.Task], up_to: str | None) -> Iterable[str]:
    wanted, needed = {up_to} if up_to else set(tasks), {}
    while wanted:
        name = wanted.pop()
        needed[name] = _dependencies(tasks[name])
        wanted |= needed[name] - needed.keys()
    return TopologicalSorter(needed).static_order()


def _dependencies(task: driver.Task) -> set[str]:
    """Those declared, and producers of inputs (addImplicitDependencies in ``argocompiler/dag.go``)."""
    producers = {source.task_output_artifact.producer_task for source in task.inputs.artifacts.values()}
    producers |= {source.task_output_parameter.producer_task for source in task.inputs.parameters.values()}
    return {*task.dependent_tasks, *(producers - {""})}


def _claim(mount: Any) -> str:
    return mount.pvc_name_parameter.runtime_value.constant.string_value or mount.constant
