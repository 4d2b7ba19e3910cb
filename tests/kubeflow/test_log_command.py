"""The command that shows why stages ended as they did, run by the real kubectl.

Of the API server there is what that asks it for: its resources, a list of pods, a pod, a container's log.
"""

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from werkzeug import Request, Response
from werkzeug.routing import Map, Rule
from werkzeug.serving import make_server

from pipeline.kubeflow.client.backend import Backend
from pipeline.kubeflow.client.transport import Access

JSON = "application/json"
pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="needs kubectl")

# Names of nodes as Argo gives them: with numbers where a template has retries, which may be any of them.
LOGS = {
    "x.root.Evaluator-driver": "F0301 12:00:00.1 1 main.go:114] KFP driver: no such artifact",
    "x.root.Evaluator.executor(0)": "failed: no memory",
    "x(0).root(0).Evaluator(0).executor(1)": "I0301 begin\n12:00 INFO e: FAILED  too low\nI0301 end",
    "x.root.ServingCheck.executor": "12:00 INFO s: FAILED  too slow\n12:00 INFO s: passed  it",
    "x.root.Trainer.executor(0)": "failed: not asked for",
    "x.root.PreEvaluator.executor": "failed: neither",
}


ROUTES = Map(
    [
        Rule("/api", endpoint=lambda request: {"kind": "APIVersions", "versions": ["v1"]}),
        Rule("/apis", endpoint=lambda request: {"kind": "APIGroupList", "apiVersion": "v1", "groups": []}),
        Rule("/api/v1", endpoint=lambda request: _resources()),
        Rule("/api/v1/namespaces/ml/pods", endpoint=lambda request: _pods(request)),
        Rule("/api/v1/namespaces/ml/pods/<name>", endpoint=lambda request, name: _pod(int(name[-1]))),
        Rule(
            "/api/v1/namespaces/ml/pods/<name>/log",
            endpoint=lambda request, name: _log(request, int(name[-1])),
        ),
    ]
)


def _resources() -> dict[str, Any]:
    """What the API server has: pods."""
    pods = {
        "name": "pods",
        "singularName": "pod",
        "namespaced": True,
        "kind": "Pod",
        "verbs": ["get", "list"],
    }
    return {"kind": "APIResourceList", "groupVersion": "v1", "resources": [pods]}


def _pods(request: Request) -> dict[str, Any]:
    assert request.args["labelSelector"] == "pipeline/runid=run-1"
    return {"kind": "PodList", "apiVersion": "v1", "items": [_pod(number) for number in range(len(LOGS))]}


def _pod(number: int) -> dict[str, Any]:
    return {
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": {
            "name": f"x-system-container-impl-{number}",
            "namespace": "ml",
            "annotations": {"workflows.argoproj.io/node-name": list(LOGS)[number]},
        },
        "spec": {"containers": [{"name": "main"}, {"name": "wait"}]},
    }


def _log(request: Request, number: int) -> str:
    assert request.args["container"] == "main"
    return list(LOGS.values())[number] + "\n"


def _answer(environ: dict[str, Any], start_response: Any) -> Any:
    endpoint, arguments = ROUTES.bind_to_environ(environ).match()
    answer = endpoint(Request(environ), **arguments)
    response = Response(answer) if isinstance(answer, str) else Response(json.dumps(answer), mimetype=JSON)
    return response(environ, start_response)


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """What makes kubectl ask a server that has these pods."""
    server = make_server("127.0.0.1", 0, _answer, threaded=True)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    config = {
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": ""}}],
        "current-context": "c",
    }
    (tmp_path / "config").write_text(json.dumps(config))
    yield os.environ | {"KUBECONFIG": str(tmp_path / "config"), "HOME": str(tmp_path)}
    server.shutdown()
    server.server_close()


def test_the_command_shows_what_stages_end_with_and_nobody_elses_logs(environment: dict[str, str]) -> None:
    backend = Backend(None, Access(namespace="ml"), "")  # type: ignore[arg-type]

    command = backend.log_command("run-1", ["Evaluator", "ServingCheck"])
    done = subprocess.run(
        ["sh", "-c", command], env=environment, capture_output=True, text=True, timeout=60, check=True
    )

    assert done.stdout.splitlines() == [
        "F0301 12:00:00.1 1 main.go:114] KFP driver: no such artifact",
        "failed: no memory",
        "12:00 INFO e: FAILED  too low",
        "12:00 INFO s: FAILED  too slow",
    ]
