"""Whole evaluations through the executor: real TFMA, real SavedModels, tiny masks."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_model_analysis as tfma
from conftest import png_bytes
from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
from tfx.types import artifact_utils, channel_utils, standard_artifacts

from components.dataset.contracts import EVALUATION_FILE, LABELS_FILE, Evaluation
from components.dataset.features import IMAGE_ENCODED, IMAGE_FILENAME, MASK_ENCODED
from components.dataset.labels import LabelSet
from components.errors import StageError
from components.evaluator.component import Evaluator
from components.evaluator.config import EvaluationConfig
from components.evaluator.executor import Executor as EvaluatorExecutor
from components.evaluator.results import read_evaluation
from components.imaging.reading import InputSize
from components.metrics.ceiling import restored_target
from pipeline.beam_config import BeamConfig

LABELS = LabelSet(names=("background", "cat", "dog", "unicorn"))
IGNORE = 255
EXAMPLES = 40
"""More than one batch."""


class Thresholding(tf.Module):
    """Predicts the class that an image's pixel // 16 says if pixel % 16 < ``skill``, else the next class.

    A pixel of an image thus fixes how skilled a model must be to see its class.
    """

    def __init__(self, skill: int, crop: int = 0) -> None:
        super().__init__()
        self._skill, self._crop = skill, crop

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "examples")])
    def evaluate(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        parsed = tf.io.parse_example(examples, {IMAGE_ENCODED: tf.io.FixedLenFeature([], tf.string)})

        def predict(encoded: tf.Tensor) -> tf.Tensor:
            image = tf.cast(tf.io.decode_png(encoded, channels=1), tf.int32)[self._crop :]
            seen = tf.where(image % 16 < self._skill, image // 16, (image // 16 + 1) % 3)
            return tf.io.encode_png(tf.cast(seen, tf.uint8))

        return {"mask_bytes": tf.map_fn(predict, parsed[IMAGE_ENCODED])}


def save_model(uri: Path, **settings: int) -> None:
    model = Thresholding(**settings)
    tf.saved_model.save(model, str(uri / "Format-Serving"), signatures={"evaluate": model.evaluate})


def make_pairs(count: int = EXAMPLES) -> list[tuple[np.ndarray, np.ndarray, str]]:
    """Images, masks and species: sizes vary, some pixels are ignored, dogs are harder than cats."""
    random = np.random.default_rng(7)
    pairs = []
    for index in range(count):
        shape = random.integers(4, 20, 2)
        truth = random.integers(0, 3, shape)
        species = "cat" if index % 2 else "dog"
        difficulty = random.integers(0, 12 if species == "cat" else 16, shape)
        image = (truth * 16 + difficulty).astype(np.uint8)
        truth[random.random(shape) < 0.1] = IGNORE
        pairs.append((image, truth.astype(np.uint8), species))
    return pairs


def write_examples(folder: Path, pairs: list[tuple[np.ndarray, np.ndarray, str]]) -> None:
    folder.mkdir(parents=True)

    def feature(value: bytes) -> tf.train.Feature:
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))

    with tf.io.TFRecordWriter(str(folder / "data.gz"), "GZIP") as writer:
        for index, (image, mask, species) in enumerate(pairs):
            features = {
                IMAGE_ENCODED: feature(png_bytes(image)),
                IMAGE_FILENAME: feature(f"images/{index:03}.png".encode()),
                MASK_ENCODED: feature(png_bytes(mask)),
                "attribute/species": feature(species.encode()),
            }
            writer.write(tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString())


def predict(image: np.ndarray, skill: int) -> np.ndarray:
    return np.where(image % 16 < skill, image // 16, (image // 16 + 1) % 3)


def expected_iou(pairs: list[tuple[np.ndarray, np.ndarray, str]], skill: int) -> dict[str, float]:
    """IoU of each class that occurs, by logical operations on all counted pixels at once."""
    truth = np.concatenate([mask.ravel() for _, mask, _ in pairs])
    predicted = np.concatenate([predict(image, skill).ravel() for image, _, _ in pairs])
    counted = truth != IGNORE
    return {
        name: np.logical_and.reduce([truth == class_id, predicted == class_id, counted]).sum()
        / (((truth == class_id) | (predicted == class_id)) & counted).sum()
        for class_id, name in enumerate(LABELS.names[:3])
    }


def mean(iou: dict[str, float]) -> float:
    return float(np.mean(list(iou.values())))


PAIRS = make_pairs()
GOOD, BAD = 12, 6
"""Skills."""
SIZE = InputSize(6, 7, "letterbox")
"""What the good model says of its network's input."""


