"""A pipeline of toy stages.

The stages get into the trouble that the environment variable ``TOY_TROUBLE`` asks for.
"""

import logging
import os
import signal
import subprocess
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import apache_beam as beam
import tensorflow as tf
from tfx.dsl.component.experimental.annotations import (
    BeamComponentParameter,
    InputArtifact,
    OutputArtifact,
    Parameter,
)
from tfx.dsl.component.experimental.decorators import component
from tfx.orchestration.metadata import sqlite_metadata_connection_config
from tfx.orchestration.pipeline import Pipeline
from tfx.types import standard_artifacts

from components.errors import StageError
from components.image_mask_example_gen.report import Reason, Rejection, UnusableDatasetError
from components.trainer.progress import RECORD_ATTRIBUTE, TICKS, TrainingProgress
from pipeline.config import Recipe

logger = logging.getLogger("components.toy")
ticks = logging.getLogger(TICKS)

SHARD = "data_tfrecord-00000-of-00001"
Model = standard_artifacts.Model
PushedModel = standard_artifacts.PushedModel


@component
def Records(examples: OutputArtifact[standard_artifacts.Examples]) -> None:
    Path(examples.uri, "Split-train").mkdir()
    with tf.io.TFRecordWriter(f"{examples.uri}/Split-train/{SHARD}") as writer:
        for number in range(9):
            writer.write(bytes([number]) * 100)


@component
def Reader(
    settings: Parameter[int],
    examples: InputArtifact[standard_artifacts.Examples],
    numbers: OutputArtifact[Model],
) -> None:
    records = tf.data.TFRecordDataset(f"{examples.uri}/Split-train/{SHARD}")
    Path(numbers.uri, "count").write_text(str(sum(1 for _ in records)))


@component
def Numbers(
    count: Parameter[int],
    numbers: OutputArtifact[Model],
) -> None:
    logger.info("%d numbers", count)
    print("chatter on stdout")
    subprocess.run("echo chatter of a child process >&2", shell=True, check=True)
    Path(numbers.uri, "count").write_text(str(count))


@component(use_beam=True)
def Worker(
    numbers: InputArtifact[Model],
    model: OutputArtifact[Model],
    beam_pipeline: BeamComponentParameter[beam.Pipeline] = None,
) -> None:
    Path(model.uri, "begun").touch()
    trouble = os.environ.get("TOY_TROUBLE", "")
    if trouble == "edited":
        Path(os.environ["TOY_SOURCE"]).write_text("x = 2")
    if trouble == "training":
        _train()
    if trouble == "hang":
        _hang()
    if trouble == "hang_and_swallow":
        try:
            _hang()
        except KeyboardInterrupt:
            raise RuntimeError("what native code makes of an interrupt") from None
    if trouble == "stage_error":
        raise StageError("the images are upside down; turn them round")
    if trouble == "unusable_dataset":
        rejected = [Rejection(f"{number}.jpg", Reason.EMPTY_FILE, "0 bytes") for number in range(30)]
        raise UnusableDatasetError("30 of 30 pairs cannot be used", rejected)
    if trouble == "strange_name":
        logger.info("rejected %s", os.fsdecode(b"caf\xe9.jpg"))
        raise StageError(f"Two files are named {os.fsdecode(b'caf' + bytes([0xE9]))}.jpg; rename one")
    if trouble == "value_error":
        raise ValueError("first line\nsecond line")
    if trouble.startswith("beam"):
        with beam_pipeline as root:
            _ = root | beam.Create([0]) | "Spoil" >> beam.Map(_spoil, trouble)
    Path(model.uri, "count").write_bytes(Path(numbers.uri, "count").read_bytes())


@component
def Pusher(
    model: InputArtifact[Model],
    pushed_model: OutputArtifact[PushedModel],
) -> None:
    refuses = not Path(model.uri, "count").exists() or os.environ.get("TOY_TROUBLE") == "refused"
    pushed_model.set_int_custom_property("pushed", 0 if refuses else 1)
    pushed_model.set_string_custom_property("pushed_version", "" if refuses else "7")
    pushed_model.set_int_custom_property("already_served", int(os.environ.get("TOY_TROUBLE") == "served"))


@component
def Report(pushed_model: InputArtifact[PushedModel]) -> None:
    if os.environ.get("TOY_TROUBLE") == "report_interrupted":
        os.kill(os.getpid(), signal.SIGINT)
    raise StageError("the pictures are too large")


def _train() -> None:
    """Three epochs of ten steps, as the Trainer tells of them."""
    logger.info("540,341 parameters, 420 training examples")
    progress = TrainingProgress(1, 3, 0, 10, None, None, None, None)
    for epoch in (1, 2, 3):
        for step in range(10):
            progress = replace(progress, epoch=epoch, step=step)
            if (epoch, step) == (1, 1):
                logger.info("the first of 10 steps an epoch took 0.1 s", extra={RECORD_ATTRIBUTE: progress})
            ticks.debug("step %d", step, extra={RECORD_ATTRIBUTE: progress})
            time.sleep(0.05)
        progress = replace(
            progress,
            step=10,
            loss=1.1245 / epoch,
            val_mean_iou=0.3 * epoch,
            images_per_second=21.0,
            seconds_left=40.0 * (3 - epoch),
        )
        logger.info("epoch %d/3: loss %.4f", epoch, progress.loss, extra={RECORD_ATTRIBUTE: progress})
    logger.debug("what only the log has")
    logger.info("exporting epoch 3 of 3")


def _hang() -> None:
    # What it would remove by itself: its own, and that of a child process.
    tempfile.mkdtemp()
    subprocess.run(["mktemp", "-d"], check=True)
    logger.info("hanging")
    time.sleep(60)


def _spoil(element: int, trouble: str) -> float:
    if trouble == "beam_hang":
        _hang()
    if trouble == "beam_stage_error":
        raise StageError("element 0 is bad; take another")
    return 1 / element


def create_pipeline(
    recipe: Recipe,
    parameters: object,
    *,
    pipeline_name: str,
    pipeline_root: str,
    metadata_path: str,
    **_: Any,
) -> Pipeline:
    if os.environ.get("TOY_TROUBLE") == "reads":
        records = Records()
        source = [records, Reader(settings=recipe.training.epochs, examples=records.outputs["examples"])]
    else:
        source = [Numbers(count=recipe.training.epochs)]
    numbers = source[-1]
    worker = Worker(numbers=numbers.outputs["numbers"])
    pusher = Pusher(model=worker.outputs["model"])
    reports = os.environ.get("TOY_TROUBLE", "").startswith("report")
    return Pipeline(
        pipeline_name=pipeline_name,
        pipeline_root=pipeline_root,
        components=[
            *source,
            worker,
            pusher,
            *([Report(pushed_model=pusher.outputs["pushed_model"])] if reports else []),
        ],
        enable_cache=True,
        metadata_connection_config=sqlite_metadata_connection_config(metadata_path),
        beam_pipeline_args=recipe.beam.pipeline_args(),
    )
