"""What TFX hands to ``run_fn``."""

from pathlib import Path

from conftest import TransformRun
from tfx.components.trainer.fn_args_utils import FnArgs

from components.trainer.config import TrainerSettings


def fn_args(run: TransformRun, settings: TrainerSettings, directory: Path) -> FnArgs:
    """Arguments of a training on what Transform made, whose outputs go below ``directory``."""
    return FnArgs(
        train_files=[str(run.examples / "Split-train" / "*")],
        eval_files=[str(run.examples / "Split-val" / "*")],
        transform_output=str(run.graph),
        serving_model_dir=str(directory / "model"),
        model_run_dir=str(directory / "run"),
        custom_config={"settings": settings},
    )
