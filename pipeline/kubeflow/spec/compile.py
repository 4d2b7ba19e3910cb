"""From a recipe to a package that open-source Kubeflow Pipelines runs."""

import dataclasses
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import Final

from absl import logging as absl_logging
from google.protobuf import json_format
from kfp.pipeline_spec.pipeline_spec_pb2 import PipelineSpec
from tfx.dsl.components.base.base_beam_component import BaseBeamComponent
from tfx.orchestration.data_types import RuntimeParameter
from tfx.orchestration.kubeflow.v2 import compiler_utils
from tfx.orchestration.kubeflow.v2.kubeflow_v2_dag_runner import (
    KubeflowV2DagRunner,
    KubeflowV2DagRunnerConfig,
)
from tfx.orchestration.pipeline import Pipeline

from components.bucket import is_remote
from components.run_parameters import RunParameters
from models.options import IMAGENET
from pipeline.config import Recipe
from pipeline.create_pipeline import create_pipeline
from pipeline.kubeflow import in_bucket
from pipeline.kubeflow.spec.caching import DATA_TASK, READER, complete_cache_keys
from pipeline.kubeflow.spec.compatibility import Target, make_compatible
from pipeline.kubeflow.spec.dataset_importer import import_dataset
from pipeline.kubeflow.spec.machines import devices, machine_options, machine_problems, shared_options
from pipeline.kubeflow.spec.package import Package
from pipeline.kubeflow.spec.platform import build_platform_spec
from pipeline.kubeflow_config import SIGNING_DIR, names_digest
from pipeline.kubernetes_types import parse_quantity
from pipeline.recipe_errors import RecipeError

COMMAND: Final = ("python", "-m", "pipeline.kubeflow.entrypoint")
"""Of every stage's container."""


def compile_pipeline(recipe: Recipe, *, image: str, pipeline_root: str) -> Package:
    """Compiles the same pipeline that runs locally.

    Fields of `RunParameters` become the pipeline's parameters, with the recipe's values as defaults. The
    same recipe and code give the same package. The dataset is not needed.

    Args:
        recipe: its paths are those within the containers; the dataset may be in an object store.
        image: container image of all stages, with this code in it.
        pipeline_root: directory of all artifacts in the object store, ``s3://BUCKET/PATH`` for example.

    Raises:
        RecipeError: it has other machines do a stage's work, which could not read what that reads, or not
            reach it, or might not be alike; or a layout that cannot read its data where they are.
    """
    if not image:
        raise ValueError(
            "a container image must be named; TFX would take its own, which has no stage of ours"
        )
    values = recipe.run_parameters(f"{recipe.kubeflow.serving_root}/{recipe.serving.model_name}")
    defaults = dataclasses.asdict(values)
    pipeline = create_pipeline(
        recipe,
        RunParameters(**{name: _parameter(name, value) for name, value in defaults.items()}),
        pipeline_name=pipeline_name(recipe),
        pipeline_root=pipeline_root,
        checkpoint_dir=recipe.kubeflow.checkpoint_dir,
    )
    if problems := [
        *_engine_problems(recipe, pipeline_root),
        *machine_problems(recipe, image),
        *_bucket_problems(recipe),
        *_signing_problems(recipe),
    ]:
        raise RecipeError(problems)
    spec = compile_for_vertex(pipeline, image)
    if recipe.kubeflow.cache and can_be_cached(recipe, image):
        complete_cache_keys(spec, image, COMMAND, devices(recipe.kubeflow))
    make_compatible(spec, Target(image, COMMAND, pipeline_root, defaults, recipe.kubeflow))
    with_beam = [each.id for each in pipeline.components if isinstance(each, BaseBeamComponent)]
    options = {stage: beam_options(recipe, stage, pipeline_root) for stage in with_beam}
    options["Trainer"] = machine_options(recipe.kubeflow, image)
    opening_buckets = {READER, DATA_TASK, *(with_beam if works_in_bucket(recipe, pipeline_root) else ())}
    platform = build_platform_spec(spec, recipe.kubeflow, options, opening_buckets)
    if launcher_copies_data(recipe):
        # Last: what the others give every task is for containers, and an importer is none.
        import_dataset(spec)
    return Package(spec, platform)


def _signing_problems(recipe: Recipe) -> Iterator[str]:
    key, secret = recipe.serving.signing_key, recipe.kubeflow.signing_secret
    if key and not (secret and PurePosixPath(key).parent == PurePosixPath(SIGNING_DIR)):
        yield (
            f"serving.signing_key is {key}, which the Pusher's pod has not; name a Secret in "
            f"kubeflow.signing_secret, and the key as {SIGNING_DIR}/NAME, NAME being the Secret's own for it"
        )
    if secret and not key:
        yield (
            f"kubeflow.signing_secret is {secret}, and nothing is signed: set serving.signing_key to "
            f"{SIGNING_DIR}/NAME, or leave it out"
        )


def can_be_cached(recipe: Recipe, image: str) -> bool:
    """Whether the backend's cache may answer for the stages that read data and models.

    A tag may name another image tomorrow; a digest never does. What the launcher copies from a bucket nobody
    else can look at before. And nobody looks whether a file of weights is still the same one.
    """
    reads_weights = recipe.model.encoder_weights not in (None, IMAGENET)
    return names_digest(image) and not launcher_copies_data(recipe) and not reads_weights


def launcher_copies_data(recipe: Recipe) -> bool:
    """Whether the dataset is in a bucket, and the stage that reads it finds a copy on its pod's disk."""
    return recipe.kubeflow.copy_bucket and is_remote(recipe.dataset.root or "")


