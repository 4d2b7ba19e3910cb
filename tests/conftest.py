"""Fixtures that every room's tests share."""

import errno
import io
import json
import os
import shutil
import signal
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image
from warm_process import begin_by_fork
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

# Set before anything imports TensorFlow: its start-up chatter would bury a failing test's message.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Of what happens without a GPU the tests tell; two of them at once would each take all of one.
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
if "PYTEST_XDIST_WORKER" in os.environ:
    begin_by_fork()

from components.dataset import features
from components.imports import quick_imports

# Nothing here is about an example's milliseconds, which a busy machine multiplies.
settings.register_profile("any-machine", deadline=None)
settings.load_profile("any-machine")

_SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
_SHARED_CASES = _SHARED_DATA.parent / "cases"


_LONGEST_FIRST = (
    *("test_emulated_run.py", "test_image_build.py", "test_real_data.py", "test_drawn_data.py"),
    *("test_prism.py", "test_engine.py", "test_run_fn.py", "test_benchmarks.py", "test_strategy.py"),
    *("test_training_machines.py", "test_evaluate.py", "test_native_training.py", "test_native_stages.py"),
    # They would be among the last.
    *("test_export.py", "test_distribution.py", "test_preprocessing.py"),
)
_TOGETHER = {"tests/kubeflow/test_image_build.py": "tests/kubeflow/test_emulated_run.py"}
"""Modules that share what takes minutes to make with another one."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts first what takes longest: last, one process would be at work and the other one idle."""
    ranks = {name: rank for rank, name in enumerate(_LONGEST_FIRST)}
    items.sort(key=lambda item: ranks.get(item.path.name, len(ranks)))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Spares the collector what tests import: it would look through that for seconds, and finds nothing."""
    with quick_imports():
        return (yield)


class _ByFixtures(LoadScopeScheduling):
    """Gives to one process what shares fixtures."""

    def _split_scope(self, nodeid: str) -> str:
        module = nodeid.partition("::")[0]
        return _TOGETHER.get(module, module)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    """Is asked where there are several processes."""
    return _ByFixtures(config, log)


@pytest.fixture
def forbid(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Has the system refuse to look at any path with a part; permissions do not hold for the superuser."""
    stat = os.stat

    def forbid(part: str) -> None:
        def refuse(path: Any, **options: Any) -> os.stat_result:
            if part in str(path):
                raise PermissionError(errno.EACCES, "Permission denied", str(path))
            return stat(path, **options)

        monkeypatch.setattr(os, "stat", refuse)

    return forbid


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real datasets beside the checkout; tests that need it skip where it is absent."""
    if not _SHARED_DATA.is_dir():
        pytest.skip(f"no real datasets at {_SHARED_DATA}")
    return _SHARED_DATA


@pytest.fixture
def case(tmp_path: Path) -> Callable[[str], Path]:
    """Unpacks one of the small data sets that went wrong for somebody; skips where they are absent.

    ``case("voc")`` is the folder that holds the case's folders.
    """

    def unpack(name: str) -> Path:
        archive = _SHARED_CASES / f"{name}.zip"
        if not archive.is_file():
            pytest.skip(f"no data set {name} at {_SHARED_CASES}")
        shutil.unpack_archive(archive, tmp_path)
        return tmp_path / name

    return unpack


@pytest.fixture(autouse=True)
def own_signals() -> Iterator[None]:
    """Gives this process its handlers back: a command that is called in here sets its own."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    signal.set_wakeup_fd(-1)
    for number, handler in handlers.items():
        signal.signal(number, handler)


@dataclass(frozen=True)
class Pair:
    """A tiny image and its class ids."""

    image: np.ndarray
    """uint8 [height, width, 3]"""
    class_ids: np.ndarray
    """uint8 [height, width]"""

    def class_pixels(self, num_classes: int = 2) -> list[int]:
        return [int((self.class_ids == class_id).sum()) for class_id in range(num_classes)]

    def png(self) -> bytes:
        return png_bytes(self.image)

    def example(self, name: str, num_classes: int = 2) -> bytes:
        """The pair as a serialised Example, as ingestion writes it."""
        import tensorflow as tf

        def feature(value: bytes | list[int]) -> tf.train.Feature:
            if isinstance(value, bytes):
                return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
            return tf.train.Feature(int64_list=tf.train.Int64List(value=value))

        values: dict[str, bytes | list[int]] = {
            features.IMAGE_ENCODED: self.png(),
            features.IMAGE_FORMAT: b"png",
            features.IMAGE_FILENAME: name.encode(),
            features.IMAGE_HEIGHT: [self.image.shape[0]],
            features.IMAGE_WIDTH: [self.image.shape[1]],
            features.MASK_ENCODED: png_bytes(self.class_ids),
            features.MASK_FORMAT: b"png",
            features.CLASS_PIXELS: self.class_pixels(num_classes),
        }
        example = tf.train.Example()
        for key, value in values.items():
            example.features.feature[key].CopyFrom(feature(value))
        return bytes(example.SerializeToString())


