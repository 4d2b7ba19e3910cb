"""The pipeline: from a recipe to the graph of components, all of it on one screen."""

import tensorflow_data_validation as tfdv
import tensorflow_transform as tft  # noqa: F401  (sets how Keras is found; must precede any use of it)
from pydantic_core import to_json
from tfx.components.statistics_gen.component import StatisticsGen
from tfx.components.transform.component import Transform
from tfx.orchestration.metadata import sqlite_metadata_connection_config
from tfx.orchestration.pipeline import Pipeline
from tfx.proto import transform_pb2

import components
import components.baseline
import components.dataset
import components.evaluator
import components.example_validator
import components.image_mask_example_gen
import components.imaging
import components.metrics
import components.model_store
import components.serving
import components.serving_check
import components.transform
from components.baseline.component import Baseline
from components.evaluator.component import Evaluator
from components.example_validator.component import ExampleValidator
from components.fingerprint import CODE_FINGERPRINT_KEY, source_fingerprint
from components.image_mask_example_gen.component import ImageMaskExampleGen
from components.pusher.component import Pusher
from components.report.component import Report
from components.run_parameters import RunParameters
from components.schema.component import CuratedSchema
from components.schema.curated import curated_schema, statistics_schema
from components.serving.config import ServingCheckConfig, ServingLimits
from components.serving_check.component import ServingCheck
from components.trainer.component import Trainer
from components.training_code import TRAINING_CODE
from pipeline.config import Recipe


