"""Kubernetes' API on loopback, as far as a training on several machines asks it, and the operators behind it.

Objects are checked by the operators' own schemas. Who asks has a run's rights with kubernetes/training.
What the servers do beyond that follows their sources:
- github.com/kubeflow/trainer, pkg/runtime/core/trainingruntime.go, ``ValidateObjects``: a TrainJob is refused
  as long as the webhook's cache does not know its runtime;
- the same, pkg/runtime/framework/plugins/jobset: a JobSet of the runtime's template and the job's name; its
  end becomes the TrainJob's condition ``Complete`` or ``Failed``;
- github.com/kubernetes-sigs/jobset: Pods ``JOBSET-REPLICATEDJOB-0-INDEX-xxxxx``, and the same without the
  suffix for hostname, in a network of the JobSet's name; without a failure policy one failed Job fails all;
- Kubernetes' controller of Jobs: the index in an annotation; with ``backoffLimit`` 0 the first failed Pod
  fails the Job, and the others are deleted;
- 1.9.3 of the Training Operator, pkg/controller.v1/tensorflow: Pods ``JOB-worker-INDEX``, ``TF_CONFIG`` in
  the container ``tensorflow``, conditions ``Created``, ``Running``, ``Succeeded``, ``Failed``.
Left out: webhooks' other checks, defaults, events, networks, and anything about nodes.
"""

import json
import re
import threading
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import jsonschema
import kubernetes.client
import kubernetes.config
import kubernetes_validate
import pytest
import yaml
from kubernetes.config.incluster_config import InClusterConfigLoader
from training_crds import check
from werkzeug import Request, Response
from werkzeug.serving import make_server

from pipeline.kubeflow.training import api, follow, job

NAMESPACE: Final = "runs"
TOKEN: Final = "of-the-account"
POD: Final = "shapes-x-17"
UID: Final = "0c4e9a4e-5f5d-4e0b-9f3b-5b0f0d5b1a11"
NAME: Final = f"training-{UID[:13]}"
"""Of all that the task makes."""
_KUBERNETES: Final = Path(__file__).parents[2] / "kubernetes"
_PATH: Final = re.compile(
    rf"/apis?(?:/(?P<group>[a-z.]+))?/v1(?:alpha1)?/namespaces/{NAMESPACE}/(?P<plural>[a-z]+)(?:/(?P<name>.+))?"
)
_KINDS: Final = {"trainingruntimes": "TrainingRuntime", "trainjobs": "TrainJob", "tfjobs": "TFJob"}

Object = dict[str, Any]
Right = tuple[str, str, str]
"""Group, resource and verb."""


@dataclass(frozen=True)
class Moment:
    """What is seen of a job at one look: conditions with their messages, and its Pods' statuses by name."""

    conditions: Mapping[str, str] = field(default_factory=dict)
    pods: Mapping[str, Object] = field(default_factory=dict)


class _Answer(Exception):
    def __init__(self, code: int, message: str):
        super().__init__(message)
        self.code = code


def rights() -> set[Right]:
    """Of the account that runs have, where the component for trainings is added."""
    return {
        (group, resource, verb)
        for directory in ("pipeline/base", "training")
        for role in yaml.safe_load_all((_KUBERNETES / directory / "role.yaml").read_text())
        for rule in role.get("rules", ())
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
        if not rule.get("resourceNames")
    }


