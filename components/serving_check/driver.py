"""The ServingCheck's driver: puts the server and whether a verdict can be repeated into TFX's cache key."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from tfx.components.util import model_utils
from tfx.orchestration.portable.mlmd import execution_lib
from tfx.types import artifact_utils, standard_component_specs

from components.dataset.contracts import SERVING_CHECK_FILE
from components.serving_check.check import found_server
from components.token_driver import InputArtifacts, TokenDriver

ATTEMPT_KEY: Final = "attempt"


class Driver(TokenDriver):
    """A model found fit stays so for the same server; a refusal never comes from the cache.

    A server that was late or slow may have been kept from better by what else its machine did at the time.
    """

    PROPERTY = ATTEMPT_KEY

    def token(self, inputs: InputArtifacts, exec_properties: Mapping[str, Any]) -> str:
        approval = artifact_utils.get_single_instance(
            list(inputs[standard_component_specs.MODEL_BLESSING_KEY])
        )
        if not model_utils.is_model_blessed(approval):
            return "not approved"
        model = artifact_utils.get_single_instance(list(inputs[standard_component_specs.MODEL_KEY]))
        return f"{found_server()} after {self._refusals(model.id)} refusals"

    def _refusals(self, model_id: int) -> int:
        """Counts the verdicts against a model so far: each one asks for another execution.

        Where the Evaluator did not approve it, nothing was checked, and there is a verdict without a report.
        """
        with self._mlmd_connection as handle:
            events = handle.store.get_events_by_artifact_ids([model_id])
            verdicts = {
                verdict.id: verdict
                for execution_id in {event.execution_id for event in events}
                for verdict in execution_lib.get_output_artifacts(handle, execution_id).get(
                    standard_component_specs.INFRA_BLESSING_KEY, ()
                )
            }
        return sum(
            not model_utils.is_infra_validated(verdict) and Path(verdict.uri, SERVING_CHECK_FILE).exists()
            for verdict in verdicts.values()
        )