def create_pipeline(
    recipe: Recipe,
    parameters: RunParameters,
    *,
    pipeline_name: str,
    pipeline_root: str,
    checkpoint_dir: str | None,
    metadata_path: str | None = None,
) -> Pipeline:
    """Builds the pipeline of a recipe, the same for every orchestrator.

    Args:
        recipe: what to run on what.
        parameters: the values of a single run; the recipe's own of these are read nowhere.
        pipeline_name: TFX's name for it; runs of one name share their cache.
        pipeline_root: directory of all artifacts.
        checkpoint_dir: where an interrupted training finds itself again; None keeps nothing.
        metadata_path: the SQLite file of ML Metadata, where all stages run on this machine; None where the
            orchestrator has a store of its own.
    """
    labels = recipe.dataset.label_set()
    attributes = recipe.dataset.attributes

    # Files in, Examples out: every file becomes an Example or a line in the list of rejected ones.
    example_gen = ImageMaskExampleGen(
        dataset=recipe.dataset,
        labels=labels,
        data_path=parameters.data_path,
        bands=recipe.transform.bands,
        code_fingerprint=source_fingerprint(
            components.image_mask_example_gen, components.imaging, components.dataset
        ),
    )

    # Scalars only, and nothing else is read: statistics over encoded images say nothing and cost much.
    curated = curated_schema(attributes, recipe.dataset.max_pixels, labels.num_classes)
    statistics_gen = StatisticsGen(
        examples=example_gen.outputs["examples"],
        stats_options=tfdv.StatsOptions(
            schema=statistics_schema(curated),
            experimental_filter_read_paths=True,
            # In one pass with all others; exact up to a thousand values of a feature.
            use_sketch_based_topk_uniques=True,
        ),
    )
    schema = CuratedSchema(curated)

    # Examples that are not what the schema says end the run here, before anything is learnt from them.
    example_validator = ExampleValidator(
        statistics=statistics_gen.outputs["statistics"],
        schema=schema.outputs["schema"],
        exclude_splits=["val"] if recipe.dataset.splits.val == 0 else [],
        code_fingerprint=source_fingerprint(components.example_validator, components.dataset),
    )

    # One graph from bytes to pixels for training, evaluation and serving, with what it learns from `train`.
    materialize = recipe.transform.materialize
    transform = Transform(
        examples=example_gen.outputs["examples"],
        schema=schema.outputs["schema"],
        preprocessing_fn="components.transform.preprocessing.preprocessing_fn",
        custom_config={
            "transform": recipe.normalized_transform().model_dump_json(),
            "reading": to_json(recipe.reading()).decode(),
            CODE_FINGERPRINT_KEY: source_fingerprint(
                components.transform, components.imaging, components.dataset
            ),
        },
        splits_config=transform_pb2.SplitsConfig(analyze=["train"], transform=["train", "val"]),
        materialize=materialize,
        disable_statistics=True,
        disable_analyzer_cache=True,
    )

    # The artifacts alone would let Transform run beside the validation.
    transform.add_upstream_node(example_validator)

    trainer = Trainer(
        examples=transform.outputs["transformed_examples"]
        if materialize
        else example_gen.outputs["examples"],
        transform_graph=transform.outputs["transform_graph"],
        settings=recipe.trainer_settings(
            checkpoint_dir=checkpoint_dir,
            code_fingerprint=source_fingerprint(*TRAINING_CODE),
            trains_here=metadata_path is not None,
        ),
        limits=recipe.serving.part(ServingLimits),
        data_path=parameters.data_path,
        epochs=parameters.epochs,
        learning_rate=parameters.learning_rate,
    )

    # What the candidate has to beat: the model being served right now, if any.
    baseline = Baseline(
        model=trainer.outputs["model"],
        serving_dir=parameters.serving_dir,
        code_fingerprint=source_fingerprint(
            components.baseline, components.model_store, components.imaging, components.dataset
        ),
    )

    # The gate. Only here is `test` looked at, at every mask's original resolution.
    evaluator = Evaluator(
        examples=example_gen.outputs["examples"],
        model=trainer.outputs["model"],
        baseline_model=baseline.outputs["baseline_model"],
        config=recipe.evaluation,
        labels=labels,
        min_mean_iou=parameters.min_mean_iou,
        code_fingerprint=source_fingerprint(
            components.evaluator,
            components.metrics,
            components.imaging,
            components.model_store,
            components.dataset,
        ),
    )

    # A good model that cannot be served is worth nothing: a real server answers with it before it is pushed.
    serving_check = ServingCheck(
        model=trainer.outputs["model"],
        model_blessing=evaluator.outputs["blessing"],
        examples=example_gen.outputs["examples"],
        config=recipe.serving.part(ServingCheckConfig),
        code_fingerprint=source_fingerprint(
            components.serving_check,
            components.serving,
            components.model_store,
            components.imaging,
            components.dataset,
        ),
    )

    # Atomic and monotonic: a server never sees half a version, nor an older one as the newest.
    pusher = Pusher(
        model=trainer.outputs["model"],
        model_blessing=evaluator.outputs["blessing"],
        infra_blessing=serving_check.outputs["infra_blessing"],
        baseline_model=baseline.outputs["baseline_model"],
        serving_dir=parameters.serving_dir,
        keep_versions=recipe.serving.keep_versions,
        signing_key=recipe.serving.signing_key,
    )

    # One page for people, whatever the verdict: how good the model is, where it errs, what it was made from.
    report = Report(
        examples=example_gen.outputs["examples"],
        ingestion=example_gen.outputs["ingestion"],
        model=trainer.outputs["model"],
        model_run=trainer.outputs["model_run"],
        evaluation=evaluator.outputs["evaluation"],
        infra_blessing=serving_check.outputs["infra_blessing"],
        pushed_model=pusher.outputs["pushed_model"],
        baseline_model=baseline.outputs["baseline_model"],
        recipe=recipe.model_dump(mode="json"),
        labels=labels,
        data_path=parameters.data_path,
        epochs=parameters.epochs,
        learning_rate=parameters.learning_rate,
        min_mean_iou=parameters.min_mean_iou,
    )

    return Pipeline(
        pipeline_name=pipeline_name,
        pipeline_root=pipeline_root,
        components=[
            example_gen,
            statistics_gen,
            schema,
            example_validator,
            transform,
            trainer,
            baseline,
            evaluator,
            serving_check,
            pusher,
            report,
        ],
        enable_cache=True,
        metadata_connection_config=metadata_path and sqlite_metadata_connection_config(metadata_path),
    )
