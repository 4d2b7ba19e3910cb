"""Kubernetes' API as a Pod's account may use it: one request at a time, and what an error says."""

import json
import re
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

_NAMESPACE_FILE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_TIMEOUT_SECONDS: Final = (10, 30)
"""To connect, and to answer."""


class NoAnswer(Exception):
    """The API server is busy or away; later it may answer."""


class Refused(Exception):
    """The API server's answer is an error, in its own words and on one line."""

    def __init__(self, status: int, message: str):
        lacks_right = status == 403 and re.search(r"\bcannot (create|delete|get|list)\b", message)
        remedy = "; add the component kubernetes/training to the overlay" if lacks_right else ""
        super().__init__(" ".join(message.split()) + remedy)
        self.status = status


class Api:
    """The API server of the cluster that this Pod is in."""

    def __init__(self) -> None:
        # They take a second.
        import kubernetes.client
        import kubernetes.config

        kubernetes.config.load_incluster_config()
        self._client = kubernetes.client.ApiClient()
        self.namespace = _NAMESPACE_FILE.read_text().strip()

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None, **query: str) -> Any:
        """Returns the answer's JSON.

        Raises:
            NoAnswer: there is none.
            Refused: it is an error.
        """
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError

        try:
            return self._client.call_api(
                path,
                method,
                query_params=list(query.items()),
                header_params={"Accept": "application/json", "Content-Type": "application/json"},
                body=body,
                response_type="object",
                auth_settings=["BearerToken"],
                _return_http_data_only=True,
                _request_timeout=_TIMEOUT_SECONDS,
            )
        except ApiException as error:
            message = str(error.reason)
            with suppress(TypeError, ValueError, KeyError):
                message = json.loads(error.body)["message"]
            if error.status == 429 or error.status >= 500:
                raise NoAnswer(message) from None
            raise Refused(error.status, message) from None
        except HTTPError as error:
            raise NoAnswer(str(error)) from None
