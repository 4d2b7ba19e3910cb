"""A Kubeflow Pipelines backend that has answered: which it is, and what it tells of runs."""

import base64
import contextlib
import json
import os
import re
import warnings
from collections.abc import Collection
from typing import Final

from kfp.client.client import KF_PIPELINES_ENDPOINT_ENV, KF_PIPELINES_UI_ENDPOINT_ENV

from pipeline.kubeflow.client.errors import ConnectionProblem, NotFound
from pipeline.kubeflow.client.transport import Access, BoundedClient, cookies, credentials, explained

_VERDICT: Final = re.compile("^failed: |^pushed: |: FAILED  ")
"""What the container's entrypoint, and the gates through its logging, put before a line that counts."""


class Backend:
    """A Kubeflow Pipelines that has answered once."""

    def __init__(self, client: BoundedClient, access: Access, address: str):
        self.client = client
        self.address = address
        self._access = access
        self.namespace: str | None = None
        """In which to look and to create, where Kubeflow serves several users."""
        self.version = ""
        """What the backend calls itself: its release, or ``unknown`` if somebody has built it himself."""

    def explained(self) -> contextlib.AbstractContextManager[None]:
        """Turns all that may go wrong with a request into a ConnectionProblem."""
        return explained(self._access, self.address)

    def page(self, kind: str, identifier: str) -> str:
        """Returns the page of a run in the user interface; its id where the interface's address is unknown.

        Args:
            kind: ``runs`` or ``recurringrun``.
            identifier: the run's id.
        """
        interface = os.environ.get(KF_PIPELINES_UI_ENDPOINT_ENV) or self._access.address
        return f"{interface.rstrip('/')}/#/{kind}/details/{identifier}" if interface else identifier

    def told(self, run_id: str, node: str) -> list[str]:
        """Returns what a node of a run's workflow says of how it ended, in the log that Argo has archived.

        Where Kubeflow serves several users, it refuses this to all of them from 2.15.0 on: what answers there
        (``apiserver/server/run_artifact_server.go``) hands on none of the headers that say who asks.

        Raises:
            Forbidden: nobody may read it, or not who asks.
            ConnectionProblem: it was not archived, or cannot be read.
        """
        with self.explained():
            answer = self.client.get(f"/apis/v2beta1/runs/{run_id}/nodes/{node}/artifacts/main-logs:read")
        return verdict(base64.b64decode(answer.get("data", "")).decode(errors="replace"))

    def log_command(self, run_id: str, stages: Collection[str]) -> str:
        """Returns the command that shows what the pods of some of a run's stages say of how they ended.

        The backend labels every pod of a run (``pipeline/runid``). Which stage a pod belongs to stands in
        Argo's annotation alone; the numbers in it are those of attempts. What drivers and launchers die of
        begins with F and the date.
        """
        kubectl = f"kubectl -n {self.namespace or self._access.namespace or 'kubeflow'}"
        row = r'{.metadata.name}{" "}{.metadata.annotations.workflows\.argoproj\.io/node-name}{"\n"}'
        attempt = r"(\([0-9]+\))?"
        mine = rf"s/ .*\.({'|'.join(stages)})(-driver|{attempt}\.executor){attempt}$//p"
        return (
            f"{kubectl} get pods -l pipeline/runid={run_id} -o jsonpath='{{range .items[*]}}{row}{{end}}' "
            f"| sed -nE '{mine}' | xargs -I POD {kubectl} logs POD -c main "
            f"| grep -E '{_VERDICT.pattern}|^F[0-9]{{4}} '"
        )

    def check(self) -> None:
        """Asks whether this is a Kubeflow Pipelines that knows us, and fixes the namespace.

        Raises:
            ConnectionProblem: it is not, or does not.
        """
        try:
            with self.explained():
                health = self.client.get("/apis/v2beta1/healthz")
        except NotFound:
            raise ConnectionProblem(
                f"{self.address} answers, but not as Kubeflow Pipelines 2 (404 for its state of health); "
                "in a whole Kubeflow the address ends in /pipeline"
            ) from None
        # The second name is that of the user interface, which passes on what it was told.
        self.version = health.get("tag_name") or health.get("apiServerTagName") or ""
        if health.get("multi_user"):
            self.namespace = self._access.namespace or self.client.usual_namespace()
            if self.namespace is None:
                raise ConnectionProblem(
                    f"{self.address} serves several users; give your profile's namespace with --namespace"
                )


def verdict(log: str) -> list[str]:
    """Returns what a stage's log says of how it ended: why it failed or refused, or what was pushed."""
    return [line[mark.end() :] for line in log.splitlines() if (mark := _VERDICT.search(line))]


def connect(access: Access) -> Backend:
    """Returns the backend, having asked once.

    Raises:
        ConnectionProblem: it cannot be reached, is something else, or does not let us in.
    """
    if access.ssl_ca_cert and not os.path.isfile(access.ssl_ca_cert):
        raise ConnectionProblem(f"--ssl-ca-cert {access.ssl_ca_cert}: there is no such file")
    if access.address and not re.match(r"https?://[^/]", access.address):
        raise ConnectionProblem(f"the host is {access.address!r}; it must begin with http:// or https://")
    try:
        with explained(access, access.address or "Kubeflow"), warnings.catch_warnings(action="ignore"):
            client = BoundedClient(
                host=access.host,
                cookies=cookies(access),
                credentials=credentials(access),
                ssl_ca_cert=access.ssl_ca_cert and str(access.ssl_ca_cert),
                verify_ssl=access.verify_ssl,
            )
    except (json.JSONDecodeError, KeyError) as error:
        settings = BoundedClient._LOCAL_KFP_CONTEXT
        raise ConnectionProblem(f"{settings} is no context of kfp's: {error}") from None
    api = client.runs.api_client
    if access.address is None and api.configuration.host == type(api.configuration)().host:
        raise ConnectionProblem(
            "where is Kubeflow? Give --host, or set "
            f"{KF_PIPELINES_ENDPOINT_ENV}; this is no pod of a cluster, and kubectl has no context"
        )
    backend = Backend(client, access, access.address or api.configuration.host)
    backend.check()
    return backend
