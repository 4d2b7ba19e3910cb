"""Kubeflow Pipelines' REST API (v2beta1) on loopback, as far as kfp's client asks it for a submission.

Answers are kfp_server_api's own models, serialised by its own code. What the backend does beyond that follows
its sources (github.com/kubeflow/pipelines, backend/src):
- apiserver/server/api_converter.go, ``toApiPipelineTaskDetail``: a run's tasks are the nodes of Argo's
  workflow under their display names, and name the nodes below them; an error is never filled in; unset times
  are Argo's zero time, in the year 1.
- v2/component/launcher_v2.go (``CreateExecutionCache``) and api_converter.go, ``toModelTask``: a stage that
  may be cached adds a row of its own, without name and state, which the API then leaves out.
- apiserver/server/run_artifact_server.go: the log of a node, if Argo has archived it; in 2.16 of exactly that
  node (a stage's ``executor``, which has its last attempt's), in 2.17 of what is below it, too. With several
  users it is refused to all of them: the handler passes on no header that says who asks (auth/util.go).
- apiserver/main.go: the state of health with the release, ``unknown`` in images that others have built;
  frontend/server/handlers/healthz.ts gives it another name.
- v2/compiler/argocompiler/{dag,container}.go: a task X is the nodes ``X-driver`` and ``X``, in the latter one
  ``executor``, all below ``root``; where a condition is false, X is skipped.
- apiserver/server/pipeline_upload_server.go: uploads come as a form's ``uploadfile``, and a version's name
  may exist once (409).
- apiserver/server/api_converter.go, ``toModelJob``: limits of recurring runs.
- apiserver/resource/resource_manager.go, ``authorizeServiceAccount``, from 2.18 on: a run's account must be
  on a list (400) and the caller's to use (403). Behind its last colon the first has words of its own here.
- apiserver/list/list.go: a list comes in pages, the oldest first, each with the token of the next.
"""

import base64
import json
import ssl
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import kfp_server_api as api
import yaml
from werkzeug import Request, Response
from werkzeug.exceptions import HTTPException, NotFound
from werkzeug.routing import Map, Rule
from werkzeug.serving import BaseWSGIServer, make_server

HANG = "hang"
LOGIN_PAGE = "login page"
LOGIN_REDIRECT = "login redirect"

_BEGIN = datetime(2026, 3, 1, 12, tzinfo=UTC)
_ARGOS_ZERO = datetime(1, 1, 1, tzinfo=UTC)
_V = "/apis/v2beta1"
_ROUTES = Map(
    [
        Rule(f"{_V}/healthz", endpoint="healthz", methods=["GET"]),
        Rule(f"{_V}/pipelines", endpoint="list_pipelines", methods=["GET"]),
        Rule(f"{_V}/pipelines", endpoint="create_pipeline", methods=["POST"]),
        Rule(f"{_V}/pipelines/upload_version", endpoint="upload_version", methods=["POST"]),
        Rule(f"{_V}/pipelines/<pipeline_id>/versions", endpoint="list_versions", methods=["GET"]),
        Rule(f"{_V}/pipelines/<pipeline_id>/versions/<version_id>", endpoint="get_version", methods=["GET"]),
        Rule(f"{_V}/experiments", endpoint="list_experiments", methods=["GET"]),
        Rule(f"{_V}/experiments", endpoint="create_experiment", methods=["POST"]),
        Rule(f"{_V}/runs", endpoint="create_run", methods=["POST"]),
        Rule(f"{_V}/runs/<run_id>", endpoint="get_run", methods=["GET"]),
        Rule(
            f"{_V}/runs/<run_id>/nodes/<node>/artifacts/main-logs:read", endpoint="read_log", methods=["GET"]
        ),
        Rule(f"{_V}/recurringruns", endpoint="list_recurring", methods=["GET"]),
        Rule(f"{_V}/recurringruns", endpoint="create_recurring", methods=["POST"]),
    ]
)


@dataclass(frozen=True)
class Step:
    """A moment of a run: its state and its tasks', each with the seconds that it took."""

    state: str
    tasks: Mapping[str, str] = field(default_factory=dict)
    error: str | None = None
    task_errors: Mapping[str, str] = field(default_factory=dict)
    seconds: int = 65