class FakeCluster:
    """A cluster that has some operators, and whose jobs go through ``script``, one moment a look."""

    def __init__(self) -> None:
        self.installed = {"TrainingRuntime": "2.3.0", "TrainJob": "2.3.0"}
        """Kinds with the release whose schema holds."""
        self.rights = rights()
        self.script: Sequence[Moment] = ()
        self.troubles: dict[int, int] = {}
        """Statuses to answer with in place of something better, by the number of the request."""
        self.unheard_of = 0
        """How often the webhook has not heard of a runtime yet."""
        self.objects: dict[str, Object] = {}
        """By kind: no test has two of one."""
        self.made: list[Object] = []
        self.removed: list[str] = []
        self._looks = 0
        self._requests = 0
        self._server = make_server("127.0.0.1", 0, self._application, threaded=True)
        self.host = f"http://127.0.0.1:{self._server.server_port}"

    def created(self, kind: str) -> None:
        """Is called with what has come into being."""

    def deleted(self, kind: str) -> None:
        """Is called with what has gone."""

    def moment(self) -> Moment:
        """How the job is now."""
        return self.script[min(self._looks, len(self.script) - 1)]

    def _application(self, environ: Any, start_response: Any) -> Any:
        request = Request(environ)
        self._requests += 1
        try:
            if request.headers.get("authorization") != f"bearer {TOKEN}":
                raise _Answer(401, "Unauthorized")
            if status := self.troubles.get(self._requests):
                raise _Answer(status, "the server is currently unable to handle the request")
            answer, code = self._answer(request), 200
        except _Answer as error:
            answer, code = {"kind": "Status", "code": error.code, "message": str(error)}, error.code
        except Exception:
            # Of the fake's own: not to be asked again.
            answer, code = {"message": traceback.format_exc()}, 400
        response = Response(json.dumps(answer), code, mimetype="application/json")
        return response(environ, start_response)

    def _answer(self, request: Request) -> Object:
        match = _PATH.fullmatch(request.path)
        assert match is not None, request.path
        group, plural, name = match["group"] or "", match["plural"], match["name"]
        verb = {"POST": "create", "DELETE": "delete"}.get(request.method, "get" if name else "list")
        if (group, plural, verb) not in self.rights:
            raise _Answer(
                403,
                f'{plural}.{group} is forbidden: User "system:serviceaccount:{NAMESPACE}:somebody" '
                f'cannot {verb} resource "{plural}" in API group "{group}" in the namespace "{NAMESPACE}"',
            )
        if plural == "pods":
            return {"items": self._pods(request.args["labelSelector"])}
        kind = _KINDS[plural]
        if kind not in self.installed:
            raise _Answer(404, "the server could not find the requested resource")
        if verb == "create":
            return self._create(kind, request.get_json())
        found = self.objects.get(kind)
        if found is None or found["metadata"]["name"] != name:
            raise _Answer(404, f'{plural}.{group} "{name}" not found')
        if verb == "delete":
            self.removed.append(kind)
            del self.objects[kind]
            self.deleted(kind)
            return found
        found["status"] = self._status()
        return found

    def _create(self, kind: str, given: Object) -> Object:
        try:
            assert given["kind"] == kind
            check(given, self.installed[kind])
        except (jsonschema.ValidationError, kubernetes_validate.ValidationError) as error:
            raise _Answer(422, f"{kind} is invalid: {error}") from None
        name = given["metadata"]["name"]
        if not re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name) or len(f"{name}-node-0-999-abcde") > 63:
            raise _Answer(422, f"{kind} {name} is invalid: metadata.name")
        if kind == "TrainJob":
            reference = given["spec"]["runtimeRef"]
            known = self.objects.get(reference["kind"], {}).get("metadata", {}).get("name")
            if self.unheard_of or known != reference["name"]:
                self.unheard_of -= 1
                raise _Answer(
                    403,
                    'admission webhook "validator.trainjob.trainer.kubeflow.org" denied the request: '
                    "spec.runtimeRef: Invalid value: specified trainingRuntime must be created before the "
                    "TrainJob is created",
                )
        self.objects[kind] = given
        self.made.append(given)
        self.created(kind)
        return given

    def _status(self) -> Object:
        conditions = [
            {"type": name, "status": "True", "reason": "Because", "message": message}
            for name, message in self.moment().conditions.items()
        ]
        return {"conditions": [*conditions, {"type": "Stalled", "status": "False", "message": ""}]}

    def _pods(self, selector: str) -> list[Object]:
        key, _, value = selector.partition("=")
        labels = {} if not self.made else pod_template(self.made[0])["metadata"]["labels"]
        pods = self.moment().pods if labels.get(key) == value else {}
        self._looks += 1
        return [{"metadata": {"name": name}, "status": status} for name, status in pods.items()]

    @contextmanager
    def running(self, directory: Path) -> Iterator[None]:
        """Answers meanwhile; this process is a Pod of it, whose account's files are in a directory."""
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        account = {"namespace": NAMESPACE, "token": TOKEN, "ca.crt": "of whom is not asked"}
        for name, text in account.items():
            (directory / name).write_text(text)
        variables = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": "443"}

        def load() -> None:
            """What the client does in a Pod, but for TLS."""
            loader = InClusterConfigLoader(
                str(directory / "token"), str(directory / "ca.crt"), environ=variables
            )
            loader.load_and_set(configuration := kubernetes.client.Configuration())
            # From where it takes the address, with each request, as it does the token.
            loader.host = configuration.host = self.host
            kubernetes.client.Configuration.set_default(configuration)

        try:
            with pytest.MonkeyPatch.context() as patched:
                patched.setattr(kubernetes.client.Configuration, "_default", None)
                patched.setattr(kubernetes.config, "load_incluster_config", load)
                patched.setattr(api, "_NAMESPACE_FILE", directory / "namespace")
                patched.setattr(job, "_CACHE_SECONDS", 2)
                patched.setattr(follow, "_PACE_SECONDS", 0.01)
                patched.setenv("KFP_POD_NAME", POD)
                patched.setenv("KFP_POD_UID", UID)
                yield
        finally:
            self._server.shutdown()
            self._server.server_close()


def pod_template(made: Object) -> Object:
    """The Pods' template in a TrainingRuntime or a TFJob."""
    if made["kind"] == "TFJob":
        template: Object = made["spec"]["tfReplicaSpecs"]["Worker"]["template"]
        return template
    [machines] = made["spec"]["template"]["spec"]["replicatedJobs"]
    pods: Object = machines["template"]["spec"]["template"]
    return pods


def environment(made: Object, index: int, machines: int) -> dict[str, str]:
    """What a Pod's container finds in its environment, as kubelet and operator put it there.

    In order, ``$(NAME)`` being replaced by what came before (``makeEnvironmentVariables`` in the kubelet's
    kubelet_pods.go).
    """
    [container] = pod_template(made)["spec"]["containers"]
    found: dict[str, str] = {}
    for variable in container.get("env", []):
        if "valueFrom" in variable:
            path = variable["valueFrom"]["fieldRef"]["fieldPath"]
            assert path == "metadata.annotations['batch.kubernetes.io/job-completion-index']"
            found[variable["name"]] = str(index)
        else:
            found[variable["name"]] = re.sub(
                r"\$\((\w+)\)", lambda match: found.get(match[1], match[0]), variable["value"]
            )
    if made["kind"] == "TFJob":
        assert container["name"] == "tensorflow"
        [port] = [port["containerPort"] for port in container["ports"] if port["name"] == "tfjob-port"]
        name = made["metadata"]["name"]
        members = [f"{name}-worker-{number}.{NAMESPACE}.svc:{port}" for number in range(machines)]
        cluster = {"cluster": {"worker": members}, "task": {"type": "worker", "index": index}}
        found["TF_CONFIG"] = json.dumps({**cluster, "environment": "cloud"})
    return found