def png_bytes(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def disc_pair(seed: int) -> Pair:
    """A bright disc (class 1) on dark noise (class 0), its rim ignored; the size varies with the seed."""
    rng = np.random.default_rng(seed)
    height, width = rng.integers(20, 40, 2)
    rows, columns = np.mgrid[:height, :width]
    center = rng.uniform(0.3, 0.7, 2) * (height, width)
    distance = np.hypot(rows - center[0], columns - center[1]) / min(height, width)
    class_ids = np.where(distance < 0.25, 1, np.where(distance < 0.3, features.IGNORE_LABEL, 0)).astype(
        np.uint8
    )
    image = rng.integers(0, 80, (height, width, 3)) + 120 * (class_ids == 1)[..., None]
    return Pair(image.astype(np.uint8), class_ids)


@dataclass(frozen=True)
class TransformRun:
    """Where a run of the Transform component left things."""

    examples: Path
    graph: Path
    transformed: Path
    pairs: dict[str, list[Pair]]


RunTransform = Callable[..., TransformRun]


@pytest.fixture(scope="session")
def run_transform(tmp_path_factory: pytest.TempPathFactory) -> RunTransform:
    """Runs TFX's Transform executor with this project's graph on a handful of discs."""

    def run(**settings: Any) -> TransformRun:
        import tensorflow as tf
        from google.protobuf import json_format, text_format
        from pydantic_core import to_json
        from tfx.components.transform.executor import Executor
        from tfx.components.util import examples_utils
        from tfx.proto import example_gen_pb2, transform_pb2
        from tfx.types import standard_artifacts
        from tfx.types import standard_component_specs as keys

        from components.imaging.reading import Reading
        from components.schema.curated import curated_schema
        from components.transform.config import TransformConfig
        from pipeline.beam_config import BeamConfig

        config = TransformConfig(**settings)
        reading = Reading(channels=config.num_channels, bands=config.bands)
        root = tmp_path_factory.mktemp("transform")
        pairs = {
            "train": [disc_pair(seed) for seed in range(12)],
            "val": [disc_pair(seed) for seed in range(100, 104)],
        }
        for split, members in pairs.items():
            directory = root / "examples" / f"Split-{split}"
            directory.mkdir(parents=True)
            with tf.io.TFRecordWriter(str(directory / "data_tfrecord-00000-of-00001")) as writer:
                for index, pair in enumerate(members):
                    writer.write(pair.example(f"{split}/{index}.png"))
        (root / "schema").mkdir()
        schema = curated_schema([], max_pixels=10**6, num_classes=2)
        (root / "schema" / "schema.pbtxt").write_text(text_format.MessageToString(schema))

        def artifact(kind: type, name: str) -> Any:
            made = kind()
            made.uri = str(root / name)
            return made

        examples = artifact(standard_artifacts.Examples, "examples")
        examples.split_names = '["train", "val"]'
        examples_utils.set_payload_format(examples, example_gen_pb2.PayloadFormat.FORMAT_TF_EXAMPLE)
        outputs = {keys.TRANSFORM_GRAPH_KEY: [artifact(standard_artifacts.TransformGraph, "graph")]}
        if config.materialize:
            outputs[keys.TRANSFORMED_EXAMPLES_KEY] = [artifact(standard_artifacts.Examples, "transformed")]
        context = Executor.Context(
            beam_pipeline_args=BeamConfig(workers=1).pipeline_args(),
            tmp_dir=str(root / "tmp"),
            unique_id="1",
        )
        Executor(context).Do(
            {keys.EXAMPLES_KEY: [examples], keys.SCHEMA_KEY: [artifact(standard_artifacts.Schema, "schema")]},
            outputs,
            {
                "preprocessing_fn": "components.transform.preprocessing.preprocessing_fn",
                "custom_config": json.dumps(
                    {
                        "transform": config.model_dump_json(),
                        "reading": to_json(reading).decode(),
                    }
                ),
                "splits_config": json_format.MessageToJson(
                    transform_pb2.SplitsConfig(analyze=["train"], transform=["train", "val"])
                ),
                "force_tf_compat_v1": 0,
                "disable_statistics": 1,
            },
        )
        return TransformRun(root / "examples", root / "graph", root / "transformed", pairs)

    return run
