"""How Kubeflow Pipelines is asked: where, by whom, for how long, and what it means if it does not answer."""

import contextlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import kfp
import urllib3
from kfp.client import (
    KF_PIPELINES_SA_TOKEN_ENV,
    KF_PIPELINES_SA_TOKEN_PATH,
    ServiceAccountTokenVolumeCredentials,
)
from kfp.client.client import KF_PIPELINES_ENDPOINT_ENV
from kfp_server_api import ApiException, V2beta1GetHealthzResponse
from kfp_server_api.rest import RESTClientObject

from pipeline.kubeflow.client.errors import ConnectionProblem, Forbidden, NotFound, Unauthenticated

TIMEOUT = (10.0, 60.0)
"""Seconds to connect, and to wait for an answer."""
_LONGEST_MESSAGE = 400
_WEB_PAGE = "what answers is a web page, not the API of Kubeflow Pipelines"
_GOOGLES: Final = ".googleusercontent.com"
_ACCOUNT_REFUSED: Final = "service account authorization error"
"""What backends from 2.18 on say, among other things (``apiserver/resource/resource_manager.go``)."""
_ACCOUNT_REMEDIES: Final = {
    400: "add its name to ALLOWEDSERVICEACCOUNTS of the deployment ml-pipeline (docs/kubeflow.md, step 1)",
    403: "give whoever submits the verb use on serviceaccounts of that name (docs/kubeflow.md, step 2)",
}
"""By the status: the account is not on the backend's list, or the caller may not use it."""
_LOST: Final[dict[str, bool]] = {"may_pass": True, "perhaps_done": True}
"""Of a request that was sent, and whose answer did not come."""


@dataclass(frozen=True)
class Access:
    """Where Kubeflow is and how it is told who asks; None leaves it to kfp's own configuration."""

    host: str | None = None
    """Address of the API, ``https://…/pipeline``; None is kfp's: its environment variable, the service in
    this cluster, or the one that kubectl's context reaches."""
    namespace: str | None = None
    """The profile's, where Kubeflow serves several users; elsewhere only the pods' for advice."""
    token_file: Path | None = None
    """Holds a bearer token; read again for each request, so that it may be renewed."""
    cookies_file: Path | None = None
    """Holds the value of a Cookie header, ``name=value; name=value``."""
    ssl_ca_cert: Path | None = None
    """PEM file of who signed the server's certificate."""
    verify_ssl: bool = True

    @property
    def address(self) -> str | None:
        """The host as given, on the command line or in kfp's environment variable."""
        return self.host or os.environ.get(KF_PIPELINES_ENDPOINT_ENV)


def credentials(access: Access) -> ServiceAccountTokenVolumeCredentials | None:
    """Returns the token file's; else, unless there are cookies, those that the cluster gave this pod.

    Raises:
        ConnectionProblem: there is no such file, or no token in it.
    """
    if access.token_file:
        _only_line(access.token_file, "--token-file", "a token")
        return ServiceAccountTokenVolumeCredentials(str(access.token_file))
    if access.cookies_file:
        return None
    named = os.environ.get(KF_PIPELINES_SA_TOKEN_ENV)
    if named:
        _only_line(Path(named), KF_PIPELINES_SA_TOKEN_ENV, "a token")
    if named or os.path.isfile(KF_PIPELINES_SA_TOKEN_PATH):
        return ServiceAccountTokenVolumeCredentials()
    return None


def cookies(access: Access) -> str | None:
    """Returns the Cookie header, or None; raises ConnectionProblem."""
    if access.cookies_file is None:
        return None
    return _only_line(access.cookies_file, "--cookies-file", "cookies, NAME=VALUE; NAME=VALUE")


def _is_googles(address: str) -> bool:
    try:
        # Urllib3 is who sends it: other parsers find other hosts where there is a backslash.
        url = urllib3.util.parse_url(address)
    except urllib3.exceptions.LocationParseError:
        return False
    return url.scheme == "https" and (url.host or "").endswith(_GOOGLES)


