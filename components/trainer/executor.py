"""What TFX's Trainer runs: ``run_fn`` with the settings of this run."""

from typing import Any

from tfx import types
from tfx.components.trainer.executor import GenericExecutor
from tfx.components.trainer.fn_args_utils import FnArgs

from components.run_parameters import settings_of_run
from components.serving.config import ServingLimits
from components.trainer import run_fn
from components.trainer.component import LIMITS_KEY, SETTINGS_KEY
from components.trainer.config import TrainerSettings
from components.trainer.distribution import is_chief


class Executor(GenericExecutor):
    """TFX's executor, whose ``run_fn`` is given the settings with this run's own values.

    Processes that train together (``TF_CONFIG``) each run it with the same arguments.
    """

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Trains; see ``run_fn``.

        Raises:
            StageError: this run's number of epochs or learning rate is impossible.
        """
        if is_chief():
            super().Do(input_dict, output_dict, exec_properties)
        else:
            # TFX's own would miss the model, which the chief alone exports.
            run_fn.run_fn(self._GetFnArgs(input_dict, output_dict, exec_properties))

    def _GetFnArgs(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> FnArgs:
        fn_args = super()._GetFnArgs(input_dict, output_dict, exec_properties)
        fn_args.custom_config = {
            SETTINGS_KEY: settings_of_run(TrainerSettings, exec_properties[SETTINGS_KEY], exec_properties),
            LIMITS_KEY: ServingLimits.model_validate_json(exec_properties[LIMITS_KEY]),
        }
        return fn_args
