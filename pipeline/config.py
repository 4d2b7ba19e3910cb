"""The recipe: every stage's settings composed, checked against each other, and loaded from YAML.

Imports neither TensorFlow nor TFX, so that help and mistakes appear at once.
"""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

from pydantic import Field, ValidationError, model_validator

from components.bucket import is_remote
from components.dataset.features import ATTRIBUTE_PREFIX
from components.errors import undecodable
from components.evaluator.config import EvaluationConfig
from components.files import sha256
from components.image_mask_example_gen.config import DatasetConfig
from components.imaging.reading import Reading
from components.run_parameters import RunParameters
from components.serving.config import ServingConfig
from components.settings import Settings
from components.trainer.config import TrainerSettings, contradictions
from components.trainer.model_config import ModelConfig
from components.trainer.training_config import AugmentationConfig, TrainingConfig
from components.transform.config import TransformConfig
from models.options import ENCODER_PIXELS, IMAGENET
from pipeline.beam_config import USEFUL_THREADS, BeamConfig
from pipeline.kubeflow_config import DATASET_URI, KubeflowConfig
from pipeline.recipe_errors import RecipeError, explain, shown, suggestion
from pipeline.recipe_yaml import load_yaml

DEFAULT_RECIPE = "shapes"

_RECIPES = Path(__file__).parent / "recipes"
_MOST_PACKED_BYTES = 2_000_000_000
"""Of a picture that the transform graph hands on, as a protocol buffer, which ends at 2**31 bytes."""