class Refusal(Exception):
    """An answer that is an error, as grpc-gateway words it."""

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status


class FakeKfp:
    """A backend whose runs go through ``script``, one step each time that somebody asks."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self.token: str | None = None
        """The bearer token that it wants."""
        self.cookie: str | None = None
        """The Cookie header that it wants."""
        self.multi_user = False
        self.tells_of_tasks = True
        """False on the development branch of 3.0, which has them elsewhere."""
        self.allowed_accounts: Sequence[str] | None = None
        """ALLOWEDSERVICEACCOUNTS; None is a backend before 2.18, which takes any."""
        self.usable_accounts: Sequence[str] | None = None
        """Those on which the caller has the verb use, of several users; None is not asked."""
        self.health: dict[str, str] = {"commit_sha": "4a3592c", "tag_name": "2.17.0"}
        self.logs: dict[str, str] = {}
        """What stages have written, as far as it was archived."""
        self.script: Sequence[Step] = ()
        self.troubles: list[Refusal | int | str | None] = []
        """Answered to the next requests instead: statuses, HANG, LOGIN_PAGE, LOGIN_REDIRECT; None is none."""
        self.at_first_fetch: Callable[[], object] = lambda: None
        """Happens when a run is asked for, the first time."""
        self.pipelines: dict[str, api.V2beta1Pipeline] = {}
        self.versions: dict[str, api.V2beta1PipelineVersion] = {}
        self.experiments: dict[str, api.V2beta1Experiment] = {}
        self.runs: dict[str, api.V2beta1Run] = {}
        self.recurring: dict[str, api.V2beta1RecurringRun] = {}
        self.requests: list[tuple[str, str]] = []
        """Method and path of all that was asked."""
        self._fetches = 0
        self._going_away = threading.Event()
        self._server: BaseWSGIServer | None = None
        self.port = 0

    @property
    def host(self) -> str:
        return f"http{'s' if self._tls else ''}://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Listens, on the port of the last time if there was one."""
        self._server = make_server("127.0.0.1", self.port, self._answer, threaded=True, ssl_context=self._tls)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Refuses connections from now on."""
        assert self._server is not None
        self._going_away.set()
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, environ: dict[str, Any], start_response: Any) -> Any:
        request = Request(environ)
        self.requests.append((request.method, request.path))
        try:
            response = self._response(request)
        except Refusal as refusal:
            response = _json({"error": str(refusal), "code": 3, "message": str(refusal)}, refusal.status)
        except HTTPException as problem:
            response = _json({"code": 5, "message": "Not Found"}, problem.code or 500)
        return response(environ, start_response)

    def _response(self, request: Request) -> Response:
        if self.troubles:
            match self.troubles.pop(0):
                case Refusal() as refusal:
                    raise refusal
                case int(status):
                    raise Refusal(status, f"trouble {status}")
                case "hang":
                    self._going_away.wait(5)
                case "login page":
                    return Response("<html>Log in</html>", mimetype="text/html")
                case "login redirect":
                    return Response(status=302, headers={"location": "https://dex.example.org/auth"})
        if self.token is not None and request.headers.get("authorization") != f"Bearer {self.token}":
            raise Refusal(401, "Unauthenticated")
        if self.cookie is not None and request.headers.get("cookie") != self.cookie:
            raise Refusal(401, "Unauthenticated")
        endpoint, arguments = _ROUTES.bind_to_environ(request.environ).match()
        answer = getattr(self, f"_{endpoint}")(request, **arguments)
        return _json(api.ApiClient().sanitize_for_serialization(answer))

    def _healthz(self, request: Request) -> Any:
        return self.health | {"multi_user": self.multi_user}

    def _list_pipelines(self, request: Request) -> Any:
        return api.V2beta1ListPipelinesResponse(
            pipelines=_found(request, self.pipelines, request.args.get("namespace"))
        )

    def _create_pipeline(self, request: Request) -> Any:
        pipeline = _read(api.V2beta1Pipeline, request)
        pipeline.pipeline_id = f"pipeline-{len(self.pipelines) + 1}"
        self.pipelines[pipeline.pipeline_id] = pipeline
        return pipeline

    def _upload_version(self, request: Request) -> Any:
        name, pipeline_id = request.args["name"], request.args["pipelineid"]
        upload = request.files["uploadfile"]
        if not (upload.filename or "").endswith(".yaml"):
            raise Refusal(400, "Unexpected pipeline file format")
        if pipeline_id not in self.pipelines:
            raise Refusal(400, "Failed to create a pipeline version")
        if any(version.name == name for version in self.versions.values()):
            raise Refusal(409, "Failed to create a pipeline version")
        spec, platform = yaml.safe_load_all(upload.stream)
        version = api.V2beta1PipelineVersion(
            pipeline_id=pipeline_id,
            pipeline_version_id=f"version-{len(self.versions) + 1}",
            name=name,
            display_name=name,
            pipeline_spec={"pipeline_spec": spec, "platform_spec": platform},
        )
        self.versions[version.pipeline_version_id] = version
        return version

    def _list_versions(self, request: Request, pipeline_id: str) -> Any:
        mine = {key: value for key, value in self.versions.items() if value.pipeline_id == pipeline_id}
        return api.V2beta1ListPipelineVersionsResponse(pipeline_versions=_found(request, mine))

    def _get_version(self, request: Request, pipeline_id: str, version_id: str) -> Any:
        return _one(self.versions, version_id)

    def _list_experiments(self, request: Request) -> Any:
        namespace = request.args.get("namespace") or None
        return api.V2beta1ListExperimentsResponse(experiments=_found(request, self.experiments, namespace))

    def _create_experiment(self, request: Request) -> Any:
        experiment = _read(api.V2beta1Experiment, request)
        if self.multi_user != bool(experiment.namespace):
            raise Refusal(400, "In multi-user mode, and only there, a namespace is needed")
        experiment.experiment_id = f"experiment-{len(self.experiments) + 1}"
        self.experiments[experiment.experiment_id] = experiment
        return experiment

    def _create_run(self, request: Request) -> Any:
        run = _read(api.V2beta1Run, request)
        self._check(run, "run")
        run.run_id = f"run-{len(self.runs) + 1}"
        self.runs[run.run_id] = run
        return run

    def _get_run(self, request: Request, run_id: str) -> Any:
        run = _one(self.runs, run_id)
        step = self.script[min(self._fetches, len(self.script) - 1)]
        self._fetches += 1
        if self._fetches == 1:
            self.at_first_fetch()
        run.state = step.state
        run.state_history = [*(run.state_history or []), api.V2beta1RuntimeStatus(state=step.state)]
        run.error = step.error and api.GoogleRpcStatus(code=13, message=step.error)
        told = list(nodes(step)) if self.tells_of_tasks else None
        run.run_details = api.V2beta1RunDetails(task_details=told)
        return run

    def _read_log(self, request: Request, run_id: str, node: str) -> Any:
        _one(self.runs, run_id)
        if self.multi_user:
            raise Refusal(403, "Failed to authorize the request: User identity is empty")
        logs = {_executor(stage): log for stage, log in self.logs.items()}
        return {"data": base64.b64encode(_one(logs, node).encode()).decode()}

    def _list_recurring(self, request: Request) -> Any:
        found = _found(request, self.recurring) or []
        begin, size = int(request.args.get("page_token") or 0), int(request.args.get("page_size") or 20)
        rest = str(begin + size) if len(found) > begin + size else None
        page = found[begin : begin + size] or None
        return api.V2beta1ListRecurringRunsResponse(recurring_runs=page, next_page_token=rest)

    def _create_recurring(self, request: Request) -> Any:
        job = _read(api.V2beta1RecurringRun, request)
        self._check(job, "recurring run")
        if not 1 <= int(job.max_concurrency) <= 10:
            raise Refusal(400, "Max concurrency of a recurring run must be at least 1 and at most 10")
        job.recurring_run_id = f"recurring-{len(self.recurring) + 1}"
        self.recurring[job.recurring_run_id] = job
        return job

    def _check(self, run: Any, kind: str) -> None:
        """Refuses a run for an experiment, version or parameter that is not there, or for its account."""
        _one(self.experiments, run.experiment_id)
        version = _one(self.versions, run.pipeline_version_reference["pipeline_version_id"])
        known = version.pipeline_spec["pipeline_spec"]["root"]["inputDefinitions"]["parameters"]
        for name in run.runtime_config["parameters"]:
            if name not in known:
                raise Refusal(400, f"parameter {name} is not in the pipeline's input definitions")
        account = run.service_account
        if account in (None, "pipeline-runner"):
            return
        refused = f"Failed to create a {kind} due to service account authorization error"
        if self.allowed_accounts is not None and account not in self.allowed_accounts:
            raise Refusal(400, f"{refused}: Invalid input error: {account} is not allowed")
        if self.usable_accounts is not None and account not in self.usable_accounts:
            asked = f"&ResourceAttributes{{Verb:use,Resource:serviceaccounts,Name:{account},}}"
            reason = f"User 'somebody' is not authorized with reason:  (request: {asked})"
            raise Refusal(403, f"{refused}: PermissionDenied: {reason}: Unauthorized access")


@contextmanager
def running(tls: ssl.SSLContext | None = None) -> Iterator[FakeKfp]:
    """A backend that answers, and is gone afterwards."""
    fake = FakeKfp(tls)
    fake.start()
    try:
        yield fake
    finally:
        fake.stop()


def nodes(step: Step) -> Iterator[api.V2beta1PipelineTaskDetail]:
    """Yields the nodes of the workflow at a moment."""
    yield _node("root-driver", "SUCCEEDED", 1)
    yield _node("root", step.state, step.seconds)
    for name, state in step.tasks.items():
        below = [] if name.endswith("-driver") or state == "SKIPPED" else [_executor(name)]
        yield _node(name, state, step.seconds, step.task_errors.get(name), below)
        if state == "SUCCEEDED":
            yield api.V2beta1PipelineTaskDetail(
                run_id="run-1",
                task_id="8a1c8c5e-8d4c-4f86-9d0e-1d1b4a4c5c0f",
                create_time=_BEGIN,
                start_time=_BEGIN,
                end_time=_BEGIN + timedelta(seconds=step.seconds),
                execution_id="7",
            )
        if not name.endswith("-driver"):
            if f"{name}-driver" not in step.tasks:
                yield _node(f"{name}-driver", "SUCCEEDED", 2)
            yield _node("executor", state, step.seconds)


def _executor(stage: str) -> str:
    """The id of the node in which a stage's work is done: the workflow's name and a hash of the node's."""
    return f"pets-unet-x7k2p-{zlib.crc32(stage.encode())}"