class BoundedClient(kfp.Client):
    """Asks once and within bounds, and leaves the home directory as it is.

    kfp's own asks again and again, and waits for ever for an answer.
    """

    def __init__(self, **options: Any):
        super().__init__(**options)
        api = self.runs.api_client
        api.configuration.retries = False
        api.rest_client = _BoundedRest(api.configuration)

    def get_kfp_healthz(self, sleep_duration: int = 0) -> V2beta1GetHealthzResponse:
        # The constructor asks, without bounds, only to note a pod's namespace in the home directory.
        return V2beta1GetHealthzResponse()

    def _is_inverse_proxy_host(self, host: str) -> bool:
        """Whether a Google access token goes there, in place of any credentials.

        Until its 2.18.1 kfp asks the address's end alone (GHSA-qv29-qxgh-jcw8).

        Raises:
            ConnectionProblem: to kfp it does, and it is not Google's.
        """
        if not super()._is_inverse_proxy_host(host):
            return False
        if not _is_googles(host):
            raise ConnectionProblem(
                f"the host is {host!r}; kfp would send a Google access token there, which only "
                f"https://NAME{_GOOGLES} may have"
            )
        return True

    def get(self, path: str) -> dict[str, Any]:
        """Returns all that the backend answers; the generated models drop what they do not know."""
        answer = self.runs.api_client.call_api(
            path,
            "GET",
            header_params={"Accept": "application/json"},
            response_type="object",
            auth_settings=["Bearer"],
            _return_http_data_only=True,
        )
        return answer if isinstance(answer, dict) else {}

    def usual_namespace(self) -> str | None:
        """Returns the namespace of kfp's context; else, in a pod, the pod's."""
        if namespace := self.get_user_namespace():
            return str(namespace)
        with contextlib.suppress(OSError):
            return Path(self._NAMESPACE_PATH).read_text(encoding="utf-8").strip() or None
        return None


class _BoundedRest(RESTClientObject):
    """Never waits for ever, and takes nothing but JSON for an answer."""

    def request(self, *args: Any, _request_timeout: Any = None, **kwargs: Any) -> Any:
        try:
            response = super().request(*args, _request_timeout=_request_timeout or TIMEOUT, **kwargs)
        except ApiException as error:
            # The generated client decodes it, be it there or not.
            error.body = error.body or b""
            raise
        if "json" not in (response.getheader("content-type") or ""):
            # A login page comes with 200, and would pass for an answer in which nothing is set.
            raise ApiException(http_resp=response)
        return response


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
    if _ACCOUNT_REFUSED in said and status in _ACCOUNT_REMEDIES:
        return ConnectionProblem(
            f"{address} refuses the run's account ({numbered}): {said}; {_ACCOUNT_REMEDIES[status]}, or set "
            "kubeflow.service_account to null, for Kubeflow's own"
        )
    match status:
        case 401:
            return Unauthenticated(
                f"{address} does not know who asks ({numbered}); {_who(access)}", may_pass=True
            )
        case 403:
            return Forbidden(f"{address} does not allow this ({numbered}): {said}")
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
                f"{address} does not answer within {TIMEOUT[was_asked]:g} s",
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


def _only_line(path: Path, option: str, what: str) -> str:
    """Returns what a file of one line holds."""
    try:
        text = path.read_text(encoding="latin-1").strip()
    except OSError as error:
        raise ConnectionProblem(f"{option} {path}: {error.strerror}") from None
    if not text or len(text.splitlines()) > 1:
        raise ConnectionProblem(f"{option} {path}: it must hold one line: {what}")
    if not text.isascii() or not text.isprintable():
        # A byte order mark, most often: kfp reads the file as UTF-8, and no header can hold what it finds.
        raise ConnectionProblem(
            f"{option} {path}: it must hold printable ASCII alone, without a byte order mark"
        )
    return text
