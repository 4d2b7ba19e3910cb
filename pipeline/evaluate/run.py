"""One evaluation: a folder's pairs become Examples, the Evaluator scores the model on them, a page tells."""

import json
import logging
import os
import time
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from datetime import datetime
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
from tfx.types import Artifact, artifact_utils, channel_utils, standard_artifacts

from components.bucket import is_remote, path_of
from components.dataset.artifacts import IngestionReportArtifact
from components.errors import StageError
from components.evaluator.component import SPLIT, Evaluator
from components.evaluator.executor import Executor as EvaluatorExecutor
from components.image_mask_example_gen.component import ImageMaskExampleGen
from components.image_mask_example_gen.config import DatasetConfig
from components.image_mask_example_gen.executor import Executor as IngestionExecutor
from components.image_mask_example_gen.inputs import opened_root
from components.image_mask_example_gen.layouts.layout import Entry
from components.image_mask_example_gen.layouts.tfds import RecordFile, Tfds
from components.image_mask_example_gen.plan import Plan, group_of, plan_evaluation, plan_ingestion
from components.image_mask_example_gen.splits import declare
from components.model_store.description import EVALUATE, can_be_evaluated, described
from components.model_store.store import SERVING_FORMAT, content_fingerprint
from components.report.data import ReportData
from components.report.executor import with_examples
from components.report.lineage import lineage
from components.report.page import write_page
from components.report.run_summary import RunSummary, summarize
from pipeline.config import Recipe
from pipeline.evaluate.scratch import scratch
from pipeline.local.stages import StageResult, forget_peak_memory, peak_memory_mb
from pipeline.local.views import View
from pipeline.tfxio import configure_tfxio

_STAGES: Final = ("ImageMaskExampleGen", "Evaluator", "Report")

# A child of the logger that the terminal's view hears.
logger = logging.getLogger("components.evaluate")


def evaluate(recipe: Recipe, model: Path, output: Path, view: View) -> RunSummary:
    """Scores a model and writes ``index.html`` and ``report.json``.

    Args:
        recipe: says how the folder is read and what the gate asks for; its classes are the model's.
        model: directory of the SavedModel.
        output: folder for the page; the Examples are in it meanwhile.
        view: is told how far this is.

    Raises:
        StageError: the folder or the model cannot be evaluated, or changed meanwhile.
    """
    if not can_be_evaluated(model):
        raise StageError(
            f"{model} has no signature {EVALUATE!r}, which the Evaluator asks: it cannot be scored"
        )
    started_at, clock = datetime.now().astimezone(), time.monotonic()
    settings, fingerprint = recipe.model_dump(mode="json"), content_fingerprint(model)
    # Now, as an edit may change what is there when it ends.
    made_with = lineage(settings, fingerprint)
    configure_tfxio()
    view.stages_follow(_STAGES)
    with scratch(output) as folder:
        work = _Work(recipe, folder)
        with _stage(view, _STAGES[0]):
            work.read_pairs(_Learnt(model))
        with _stage(view, _STAGES[1]):
            work.score(model)
        with _stage(view, _STAGES[2]):
            artifacts = {"ingestion": work.ingestion, "evaluation": work.evaluation}
            summary = summarize(
                artifacts,
                recipe=recipe.name,
                model_name=recipe.serving.model_name,
                serving_dir="",
                started_at=started_at,
                seconds=time.monotonic() - clock,
            ).model_copy(update={"outcome": "evaluated", "evaluated_model": str(model)})
            known = ReportData.of(
                summary,
                artifacts,
                settings,
                work.labels,
                made_with,
            )
            data = with_examples(known, model, work.examples, work.labels)
            # The Evaluator and the page's pictures have each read it.
            if content_fingerprint(model) != fingerprint:
                raise StageError(f"{model} changed while it was evaluated; run again")
            data.save(output)
            page = write_page(data, output, artifacts)
    view.stages_are_over()
    return summary.model_copy(update={"report": str(page)})


@contextmanager
def _stage(view: View, name: str) -> Iterator[None]:
    view.stage_starts(name)
    started, measures_memory = time.monotonic(), forget_peak_memory()
    yield
    memory_mb = peak_memory_mb() if measures_memory else None
    view.stage_ends(StageResult(name, time.monotonic() - started, False, {}, memory_mb))