class Recipe(Settings):
    """All that decides what a run does; the blocks belong to the stages they govern."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=63)
    """Names the pipeline and the default work directory; the file's name unless given. TFX takes no longer
    one."""
    description: str = ""
    """One line for ``--list-recipes``."""
    dataset: DatasetConfig
    transform: TransformConfig = TransformConfig()
    model: ModelConfig = ModelConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    serving: ServingConfig = ServingConfig()
    beam: BeamConfig = BeamConfig()
    kubeflow: KubeflowConfig = KubeflowConfig()

    @model_validator(mode="after")
    def _blocks_agree(self) -> Self:
        problems = list(self._contradictions())
        if problems:
            raise ValueError("\n".join(problems))
        return self

    def normalized_transform(self) -> TransformConfig:
        """Returns the ``transform`` block with the normalisation that null stands for.

        A pretrained encoder gets the pixels it was trained with, everything else 0 … 1.
        """
        if self.transform.normalization is not None:
            return self.transform
        encoder = self.model.encoder
        if encoder is None or self.model.encoder_weights is None:
            normalization = "unit"
        else:
            normalization = ENCODER_PIXELS[encoder]
        return self.transform.model_copy(update={"normalization": normalization})

    def reading(self) -> Reading:
        """Returns how pixels are read of an image's bytes, in every stage and in serving."""
        return Reading(
            channels=self.transform.num_channels,
            bands=self.transform.bands,
            exif=self.dataset.exif,
            value_range=self.dataset.value_range,
        )

    def beam_args(self, stage: str, cores: int | None = None) -> list[str]:
        """Returns Beam's command line for a stage; ``cores`` as in ``BeamConfig.pipeline_args``."""
        useful = USEFUL_THREADS.get(stage)
        if stage == "Transform" and self.transform.materialize:
            # TensorFlow resizes all pictures there, and no thread holds the others up.
            useful = None
        return self.beam.pipeline_args(cores, useful)

    def trainer_settings(
        self, *, checkpoint_dir: str | None = None, code_fingerprint: str = "", trains_here: bool = True
    ) -> TrainerSettings:
        """Returns what the Trainer is handed.

        Args:
            checkpoint_dir: as in ``TrainerSettings``.
            code_fingerprint: likewise.
            trains_here: whether files on this machine are those that the Trainer will find.
        """
        return TrainerSettings(
            name=self.name,
            dataset=self.dataset.model_dump(mode="json"),
            transform=self.transform.model_dump(mode="json"),
            labels=self.dataset.label_set(),
            input_size=self.transform.input_size,
            reading=self.reading(),
            materialized=self.transform.materialize,
            model=self.model,
            augmentation=self.augmentation,
            training=self.training,
            checkpoint_dir=checkpoint_dir,
            encoder_digest=_digest_of_weights(self.model) if trains_here else "",
            code_fingerprint=code_fingerprint,
        )

    def run_parameters(self, serving_dir: str) -> RunParameters:
        """Returns the recipe's own values of what may be changed for a single run."""
        return RunParameters(
            data_path=self.dataset.root or "",
            epochs=self.training.epochs,
            learning_rate=self.training.learning_rate,
            min_mean_iou=self.evaluation.min_mean_iou,
            serving_dir=serving_dir,
        )

    def _contradictions(self) -> Iterator[str]:
        step = self.model.stride
        if self.model.encoder:
            whose, remedy = f"model.encoder {self.model.encoder}", ""
        elif isinstance(self.model.filters, tuple):
            whose, remedy = f"the {self.model.levels} levels of model.filters", ", or fewer levels"
        else:
            whose, remedy = f"model.depth {self.model.levels}", ", or a smaller model.depth"
        whose += " after a strided_stem" if self.model.strided_stem else ""
        for key in ("height", "width"):
            pixels = getattr(self.transform, key)
            if pixels % step:
                nearest = max(step, round(pixels / step) * step)
                yield (
                    f"transform.{key} is {pixels}, not a multiple of {step}, the stride of "
                    f"{whose}; use {nearest}{remedy}"
                )
        input_shape = (self.transform.height, self.transform.width, self.transform.num_channels)
        yield from contradictions(
            self.model, self.augmentation, self.training, self.dataset.label_set(), input_shape
        )
        if self.transform.resize != "native":
            for key in ("windows_per_epoch", "foreground_windows"):
                value = getattr(self.training, key)
                if value != TrainingConfig.model_fields[key].default:
                    yield (
                        f"training.{key} is {value}, but transform.resize is {self.transform.resize}, which "
                        "shows pictures in one piece; leave it out, or set transform.resize to native"
                    )
        patience = self.training.early_stopping_patience
        if patience is not None and self.dataset.splits.val == 0.0:
            yield (
                f"training.early_stopping_patience is {patience}, but dataset.splits.val is 0 and leaves it "
                "nothing to watch; give val a share such as 0.1, or set the patience to null"
            )
        if self.serving.max_pixels < self.dataset.max_pixels:
            yield (
                f"serving.max_pixels is {self.serving.max_pixels}, but dataset.max_pixels is "
                f"{self.dataset.max_pixels}: the model would refuse what it is evaluated on; "
                "raise the one or lower the other"
            )
        pixels, scale, channels = self.serving.max_pixels, self.transform.scale, self.transform.num_channels
        packed = pixels * scale**2 * channels
        if self.transform.resize == "native" and packed > _MOST_PACKED_BYTES:
            yield (
                f"a picture of serving.max_pixels {pixels} would take {packed / 1e9:.2f} GB at "
                f"transform.scale {scale:g} in {channels} channels, more than the 2 GB that TensorFlow "
                "packs; take a smaller transform.scale, or lower serving.max_pixels and dataset.max_pixels "
                "to what your pictures have"
            )
        attributes = [name.removeprefix(ATTRIBUTE_PREFIX) for name in self.dataset.attributes]
        for attribute in self.evaluation.slices:
            if attribute not in attributes:
                yield (
                    f"evaluation.slices names {attribute!r}, unknown to layout {self.dataset.layout}; "
                    f"remove it (its attributes: {', '.join(attributes) or 'none'})"
                )
        try:
            self.evaluation.check_classes(self.dataset.label_set())
        except ValueError as error:
            yield str(error)