def _node(
    name: str, state: str, seconds: int, error: str | None = None, below: Sequence[str] = ()
) -> api.V2beta1PipelineTaskDetail:
    over = state not in ("PENDING", "RUNNING")
    return api.V2beta1PipelineTaskDetail(
        display_name=name,
        state=state,
        start_time=_BEGIN,
        end_time=_BEGIN + timedelta(seconds=seconds) if over else _ARGOS_ZERO,
        error=error and api.GoogleRpcStatus(code=2, message=error),
        child_tasks=[api.PipelineTaskDetailChildTask(pod_name=node) for node in below] or None,
    )


def _read(model: Any, request: Request) -> Any:
    """Returns the model that a body holds; an unknown key is refused."""
    keys = {json_key: name for name, json_key in model.attribute_map.items()}
    values = request.get_json()
    if unknown := set(values) - set(keys):
        raise Refusal(400, f"unknown field {unknown.pop()}")
    return model(**{keys[key]: value for key, value in values.items()})


def _found(request: Request, everything: Mapping[str, Any], namespace: str | None = None) -> list[Any] | None:
    """Returns what a filter lets through; the backend leaves out an empty list."""
    (predicate,) = json.loads(request.args["filter"])["predicates"]
    assert predicate["key"] == "display_name" and predicate["operation"] in ("EQUALS", 1)
    return [
        one
        for one in everything.values()
        if one.display_name == predicate["stringValue"] and (namespace is None or one.namespace == namespace)
    ] or None


def _one(everything: Mapping[str, Any], identifier: str) -> Any:
    if identifier not in everything:
        raise NotFound
    return everything[identifier]


def _json(values: Any, status: int = 200) -> Response:
    return Response(json.dumps(values), status, mimetype="application/json")
