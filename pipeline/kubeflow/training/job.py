"""The job of a training operator's: its objects, made, looked at and removed.

Two operators know one. Kubeflow Trainer (github.com/kubeflow/trainer, from 2.0 on) starts what a ``TrainJob``
finds in a runtime. None of its own runtimes sets ``TF_CONFIG``, and what a job may change in a runtime has
another name in 2.0, 2.1 and 2.2; so a runtime is made beside the job, with all in it, and the job names it.
Where that operator is not installed, the Training Operator before it (``TFJob``) may be, which sets
``TF_CONFIG`` by itself.
"""

import copy
import json
import logging
import os
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from components.errors import StageError
from pipeline.kubeflow.training.api import Api, NoAnswer, Refused

JOB_LABEL: Final = "app.kubernetes.io/instance"
"""Of a job's Pods, with the job's name."""

_TRAIN_JOB: Final = "TrainJob"
_APIS: Final = {_TRAIN_JOB: "trainer.kubeflow.org/v1alpha1", "TFJob": "kubeflow.org/v1"}
"""Kinds of jobs and their operators' APIs, the one to prefer first."""
_PORT: Final = 2222
"""At which each machine listens; TFJob's own default."""
_CACHE_SECONDS: Final = 30
"""Within which Kubeflow Trainer's webhook has heard of a new runtime."""

_Object = dict[str, Any]

logger = logging.getLogger(__name__)