def load_recipe(
    name_or_path: str, data: str | None = None, overrides: Sequence[str] = (), *, runs_here: bool = True
) -> Recipe:
    """Loads a recipe and applies what the command line says on top.

    Args:
        name_or_path: a name that ``list_recipes`` knows, or a YAML file.
        data: replaces ``dataset.root``. Relative paths count from the current directory.
        overrides: ``a.b=value`` each, the value in YAML; later ones win.
        runs_here: whether the paths in it are this machine's. Elsewhere nothing can be looked up, so
            they must be absolute, or for ``dataset.root`` a folder in an object store.

    Raises:
        RecipeError: all that is wrong, a line each.
    """
    path = recipe_path(name_or_path)
    try:
        values = load_yaml(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise RecipeError([f"{path} is not a readable recipe: {error}"]) from None
    if not isinstance(values, dict):
        raise RecipeError([f"{path} is not a recipe: it must hold keys such as dataset and training"])
    try:
        # An override is of the block it names, not of those that an alias makes the same.
        values = _unshared(values)
    except RecursionError:
        raise RecipeError([f"{path}: an alias stands inside its own anchor; write the block out"]) from None
    values.setdefault("name", path.stem)
    for override in overrides:
        _apply(override, values)
    if data is not None:
        _set(values, ["dataset", "root"], data, f"--data {data}")
    for key in ("dataset.root", "model.encoder_weights"):
        _resolve_path(values, key, runs_here)
    try:
        # By way of JSON, in which pydantic's strict mode takes a list where a tuple is declared.
        text = json.dumps(values, ensure_ascii=False)
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise RecipeError(list(_not_utf8(values))) from None
    try:
        recipe = Recipe.model_validate_json(text)
    except ValidationError as error:
        raise RecipeError(explain(error, values, Recipe)) from None
    if runs_here and recipe.beam.runner == "DataflowRunner":
        raise RecipeError(
            [
                "beam.runner is DataflowRunner, whose workers see no folder of this machine, where all is "
                "that stages hand on; run the recipe on Kubeflow, with a pipeline root in gs://, or leave "
                "the runner out"
            ]
        )
    return recipe


def _unshared(value: Any) -> Any:
    """Copies blocks and lists, each as often as it stands; RecursionError where one stands within itself."""
    if isinstance(value, dict):
        return {key: _unshared(inner) for key, inner in value.items()}
    return [_unshared(item) for item in value] if isinstance(value, list) else value


def _not_utf8(value: Any, key: str = "") -> Iterator[str]:
    """A line for each text with bytes that are no characters, as names of files may have."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _not_utf8(name, f"a key of {key or 'the recipe'}")
            yield from _not_utf8(inner, f"{key}.{name}".lstrip("."))
    elif isinstance(value, list):
        for inner in value:
            yield from _not_utf8(inner, key)
    elif isinstance(value, str) and undecodable(value):
        yield f"{key} is {value!r}, which is not UTF-8; rename what it names, or make a link to it"


def _resolve_path(values: dict[str, Any], key: str, runs_here: bool) -> None:
    """Makes the path that a key may hold an absolute one."""
    block, name = key.split(".")
    path = values[block].get(name) if isinstance(values.get(block), dict) else None
    if not isinstance(path, str) or path == IMAGENET:
        return
    if not path:
        # It comes from a shell variable that was never set, and would mean the working directory.
        raise RecipeError([f"{key} is empty; name a {'folder' if key == 'dataset.root' else 'file'}"])
    if not runs_here:
        values[block][name] = _path_in_cluster(key, path)
        return
    if is_remote(path):
        if key == "dataset.root" and (uri := _dataset_uri(path)):
            values[block][name] = uri
            return
        other = "a folder in it, such as s3://BUCKET/FOLDER" if key == "dataset.root" else "a file's path"
        raise RecipeError([f"{key} is {path!r}, which is not read from a bucket; give {other}"])
    # Not Path's: of a user that there is not, that would raise.
    values[block][name] = os.path.abspath(os.path.expanduser(path))
    if key == "model.encoder_weights" and not os.path.isfile(values[block][name]):
        raise RecipeError(
            [f"{key} is {values[block][name]!r}, and there is no such file; give one, {IMAGENET} or null"]
        )


def _path_in_cluster(key: str, path: str) -> str:
    """Returns what a container can read: an absolute path, or a dataset's URI without a slash at its end."""
    if path.startswith("/"):
        return path
    if key == "dataset.root":
        if uri := _dataset_uri(path):
            return uri
        otherwise = ", or a folder of a bucket such as s3://BUCKET/FOLDER, gs:// or minio://"
    else:
        otherwise = "; from a bucket only the dataset is fetched" if is_remote(path) else ""
    raise RecipeError([f"{key} is {path!r}; give the absolute path at which a container finds it{otherwise}"])


def _dataset_uri(path: str) -> str:
    """Returns the URI of a bucket's folder without a slash at its end; empty where it is none."""
    uri = path.rstrip("/")
    return uri if DATASET_URI.fullmatch(uri) else ""


def _digest_of_weights(model: ModelConfig) -> str:
    """Empty where there is none that can be read here: then its name alone tells it apart, to a cache."""
    if model.encoder_weights in (None, IMAGENET) or not os.path.isfile(str(model.encoder_weights)):
        return ""
    return sha256(Path(str(model.encoder_weights)))


def list_recipes() -> dict[str, str]:
    """Returns the named recipes with their descriptions."""
    return {
        path.stem: load_yaml(path.read_text(encoding="utf-8"))["description"]
        for path in sorted(_RECIPES.glob("*.yaml"))
    }


def recipe_path(name_or_path: str) -> Path:
    """Returns the file of a recipe that `list_recipes` knows, or of one that is given by its file.

    Raises:
        RecipeError: there is none.
    """
    if name_or_path.endswith((".yaml", ".yml")):
        path = Path(name_or_path)
        if not os.path.isfile(path):
            problem = _why_no_file(path)
            raise RecipeError([f"recipe {path.absolute()} {problem}; give a YAML file or a recipe's name"])
        return path
    names = [path.stem for path in sorted(_RECIPES.glob("*.yaml"))]
    if name_or_path not in names:
        remedy = suggestion(name_or_path, names)
        raise RecipeError([f"unknown recipe {name_or_path!r}{remedy} (a file's name must end in .yaml)"])
    return _RECIPES / f"{name_or_path}.yaml"


def _why_no_file(path: Path) -> str:
    try:
        path.stat()
    except FileNotFoundError:
        return "does not exist"
    except OSError as error:
        return f"cannot be looked at ({error.strerror})"
    return "is no file"


def _apply(override: str, values: dict[str, Any]) -> None:
    key, equals, text = override.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise RecipeError([f"--set {override}: write it as KEY=VALUE, such as training.epochs=10"])
    if not text.strip():
        # It comes from a shell variable that was never set, and null may ask for less than the recipe does.
        raise RecipeError([f"--set {override}: the value is empty; write null to mean none"])
    try:
        value = _unshared(load_yaml(text))
    except ValueError as error:
        raise RecipeError([f"--set {override}: the value is not YAML: {error}"]) from None
    except RecursionError:
        raise RecipeError([f"--set {override}: an alias stands inside its own anchor"]) from None
    _set(values, parts, value, f"--set {override}")


def _set(values: dict[str, Any], parts: list[str], value: Any, source: str) -> None:
    """Sets a nested key; absent and null blocks come into being on the way."""
    for depth, part in enumerate(parts[:-1], start=1):
        block = values.get(part)
        if block is None:
            block = values[part] = {}
        if not isinstance(block, dict):
            here = ".".join(parts[:depth])
            raise RecipeError([f"{source}: {here} is {shown(block)}, not a block; set {here} itself"])
        values = block
    values[parts[-1]] = value
