"""Pushes an approved model."""

import logging
import uuid
from pathlib import Path
from typing import Any, Final

from tfx import types
from tfx.components.pusher import executor as tfx_pusher
from tfx.types import artifact_utils, standard_component_specs

from components.dataset.contracts import ALREADY_SERVED
from components.errors import StageError
from components.model_store import publishing, signing, store, tokens
from components.pusher.driver import SIGNING_KEY_KEY, already_served, refusal, serving_dir

BASELINE_MODEL_KEY: Final = "baseline_model"
KEEP_VERSIONS_KEY: Final = "keep_versions"

logger = logging.getLogger(__name__)


class Executor(tfx_pusher.Executor):
    """TFX's executor with another way of writing: atomic, ever-increasing versions, few of them kept.

    TFX's own copies file by file into the directory a server watches, and skips the push where two fall
    into one second.
    """

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Pushes the model if both verdicts allow it, unless it is the newest version already.

        Args:
            input_dict: ``model``, ``model_blessing``, ``infra_blessing``, and ``baseline_model``, what the
                model was compared with.
            output_dict: ``pushed_model``, the model and the custom properties that TFX's Pusher sets:
                ``pushed`` (0 or 1), ``pushed_destination`` and ``pushed_version``, and besides
                ``already_served`` (0 or 1).
            exec_properties: ``serving_dir``, ``keep_versions``, ``signing_key`` where versions are signed,
                and ``push_token`` where a driver has set it.

        Raises:
            StageError: this very model was withdrawn, it was compared with what is not the newest version,
                or it cannot be signed.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        pushed_model = artifact_utils.get_single_instance(
            output_dict[standard_component_specs.PUSHED_MODEL_KEY]
        )
        reason = refusal(input_dict)
        if reason:
            self._MarkNotPushed(pushed_model)
            logger.info("not pushed: %s", reason)
            return

        model_dir, base = Path(self.GetModelPath(input_dict)), serving_dir(exec_properties)
        key = exec_properties.get(SIGNING_KEY_KEY)
        served = already_served(model_dir, base, key)
        # The artifact outlives the version, which a later push may remove. Before the push: where the disk is
        # full, nothing is served of which the run then says that the Pusher failed.
        store.link_tree(model_dir, Path(pushed_model.uri))
        if served:
            version = served.number
            logger.info("version %d is this model already", version)
        elif withdrawn := store.withdrawn(model_dir, base):
            raise StageError(
                f"this very model was withdrawn, it lies in {withdrawn}; train another one, or give the "
                "directory its number back"
            )
        else:
            baseline = artifact_utils.get_single_instance(input_dict[BASELINE_MODEL_KEY])
            compared_with = baseline.get_string_custom_property(tokens.BASELINE_TOKEN_KEY)
            push_token = _new_token(base, exec_properties.get(tokens.PUSH_TOKEN_KEY))
            provenance = {tokens.PUSH_TOKEN_KEY: push_token, tokens.BASELINE_TOKEN_KEY: compared_with}
            version = publishing.publish(
                model_dir,
                base,
                provenance,
                check=lambda: _check_unchanged(model_dir, base, compared_with, key),
                sign=lambda copy: signing.sign(copy, key) if key else None,
            )
            logger.info("pushed as version %d", version)
        pushed_model.set_int_custom_property(ALREADY_SERVED, int(served is not None))
        self._MarkPushed(
            pushed_model, pushed_destination=str(base / str(version)), pushed_version=str(version)
        )
        _remove_old_versions(base, exec_properties[KEEP_VERSIONS_KEY])


def _remove_old_versions(base: Path, keep: int) -> None:
    """Prunes, whatever comes of it: the model is served, and a stage that failed would say that it is not."""
    try:
        removed = publishing.prune(base, keep)
    except KeyboardInterrupt:
        # `pipeline.interrupt` remembers it, and the run ends after this stage.
        logger.warning("interrupted: old versions under %s stay until the next push", base)
    except (OSError, StageError) as error:
        logger.warning("old versions under %s stay until the next push: %s", base, error)
    else:
        if removed:
            logger.info("removed old versions: %s", ", ".join(map(str, removed)))


def _new_token(base: Path, given: str | None) -> str:
    """Returns the token that was given, if any, or another one where it is an earlier push's already.

    On Kubeflow a task gives it that has no key, and so takes a version of another signature for this push.
    """
    newest = store.newest(base)
    taken = newest is not None and newest.provenance().get(tokens.PUSH_TOKEN_KEY) == given
    return given if given and not taken else uuid.uuid4().hex


def _check_unchanged(model_dir: Path, base: Path, compared_with: str, key: str | None) -> None:
    """Two runs at a time: the gate's verdict is on this model against versions of then."""
    if tokens.baseline_token(model_dir, base) != compared_with or already_served(model_dir, base, key):
        raise StageError(
            f"the versions under {base} changed after the model was compared with them; "
            "run the pipeline again"
        )