@dataclass
class Job:
    """A job of this task's, as far as there is one."""

    api: Api
    name: str
    machines: int
    kind: str = _TRAIN_JOB
    _made: list[str] = field(default_factory=list)
    """Paths of its objects, the newest last."""
    _changing: threading.Lock = field(default_factory=threading.Lock)
    _removed: bool = False

    def start(self, pod: _Object) -> None:
        """Creates it, for the first operator that is installed.

        Args:
            pod: template of its Pods, with a single container.

        Raises:
            StageError: there is no operator, or Kubernetes refuses the job.
        """
        for kind, objects in ((_TRAIN_JOB, self._train_job), ("TFJob", self._tf_job)):
            self.kind = kind
            try:
                for each in objects(copy.deepcopy(pod)):
                    self._create(each)
            except (Refused, NoAnswer) as error:
                if isinstance(error, Refused) and error.status == 404:
                    continue
                raise StageError(
                    f"there is no {kind} for a training on {self.machines} machines: {error}"
                ) from None
            logger.info("%s %s trains on %d machines", kind, self.name, self.machines)
            return
        raise StageError(
            f"kubeflow.stages.Trainer.machines is {self.machines}, but this cluster knows neither TrainJob "
            "(Kubeflow Trainer) nor TFJob (Training Operator); have one installed, or leave machines out"
        )

    def remove(self) -> None:
        """Has Kubernetes end it and remove what belongs to it; what that does not answer is logged."""
        self._removed = True
        with self._changing:
            made, self._made = self._made, []
        for path in reversed(made):
            try:
                self.api.ask("DELETE", path, propagationPolicy="Background")
            except Refused as refusal:
                if refusal.status != 404:
                    logger.warning("%s is left behind: %s", path, refusal)
            except NoAnswer as error:
                logger.warning("%s is left behind: %s", path, error)

    def conditions(self) -> Mapping[str, str]:
        """Returns which conditions hold, ``Failed`` for example, each with its message.

        Raises:
            NoAnswer: it is not known at this moment.
            StageError: somebody has deleted it.
        """
        try:
            status = self.api.ask("GET", f"{self._path(self.kind)}/{self.name}").get("status") or {}
        except Refused as refusal:
            gone = "somebody has deleted it" if refusal.status == 404 else str(refusal)
            raise StageError(f"{self.kind} {self.name} cannot be followed: {gone}") from None
        return {
            condition["type"]: condition.get("message") or condition.get("reason") or ""
            for condition in status.get("conditions") or ()
            if condition["status"] == "True"
        }

    def has_succeeded(self, conditions: Mapping[str, str]) -> bool:
        """Whether its conditions say so."""
        return ("Complete" if self.kind == _TRAIN_JOB else "Succeeded") in conditions

    def pods(self) -> list[_Object]:
        """Returns its Pods, in the order of their names.

        Raises:
            NoAnswer: they are not known at this moment.
            StageError: this account may not ask.
        """
        try:
            selector = f"{JOB_LABEL}={self.name}"
            path = f"/api/v1/namespaces/{self.api.namespace}/pods"
            found: list[_Object] = self.api.ask("GET", path, labelSelector=selector)["items"]
        except Refused as refusal:
            raise StageError(f"the Pods of {self.kind} {self.name} cannot be seen: {refusal}") from None
        return sorted(found, key=lambda pod: str(pod["metadata"]["name"]))

    def _create(self, each: _Object) -> None:
        path = self._path(each["kind"])
        made = f"{path}/{self.name}"
        begun = time.monotonic()
        while True:
            try:
                # Another thread may be asked to remove it: it waits for this, and nothing comes after.
                with self._changing:
                    if self._removed:
                        raise StageError(f"{self.kind} {self.name} is not started: this task is to end")
                    # Before the answer, which may get lost.
                    self._made += [made] if made not in self._made else []
                    self.api.ask("POST", path, each)
                return
            except Refused as refusal:
                # The webhook asks a cache, which hears of a runtime a little later.
                early = "must be created before the TrainJob" in str(refusal)
                if not early or time.monotonic() - begun > _CACHE_SECONDS:
                    raise
            time.sleep(1)

    def _path(self, kind: str) -> str:
        return f"/apis/{_APIS[self.kind]}/namespaces/{self.api.namespace}/{kind.lower()}s"

    def _object(self, kind: str, spec: _Object) -> _Object:
        """One that the garbage collector takes when this Pod is deleted."""
        owner = {"name": os.environ["KFP_POD_NAME"], "uid": os.environ["KFP_POD_UID"]}
        metadata = {"name": self.name, "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", **owner}]}
        return {"apiVersion": _APIS[self.kind], "kind": kind, "metadata": metadata, "spec": spec}

    def _train_job(self, pod: _Object) -> Iterator[_Object]:
        # As JobSet names the Pods in the job's own network (``syncPodNetwork`` in Kubeflow Trainer's
        # pkg/runtime/framework/plugins/jobset/jobset.go).
        members = [f"{self.name}-node-0-{index}.{self.name}:{_PORT}" for index in range(self.machines)]
        # The kubelet puts in the index, with which a Job's controller annotates each Pod.
        index = "metadata.annotations['batch.kubernetes.io/job-completion-index']"
        task = '"task": {"type": "worker", "index": $(WORKER_INDEX)}'
        [container] = pod["spec"]["containers"]
        container["name"] = "node"
        container["env"] = [
            {"name": "WORKER_INDEX", "valueFrom": {"fieldRef": {"fieldPath": index}}},
            {"name": "TF_CONFIG", "value": f'{{"cluster": {json.dumps({"worker": members})}, {task}}}'},
        ]
        machines = {
            "name": "node",
            "replicas": 1,
            "template": {
                "metadata": {"labels": {"trainer.kubeflow.org/trainjob-ancestor-step": "trainer"}},
                "spec": {"backoffLimit": 0, "template": pod},
            },
        }
        template = {"spec": {"replicatedJobs": [machines]}}
        yield self._object("TrainingRuntime", {"mlPolicy": {"numNodes": self.machines}, "template": template})
        runtime = {"apiGroup": _APIS[_TRAIN_JOB].split("/")[0], "kind": "TrainingRuntime", "name": self.name}
        yield self._object(_TRAIN_JOB, {"runtimeRef": runtime, "trainer": {"numNodes": self.machines}})

    def _tf_job(self, pod: _Object) -> Iterator[_Object]:
        [container] = pod["spec"]["containers"]
        # The operator looks for these names.
        container["name"] = "tensorflow"
        container["ports"] = [{"name": "tfjob-port", "containerPort": _PORT}]
        workers = {"replicas": self.machines, "restartPolicy": "Never", "template": pod}
        spec = {
            "runPolicy": {"cleanPodPolicy": "Running", "backoffLimit": 0},
            "successPolicy": "AllWorkers",
            "tfReplicaSpecs": {"Worker": workers},
        }
        yield self._object("TFJob", spec)