class _Work:
    """Two stages of the pipeline without their orchestrator, and what they leave."""

    def __init__(self, recipe: Recipe, folder: Path):
        self.labels = recipe.dataset.label_set()
        self.examples = _artifact(standard_artifacts.Examples, folder / "examples")
        self.ingestion = _artifact(IngestionReportArtifact, folder / "ingestion")
        self.evaluation = _artifact(standard_artifacts.ModelEvaluation, folder / "evaluation")
        self._recipe = recipe
        self._folder = folder

    def read_pairs(self, learnt: "_Learnt") -> None:
        """Writes the Examples."""
        dataset = self._recipe.dataset

        def plan(config: DatasetConfig, root: Path) -> Plan:
            if config.limit is not None and learnt.is_from_another(dataset):
                logger.info(
                    "dataset.limit %d is for the folder that the model learnt from; this one counts whole",
                    config.limit,
                )
                config = config.model_copy(update={"limit": None})
            return plan_evaluation(config, root, learnt.of(dataset))

        component = ImageMaskExampleGen(
            dataset, self.labels, dataset.root or "", bands=self._recipe.transform.bands
        )
        IngestionExecutor(self._context("ImageMaskExampleGen"), plan).Do(
            {},
            {"examples": [self.examples], "ingestion": [self.ingestion]},
            dict(component.exec_properties),
        )
        learnt.tell()
        # Train and val are empty, which is no news.
        self.examples.split_names = artifact_utils.encode_split_names([SPLIT])

    def score(self, model: Path) -> None:
        """Writes the evaluation."""
        candidate = _artifact(standard_artifacts.Model, self._folder / "model")
        Path(candidate.uri, SERVING_FORMAT).symlink_to(model)
        config = self._recipe.evaluation
        component = Evaluator(
            examples=channel_utils.as_channel([self.examples]),
            model=channel_utils.as_channel([candidate]),
            baseline_model=channel_utils.as_channel([standard_artifacts.Model()]),
            config=config,
            labels=self.labels,
            min_mean_iou=config.min_mean_iou,
        )
        blessing = _artifact(standard_artifacts.ModelBlessing, self._folder / "blessing")
        EvaluatorExecutor(self._context("Evaluator")).Do(
            {"examples": [self.examples], "model": [candidate]},
            {"evaluation": [self.evaluation], "blessing": [blessing]},
            dict(component.exec_properties),
        )

    def _context(self, stage: str) -> BaseBeamExecutor.Context:
        return BaseBeamExecutor.Context(
            beam_pipeline_args=self._recipe.beam_args(stage), tmp_dir=str(self._folder / "tmp")
        )


def _artifact(kind: type[Artifact], folder: Path) -> Artifact:
    folder.mkdir()
    artifact = kind()
    artifact.uri = str(folder)
    return artifact