def expected_ceiling(pairs: list[tuple[np.ndarray, np.ndarray, str]]) -> dict[str, float]:
    """IoU of each class that occurs, of the masks that come back from the network's input."""
    truth = np.concatenate([mask.ravel() for _, mask, _ in pairs])
    answer = np.concatenate([restored_target(mask, SIZE).ravel() for _, mask, _ in pairs])
    counted = truth != IGNORE
    return {
        name: ((truth == class_id) & (answer == class_id) & counted).sum()
        / (((truth == class_id) | (answer == class_id)) & counted).sum()
        for class_id, name in enumerate(LABELS.names[:3])
    }


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Examples and models."""
    folder = tmp_path_factory.mktemp("inputs")
    write_examples(folder / "examples/Split-test", PAIRS)
    # The other splits would break any metric they entered.
    write_examples(folder / "examples/Split-train", [(PAIRS[0][0], np.full((3, 3), 77, np.uint8), "cow")])
    save_model(folder / "good", skill=GOOD)
    save_model(folder / "bad", skill=BAD)
    description = folder / "good/Format-Serving" / LABELS_FILE
    description.parent.mkdir()
    transform = {"height": SIZE.height, "width": SIZE.width, "resize": SIZE.method}
    description.write_text(json.dumps({"recipe": {"transform": transform}}))
    (folder / "nothing").mkdir()
    return folder


class Run:
    """One execution of the component and what it left."""

    def __init__(
        self,
        folder: Path,
        examples: Path,
        model: Path,
        baseline: Path,
        config: EvaluationConfig,
    ) -> None:
        source = standard_artifacts.Examples()
        source.uri = str(examples)
        source.split_names = artifact_utils.encode_split_names(["train", "val", "test"])
        candidate, served = standard_artifacts.Model(), standard_artifacts.Model()
        candidate.uri, served.uri = str(model), str(baseline)
        served.set_string_custom_property("version", "3" if any(baseline.iterdir()) else "")
        component = Evaluator(
            examples=channel_utils.as_channel([source]),
            model=channel_utils.as_channel([candidate]),
            baseline_model=channel_utils.as_channel([served]),
            config=config,
            labels=LABELS,
            min_mean_iou=config.min_mean_iou,
        )
        self.evaluation, self.blessing = (
            standard_artifacts.ModelEvaluation(),
            standard_artifacts.ModelBlessing(),
        )
        self.evaluation.uri, self.blessing.uri = str(folder / "evaluation"), str(folder / "blessing")
        context = BaseBeamExecutor.Context(
            beam_pipeline_args=BeamConfig(workers=1).pipeline_args(), tmp_dir=str(folder / "tmp")
        )
        EvaluatorExecutor(context).Do(
            {"examples": [source], "model": [candidate], "baseline_model": [served]},
            {"evaluation": [self.evaluation], "blessing": [self.blessing]},
            dict(component.exec_properties),
        )

    @property
    def blessed(self) -> bool:
        return (Path(self.blessing.uri) / "BLESSED").exists()

    def load(self) -> Evaluation:
        return Evaluation.load(Path(self.evaluation.uri, EVALUATION_FILE))


def test_a_better_model_passes_every_threshold(inputs: Path, tmp_path: Path) -> None:
    config = EvaluationConfig(
        min_mean_iou=0.5,
        min_class_iou={"cat": 0.5},
        slices=("species",),
        min_slice_iou={"species": {"dog": 0.3}},
        max_regression=0.0,
        allow_unmeasured_classes=("unicorn",),
    )
    run = Run(tmp_path, inputs / "examples", inputs / "good", inputs / "bad", config)
    result = run.load()

    assert run.blessed
    assert result.reasons == ()
    assert [check.setting for check in result.checks] == [
        "evaluation.min_mean_iou",
        "evaluation.max_regression",
        "evaluation.min_class_iou.cat",
        "evaluation.allow_unmeasured_classes",
        "evaluation.allow_unmeasured_classes",
        "evaluation.min_slice_iou.species.dog",
    ]
    assert [check.threshold for check in result.checks] == [0.5, 0.0, 0.5, 0.0, 0.0, 0.3]
    assert [check.message for check in result.checks[3:5]] == [
        "every class of the test split is found",
        "the test split has no pixel of unicorn; evaluation.allow_unmeasured_classes allows it",
    ]

    good, bad = expected_iou(PAIRS, GOOD), expected_iou(PAIRS, BAD)
    assert result.metrics.iou == pytest.approx({**good, "unicorn": None}, abs=1e-12)
    assert result.metrics["mean_iou"] == pytest.approx(mean(good), abs=1e-12)
    assert result.metrics.examples == EXAMPLES
    assert result.metrics.resolution == "original"
    assert result.baseline and result.baseline.metrics and result.baseline.version == 3
    assert result.baseline.metrics["mean_iou"] == pytest.approx(mean(bad), abs=1e-12)
    assert result.slices == pytest.approx(
        {
            f"species={species}": mean(expected_iou([pair for pair in PAIRS if pair[2] == species], GOOD))
            for species in ("cat", "dog")
        },
        abs=1e-12,
    )
    assert np.sum(result.confusion) == sum((mask != IGNORE).sum() for _, mask, _ in PAIRS)

    ceiling = expected_ceiling(PAIRS)
    assert result.ceiling and max(ceiling.values()) < 0.8
    assert result.ceiling.iou == pytest.approx({**ceiling, "unicorn": None}, abs=1e-12)
    assert result.ceiling.mean_iou == pytest.approx(mean(ceiling), abs=1e-12)
    assert result.ceiling.slices == pytest.approx(
        {
            f"species={species}": mean(expected_ceiling([pair for pair in PAIRS if pair[2] == species]))
            for species in ("cat", "dog")
        },
        abs=1e-12,
    )
    assert list(result.ceiling.low) == sorted(ceiling, key=ceiling.__getitem__)


def test_a_threshold_that_the_resize_puts_out_of_reach_is_said_to_be_so(inputs: Path, tmp_path: Path) -> None:
    config = EvaluationConfig(
        min_mean_iou=0.9,
        min_class_iou={"cat": 0.99, "dog": 0.01},
        slices=("species",),
        min_slice_iou={"species": {"dog": 0.98}},
        allow_unmeasured_classes=("unicorn",),
    )
    run = Run(tmp_path, inputs / "examples", inputs / "good", inputs / "nothing", config)
    result = run.load()
    assert not run.blessed
    assert result.baseline is None
    ceiling = expected_ceiling(PAIRS)
    of_dogs = mean(expected_ceiling([pair for pair in PAIRS if pair[2] == "dog"]))
    said = [reason.partition("; at its input size even a network that ")[2] for reason in result.reasons]
    remedy = "enlarge transform.height and transform.width, or set transform.resize to native"
    assert said == [
        f"reproduces its targets reaches {reachable:.3f}: {remedy}"
        for reachable in (mean(ceiling), ceiling["cat"], of_dogs)
    ]


def test_every_missed_threshold_is_refused_in_words(
    inputs: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = EvaluationConfig(
        min_mean_iou=0.99,
        min_class_iou={"cat": 0.99, "dog": 0.01, "unicorn": 0.0},
        slices=("species",),
        min_slice_iou={"species": {"cat": 0.01, "dog": 0.98, "cow": 0.0}},
        max_regression=0.01,
    )
    with caplog.at_level(logging.INFO, logger="components"):
        run = Run(tmp_path, inputs / "examples", inputs / "bad", inputs / "good", config)
    result = run.load()

    bad = expected_iou(PAIRS, BAD)
    bad_dogs = mean(expected_iou([pair for pair in PAIRS if pair[2] == "dog"], BAD))
    assert not run.blessed
    assert list(result.reasons) == [
        f"mean IoU {mean(bad):.3f} is under evaluation.min_mean_iou 0.990",
        f"mean IoU of the test split's classes {mean(bad):.3f} falls more than 0.01 below "
        f"the served version 3's {mean(expected_iou(PAIRS, GOOD)):.3f}",
        f"IoU of cat {bad['cat']:.3f} is under evaluation.min_class_iou.cat 0.990",
        "IoU of unicorn cannot be measured, so evaluation.min_class_iou.unicorn is not met: "
        "unicorn occurs neither in the test split nor in the predictions",
        "the test split has no pixel of unicorn: give it images that show them (dataset.splits), "
        "or list them in evaluation.allow_unmeasured_classes",
        "mean IoU of species=cow cannot be measured, so evaluation.min_slice_iou.species.cow is not met: "
        "no example of the test split has species=cow and a pixel that counts",
        f"mean IoU of species=dog {bad_dogs:.3f} is under evaluation.min_slice_iou.species.dog 0.980",
    ]
    for reason in result.reasons:
        assert f"FAILED  {reason}" in caplog.messages


def test_without_a_regression_threshold_a_worse_model_may_pass(inputs: Path, tmp_path: Path) -> None:
    config = EvaluationConfig(min_mean_iou=0.0, max_regression=None, allow_unmeasured_classes=("unicorn",))
    run = Run(tmp_path, inputs / "examples", inputs / "bad", inputs / "good", config)
    assert run.blessed
    assert run.load().baseline


def test_a_split_whose_every_pixel_is_ignored_never_passes(inputs: Path, tmp_path: Path) -> None:
    ignored = [(image, np.full_like(mask, IGNORE), species) for image, mask, species in PAIRS[:2]]
    write_examples(tmp_path / "examples/Split-test", ignored)
    run = Run(
        tmp_path, tmp_path / "examples", inputs / "good", inputs / "bad", EvaluationConfig(min_mean_iou=0.0)
    )
    assert not run.blessed
    assert run.load().metrics["mean_iou"] is None
    *unmeasured, classes = run.load().reasons
    assert len(unmeasured) == 2 and all("cannot be measured" in reason for reason in unmeasured)
    assert classes.startswith("the test split has no pixel of background, cat, dog, unicorn: ")


def test_a_slice_is_known_by_its_text_also_where_it_looks_like_a_number(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = PAIRS[0][1]
    right = np.where(truth == IGNORE, 0, truth).astype(np.uint8) * 16
    write_examples(
        tmp_path / "examples/Split-test", [(right, truth, "1"), (np.zeros_like(right), truth, "01")]
    )
    config = EvaluationConfig(
        min_mean_iou=0.1,
        slices=("species",),
        min_slice_iou={"species": {"1": 0.9, "001": 0.0}},
        allow_unmeasured_classes=("unicorn",),
    )
    run = Run(tmp_path, tmp_path / "examples", inputs / "good", inputs / "nothing", config)
    assert not run.blessed
    result = run.load()
    assert result.slices["species=1"] == 1.0
    assert result.slices["species=01"] == pytest.approx((truth == 0).sum() / (truth != IGNORE).sum() / 3)
    assert [reason.partition(",")[0] for reason in result.reasons] == [
        "mean IoU of species=001 cannot be measured"
    ]

    # Were TFMA's verdict ever another than that of its thresholds, nobody could say why.
    verdict = tfma.load_validation_result(run.evaluation.uri)
    verdict.validation_ok = True
    monkeypatch.setattr(tfma, "load_validation_result", lambda uri: verdict)
    with pytest.raises(StageError, match=r"contradicts itself.* passed the model, .*species=001 cannot be"):
        read_evaluation(run.evaluation.uri)


DOGS_MISSED = [
    (np.minimum(truth, 1).astype(np.uint8) * 16, truth.astype(np.uint8), "dog")
    for truth in (np.arange(63).reshape(9, 7) % 3,) * 3
]
"""Masks that show dogs in images that hide them."""
DOGS_MISPLACED = [
    (np.where(np.eye(9, 7) * (truth == 0), 32, image), truth, "dog") for image, truth, _ in DOGS_MISSED
]
"""The same, and images that show dogs where there are none."""


@pytest.mark.parametrize(
    ("pairs", "allowed", "mean_iou", "reasons"),
    [
        (
            DOGS_MISPLACED,
            (),
            (18 / 21 + 0.5) / 3,
            ["no pixel is rightly predicted as dog, which the", "the test split has no pixel of unicorn: "],
        ),
        (DOGS_MISSED, ("unicorn", "dog"), 0.5, []),
    ],
    ids=["both", "allowed"],
)
def test_a_class_that_cannot_be_measured_or_is_never_found_is_refused_by_name_unless_allowed(
    inputs: Path,
    tmp_path: Path,
    pairs: list[tuple[np.ndarray, np.ndarray, str]],
    allowed: tuple[str, ...],
    mean_iou: float,
    reasons: list[str],
) -> None:
    write_examples(tmp_path / "examples/Split-test", pairs)
    config = EvaluationConfig(min_mean_iou=0.4, allow_unmeasured_classes=allowed)
    run = Run(tmp_path, tmp_path / "examples", inputs / "good", inputs / "nothing", config)
    result = run.load()
    assert result.metrics["mean_iou"] == pytest.approx(mean_iou)
    # Nothing is served: no more is asked of a first model.
    assert result.baseline is None
    assert [check.passed for check in result.checks] == [True, not reasons, not reasons]
    assert run.blessed == (not reasons)
    assert len(result.reasons) == len(reasons)
    for reason, beginning in zip(result.reasons, reasons, strict=True):
        assert reason.startswith(beginning)
        assert reason.endswith("or list them in evaluation.allow_unmeasured_classes")


@pytest.mark.parametrize("files", ["none", "one without records"])
def test_an_empty_split_stops_the_stage(inputs: Path, tmp_path: Path, files: str) -> None:
    (tmp_path / "examples/Split-test").mkdir(parents=True)
    if files != "none":
        (tmp_path / "examples/Split-test/data.gz").write_bytes(b"")
    with pytest.raises(StageError, match=r"the split 'test' has no examples"):
        Run(tmp_path, tmp_path / "examples", inputs / "good", inputs / "nothing", EvaluationConfig())


def test_a_prediction_of_another_size_stops_the_stage(inputs: Path, tmp_path: Path) -> None:
    save_model(tmp_path / "model", skill=GOOD, crop=1)
    height, width = PAIRS[0][1].shape
    with pytest.raises(
        StageError,
        match=rf"40 of 40 examples, first images/000.png: prediction is {height - 1} × {width} pixels, "
        rf"the ground truth {height} × {width}",
    ):
        Run(tmp_path / "run", inputs / "examples", tmp_path / "model", inputs / "nothing", EvaluationConfig())


def test_the_component_is_called_evaluator_and_its_code_is_part_of_its_properties() -> None:
    def build(code_fingerprint: str) -> Evaluator:
        return Evaluator(
            examples=channel_utils.as_channel([standard_artifacts.Examples()]),
            model=channel_utils.as_channel([standard_artifacts.Model()]),
            baseline_model=channel_utils.as_channel([standard_artifacts.Model()]),
            config=EvaluationConfig(),
            labels=LABELS,
            min_mean_iou=0.5,
            code_fingerprint=code_fingerprint,
        )

    assert build("a").id == "Evaluator"
    assert build("a").exec_properties == build("a").exec_properties
    assert build("a").exec_properties != build("b").exec_properties
