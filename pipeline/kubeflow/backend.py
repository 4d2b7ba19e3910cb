"""A Kubeflow Pipelines backend, and what it means when it does not answer as it should."""

import base64
import contextlib
import json
import os
import re
import warnings
from collections.abc import Collection, Iterator
from http import HTTPStatus
from typing import Final

import urllib3
from kfp.client.client import KF_PIPELINES_ENDPOINT_ENV, KF_PIPELINES_UI_ENDPOINT_ENV
from kfp_server_api import ApiException

from pipeline.kubeflow import bounded_client
from pipeline.kubeflow.access import Access, cookies, credentials
from pipeline.kubeflow.errors import ConnectionProblem, NotFound, Unauthenticated

_LONGEST_MESSAGE = 400
_VERDICT: Final = re.compile("^failed: |^pushed: |: FAILED  ")
"""What the container's entrypoint, and the gates through its logging, put before a line that counts."""
_WEB_PAGE = "what answers is a web page, not the API of Kubeflow Pipelines"


_LOST: Final[dict[str, bool]] = {"may_pass": True, "perhaps_done": True}
"""Of a request that was sent, and whose answer did not come."""


class Backend:
    """A Kubeflow Pipelines that has answered once."""

    def __init__(self, client: bounded_client.BoundedClient, access: Access, address: str):
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

        Raises:
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
            client = bounded_client.BoundedClient(
                host=access.host,
                cookies=cookies(access),
                credentials=credentials(access),
                ssl_ca_cert=access.ssl_ca_cert and str(access.ssl_ca_cert),
                verify_ssl=access.verify_ssl,
            )
    except (json.JSONDecodeError, KeyError) as error:
        settings = bounded_client.BoundedClient._LOCAL_KFP_CONTEXT
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


@contextlib.contextmanager
def explained(access: Access, address: str) -> Iterator[None]:
    """Turns all that may go wrong with a request to an address into a ConnectionProblem."""
    try:
        # What kfp prints is for readers of notebooks.
        with contextlib.redirect_stdout(None):
            yield
    except ApiException as error:
        raise _refusal(error, access, address) from None
    except urllib3.exceptions.HTTPError as error:
        raise _no_answer(error, address) from None
    except UnicodeError:
        # So is this: somebody changed it meanwhile.
        raise ConnectionProblem(
            f"the token that {address} is asked with is not ASCII; {_who(access)}"
        ) from None
    except OSError as error:
        # The token's file is read for each request.
        reason = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        raise ConnectionProblem(reason, may_pass=True) from None


def _refusal(error: ApiException, access: Access, address: str) -> ConnectionProblem:
    status, said = int(error.status or 0), _message(error)
    if 200 <= status < 300:
        return ConnectionProblem(f"{address}: {_WEB_PAGE}; {_who(access)}")
    if 300 <= status < 400:
        location = (error.headers or {}).get("location", "elsewhere")
        return ConnectionProblem(
            f"{address} sends us on to {location}; if that is a login page, {_who(access)}, "
            "else give that as --host"
        )
    if status == 0:
        return ConnectionProblem(f"{address}: {_tls(error.reason)}")
    numbered = f"{status} {_phrase(status)}"
    match status:
        case 401:
            return Unauthenticated(
                f"{address} does not know who asks ({numbered}); {_who(access)}", may_pass=True
            )
        case 403:
            return ConnectionProblem(f"{address} does not allow this ({numbered}): {said}")
        case 404:
            return NotFound(f"{address} does not have it ({numbered}): {said}")
        case 429:
            return ConnectionProblem(f"{address} is too busy ({numbered})", may_pass=True)
        case _ if status >= 500:
            return ConnectionProblem(f"{address} cannot answer ({numbered}): {said}", **_LOST)
        case _:
            return ConnectionProblem(f"{address} refuses ({numbered}): {said}")


def _no_answer(error: urllib3.exceptions.HTTPError, address: str) -> ConnectionProblem:
    match error:
        case urllib3.exceptions.SSLError():
            return ConnectionProblem(f"{address}: {_tls(str(error))}")
        case urllib3.exceptions.LocationValueError():
            return ConnectionProblem(f"{address} is no address: {error}")
        case urllib3.exceptions.NewConnectionError():
            return ConnectionProblem(f"{address} cannot be reached: {_plain(error)}", may_pass=True)
        case urllib3.exceptions.ConnectTimeoutError() | urllib3.exceptions.ReadTimeoutError():
            was_asked = isinstance(error, urllib3.exceptions.ReadTimeoutError)
            return ConnectionProblem(
                f"{address} does not answer within {bounded_client.TIMEOUT[was_asked]:g} s",
                may_pass=True,
                perhaps_done=was_asked,
            )
        case _:
            return ConnectionProblem(f"{address} broke off: {_plain(error)}", **_LOST)


def _plain(error: Exception) -> str:
    """The error's text without the names of classes and the numbers that it begins with."""
    return re.sub(r"^.*(\[Errno -?\d+\] |: )", "", " ".join(str(error).split())).strip(" '\")")


def _who(access: Access) -> str:
    if access.token_file:
        return f"the token in {access.token_file} is not accepted, or no longer"
    if access.cookies_file:
        return f"the cookies in {access.cookies_file} are not accepted, or no longer"
    return "give --token-file or --cookies-file"


def _message(error: ApiException) -> str:
    """What the backend says, on one line; its reason where it says nothing."""
    try:
        body = json.loads(error.body or "")
    except ValueError:
        body = {}
    said = ""
    if isinstance(body, dict):
        said = body.get("message") or body.get("error_message") or body.get("error") or ""
    text = " ".join(str(said or error.reason or "no reason given").split())
    return text if len(text) <= _LONGEST_MESSAGE else f"{text[: _LONGEST_MESSAGE - 1]}…"


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "unknown"


def _tls(reason: str | None) -> str:
    text = " ".join((reason or "TLS failed").split())
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return f"its certificate is not trusted ({text}); give --ssl-ca-cert"
    return f"no encrypted connection ({text}); does it speak http://?"