class _Learnt:
    """Which pairs a model learnt from: those that its own settings, applied to its folder as it is now, put
    into train or val, and copies of their images, byte for byte, wherever they are, in records among them.

    Others that these settings find there, of the same groups, count as well, unless the settings put them
    into test: ``dataset.limit`` picks single pairs, and the next frame of a video is nothing new to it.
    """

    def __init__(self, model: Path):
        self._left_out = self._related = 0
        self._obstacle = ""
        self._root: str | None = None
        self._place: Hashable = None
        self._in_records = False
        self._relatives: frozenset[Hashable] = frozenset()
        """Images of the groups that it learnt from, but for those of test."""
        self._images = self._of_model(described(model, "recipe", "dataset"))
        self._by_size: defaultdict[int | None, list[str]] = defaultdict(list)
        """None is the size of all that are in records, which only reading tells."""
        for path in self._images:
            if isinstance(path, str) and (self._in_records or os.path.isfile(path)):
                self._by_size[None if self._in_records else os.path.getsize(path)].append(path)
        self._contents: dict[int | None, frozenset[bytes]] = {}
        """Digests of all of one size, once they were asked for."""

    def of(self, dataset: DatasetConfig) -> Callable[[Entry], bool]:
        """Returns what knows such a pair of a folder, and counts it."""
        buckets = [root for root in (dataset.root, self._root) if is_remote(root or "")]
        if buckets and dataset.root != self._root and not self._obstacle:
            self._obstacle = (
                f"a copy is known by its bytes where both are files, and {buckets[0]} is a bucket"
            )

        def learnt(entry: Entry) -> bool:
            image = _image(dataset, entry)
            is_known = image in self._images or self._has_copy(image, _has_records(dataset))
            self._left_out += is_known
            is_related = not is_known and image in self._relatives
            self._related += is_related
            return is_known or is_related

        return learnt

    def is_from_another(self, dataset: DatasetConfig) -> bool:
        """Whether the model is known to have learnt from another folder than this one."""
        return self._place is not None and self._place != _place(dataset)

    def tell(self) -> None:
        """Says how many there were, or why nobody knows."""
        if self._obstacle:
            logger.warning("it is not known whether the model learnt from these pairs: %s", self._obstacle)
        elif self._left_out or self._related:
            more = f"; and {self._related} more of their groups (dataset.splits.group)"
            logger.info(
                "%d pairs left out, which the model learnt from: its train and val%s",
                self._left_out,
                more if self._related else "",
            )

    def _has_copy(self, image: Hashable, in_record: bool) -> bool:
        """Whether one of them is this picture by another name; of files only those of its size are read."""
        if not isinstance(image, str) or not (in_record or os.path.isfile(image)):
            return False
        size = None
        if not self._in_records:
            size = len(_bytes(image, in_record)) if in_record else os.path.getsize(image)
        if size not in self._contents:
            of_size = (_content(path, self._in_records) for path in self._by_size.get(size, ()))
            self._contents[size] = frozenset(of_size)
        return bool(self._contents[size]) and _content(image, in_record) in self._contents[size]

    def _of_model(self, settings: Any) -> frozenset[Hashable]:
        if settings is None:
            self._obstacle = "it does not say what it was trained on"
            return frozenset()
        try:
            config = DatasetConfig.model_validate_json(json.dumps(settings))
            self._root, self._place = config.root, _place(config)
            self._in_records = _has_records(config)
            with opened_root(config) as folder:
                plan = plan_ingestion(config, folder)
                self._relatives = _relatives(config, folder, plan)
        except (ValueError, OSError, StageError) as error:
            first_line, *_ = str(error).splitlines()
            root = settings.get("root") if isinstance(settings, dict) else None
            self._obstacle = f"{root or 'its dataset'} cannot be divided as it was then ({first_line})"
            return frozenset()
        return frozenset(_image(config, entry) for entry in _learnt_from(plan))


def _relatives(config: DatasetConfig, folder: Path, plan: Plan) -> frozenset[Hashable]:
    """The images of all groups in train and val, but for those in test or declared to be of it."""
    splits = config.grouped_splits
    groups = {group_of(entry.key, splits) for entry in _learnt_from(plan)} - {None}
    if not groups:
        return frozenset()
    scan = config.source.scan(folder)
    tested = [entry for shard in plan.shards if shard.split == SPLIT for entry in shard.entries]
    tested += [e for e in declare(scan, config.splits, folder).scan.entries if e.official_split == SPLIT]
    related = (entry for entry in scan.entries if group_of(entry.key, splits) in groups)
    return frozenset(_image(config, e) for e in related) - {_image(config, e) for e in tested}


def _learnt_from(plan: Plan) -> Iterator[Entry]:
    return (entry for shard in plan.shards if shard.split != SPLIT for entry in shard.entries)


def _has_records(dataset: DatasetConfig) -> bool:
    return dataset.layout == Tfds.name


def _content(path: str, in_record: bool) -> bytes:
    return blake2b(_bytes(path, in_record), digest_size=16).digest()


def _bytes(path: str, in_record: bool) -> bytes:
    if not in_record:
        return Path(path).read_bytes()
    try:
        with RecordFile(path).open("rb") as picture:
            return picture.read()
    except OSError:
        # What is damaged is a matter of ingestion, and like nothing else.
        return path.encode()


def _place(dataset: DatasetConfig) -> Hashable:
    """What two settings share that mean the same folder."""
    if dataset.root is None:
        return dataset.shapes
    return dataset.root if is_remote(dataset.root) else os.path.realpath(dataset.root)


def _image(dataset: DatasetConfig, entry: Entry) -> Hashable:
    """What two settings share that mean the same image."""
    if dataset.root is None:
        # What is drawn does not depend on how many there are.
        return dataset.shapes.seed, entry.image
    path = path_of(dataset.root) / entry.image
    return str(path) if is_remote(dataset.root) else os.path.realpath(path)
