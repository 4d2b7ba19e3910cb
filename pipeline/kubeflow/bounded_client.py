"""kfp's client, which by itself asks again and again, and waits for ever for an answer."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import kfp
from kfp_server_api import ApiException, V2beta1GetHealthzResponse
from kfp_server_api.rest import RESTClientObject

TIMEOUT = (10.0, 60.0)
"""Seconds to connect, and to wait for an answer."""


class BoundedClient(kfp.Client):
    """Asks once and within bounds, and leaves the home directory as it is."""

    def __init__(self, **options: Any):
        super().__init__(**options)
        api = self.runs.api_client
        api.configuration.retries = False
        api.rest_client = _BoundedRest(api.configuration)

    def get_kfp_healthz(self, sleep_duration: int = 0) -> V2beta1GetHealthzResponse:
        # The constructor asks, without bounds, only to note a pod's namespace in the home directory.
        return V2beta1GetHealthzResponse()

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
        with suppress(OSError):
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