def pipeline_name(recipe: Recipe) -> str:
    """Returns the recipe's name in the letters that KFP takes."""
    return re.sub(r"[^a-z0-9]+", "-", recipe.name.lower())


def works_in_bucket(recipe: Recipe, pipeline_root: str) -> bool:
    """Whether an engine reads and writes a run's artifacts where they are, in Google Cloud Storage.

    Of the object stores it is the one that TensorFlow reads; workers have credentials of their own.
    """
    return (
        recipe.beam.is_remote
        and pipeline_root.startswith(in_bucket.SCHEME)
        and (recipe.beam.runner == "DataflowRunner" or recipe.kubeflow.shared_dir is None)
    )


def beam_options(recipe: Recipe, stage_name: str, pipeline_root: str) -> list[str]:
    """Returns Beam's command line for a stage, and with an engine what the entrypoint needs besides.

    In the pod, where ``beam.workers`` does not say otherwise, at most a worker for each CPU that it may use:
    the machine that compiles has another number of them.
    """
    if works_in_bucket(recipe, pipeline_root):
        return [*recipe.beam_args(stage_name), "--in_bucket"]
    if recipe.beam.is_remote:
        return [*recipe.beam_args(stage_name), *shared_options(recipe.kubeflow, stage_name)]
    cpus = int(parse_quantity(str(recipe.kubeflow.stage(stage_name).cpu_limit)))
    return recipe.beam_args(stage_name, max(1, cpus))


def _engine_problems(recipe: Recipe, pipeline_root: str) -> Iterator[str]:
    """What keeps an engine's workers from the work of a pod."""
    engine, shared_dir, data = recipe.beam, recipe.kubeflow.shared_dir, recipe.dataset.root
    if shared_dir is not None and data is not None and f"{shared_dir}/".startswith(f"{data}/"):
        yield (
            f"kubeflow.shared_dir is {shared_dir}, within dataset.root, {data}: what stages put there would "
            "be taken for data; name a folder beside it"
        )
    if not engine.is_remote:
        return
    if engine.environment_type == "LOOPBACK":
        yield (
            "beam.environment_type is LOOPBACK, with which an engine looks for the stage's process on its "
            "own machine; on Kubeflow give EXTERNAL, with a worker pool beside it"
        )
    if works_in_bucket(recipe, pipeline_root):
        yield from _unseen_data(recipe)
    elif engine.runner == "DataflowRunner":
        yield (
            f"beam.runner is DataflowRunner, but the pipeline root is {pipeline_root}, where workers read "
            "nothing; give one in Google Cloud Storage, gs://BUCKET/FOLDER"
        )
    elif shared_dir is None:
        yield (
            f"beam.runner is {engine.runner}, whose workers do not see what a stage reads: on Kubeflow these "
            "are copies on the pod's own disk; set kubeflow.shared_dir, a folder on a claim that the workers "
            "mount, too, give a pipeline root in gs://, or leave the runner out and raise "
            "kubeflow.stages.NAME.cpu_limit"
        )


def _unseen_data(recipe: Recipe) -> Iterator[str]:
    """What a stage's own pod alone would see of the dataset."""
    runner, data = recipe.beam.runner, recipe.dataset.root
    if data is None:
        yield (
            f"beam.runner is {runner}, whose workers do not see the data that layout shapes draws on the "
            "pod's own disk; give data in a bucket, or leave the runner out"
        )
    elif launcher_copies_data(recipe):
        yield (
            f"beam.runner is {runner}, whose workers do not see the copy of {data} on the pod's own disk; "
            "set kubeflow.copy_bucket to false, so that they read the bucket"
        )
    elif runner == "DataflowRunner" and not is_remote(data):
        yield (
            f"dataset.root is {data}, on a claim, but the workers of DataflowRunner mount none; give data in "
            "a bucket, with kubeflow.copy_bucket false"
        )


def _bucket_problems(recipe: Recipe) -> Iterator[str]:
    remote, layout = is_remote(recipe.dataset.root or ""), recipe.dataset.layout
    if remote and not recipe.kubeflow.copy_bucket and not recipe.dataset.source.reads_buckets:
        yield f"kubeflow.copy_bucket is false, but layout {layout} reads no bucket; leave it out"


def compile_for_vertex(pipeline: Pipeline, image: str) -> PipelineSpec:
    """Returns what TFX's own compiler makes of a pipeline, with which the backend is not content yet."""
    config = KubeflowV2DagRunnerConfig(
        use_pipeline_spec_2_1=True, default_image=image, default_commands=list(COMMAND)
    )
    with _quiet(), _any_artifact_type():
        job = KubeflowV2DagRunner(config).run(pipeline, write_out=False)
    return json_format.ParseDict(job["pipelineSpec"], PipelineSpec())


def _parameter(name: str, value: str | int | float) -> RuntimeParameter:
    return RuntimeParameter(name=name, ptype=type(value), default=value)


@contextmanager
def _quiet() -> Iterator[None]:
    before = absl_logging.get_verbosity()
    absl_logging.set_verbosity(absl_logging.ERROR)
    try:
        yield
    finally:
        absl_logging.set_verbosity(before)


@contextmanager
def _any_artifact_type() -> Iterator[None]:
    """Lets TFX's compiler take artifact types whatever they are called.

    It insists on names such as ``namespace.Title``, which Vertex AI wants; on Kubeflow they are
    replaced anyway.
    """
    before = compiler_utils._SCHEMA_TITLE_RE
    compiler_utils._SCHEMA_TITLE_RE = re.compile(".+")
    try:
        yield
    finally:
        compiler_utils._SCHEMA_TITLE_RE = before
