"""Makes every execution one that no cache knows."""

import uuid
from collections.abc import Mapping
from typing import Any

from components.token_driver import InputArtifacts, TokenDriver


class Driver(TokenDriver):
    """A page tells of one run, so an earlier run's is never the answer."""

    PROPERTY = "execution"

    def token(self, inputs: InputArtifacts, exec_properties: Mapping[str, Any]) -> str:
        return uuid.uuid4().hex
