"""Recipes: what loads, and what an impossible one says."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import get_args

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from components.trainer.config import TrainerSettings
from pipeline.config import Recipe, list_recipes, load_recipe
from pipeline.kubeflow_config import StageName
from pipeline.recipe_errors import MOVED, RecipeError, all_keys
from pipeline.recipe_yaml import load_yaml


def problems_of(*overrides: str, recipe: str = "shapes", data: str | None = None) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        load_recipe(recipe, data, overrides)
    return str(caught.value).splitlines()


def test_every_named_recipe_loads_and_says_what_it_is(tmp_path: Path) -> None:
    recipes = list_recipes()
    assert {"shapes", "pets_unet", "pets_mobilenetv2", "kitti_unet", "ccp_densenet121"} <= set(recipes)
    # Clothing Co-Parsing keeps its class names beside its images.
    (tmp_path / "labels.txt").write_text("null\nbelt\n")
    for name, description in recipes.items():
        data = None if name == "shapes" else str(tmp_path)
        recipe = load_recipe(name, data)
        assert recipe.name == name
        assert description
        assert recipe.description == description


def test_pets_unet_is_the_tutorial() -> None:
    recipe = load_recipe("pets_unet", "/pets")
    assert (recipe.transform.height, recipe.transform.width) == (256, 256)
    assert (recipe.model.filters, recipe.model.depth, recipe.model.dropout) == (32, 5, 0.2)
    assert (recipe.training.batch_size, recipe.training.epochs) == (16, 30)
    assert recipe.training.early_stopping_patience == 5
    assert recipe.dataset.root == "/pets"
    assert recipe.evaluation.slices == ("species",)


def test_with_a_list_of_filters_the_remedy_is_fewer_levels() -> None:
    [problem] = problems_of("model.filters=[8, 16, 32]", "model.depth=null", "transform.height=66")
    assert "the stride of the 3 levels of model.filters; use 64, or fewer levels" in problem


def test_a_strided_stem_counts_as_a_halving() -> None:
    [problem] = problems_of("model.depth=4", "model.strided_stem=true", "transform.height=104")
    assert "not a multiple of 16, the stride of model.depth 4 after a strided_stem; use 96," in problem


def test_pictures_that_could_not_be_packed_at_their_own_size_are_refused() -> None:
    windows = ("transform.resize=native", "transform.scale=4")
    [problem] = problems_of(*windows)
    assert problem.endswith(
        "a picture of serving.max_pixels 50000000 would take 2.40 GB at transform.scale 4 in 3 channels, "
        "more than the 2 GB that TensorFlow packs; take a smaller transform.scale, or lower "
        "serving.max_pixels and dataset.max_pixels to what your pictures have"
    )
    lower = ("serving.max_pixels=41000000", "dataset.max_pixels=41000000")
    assert load_recipe("shapes", overrides=[*windows, *lower])
    [problem] = problems_of(*windows, *lower, "transform.channels=4")
    assert "would take 2.62 GB at transform.scale 4 in 4 channels" in problem
    [problem] = problems_of("transform.resize=native", f"transform.channels={[*range(1, 51)]}")
    assert "would take 2.50 GB at transform.scale 1 in 50 channels" in problem


def test_of_a_list_that_is_too_short_the_missing_item_is_named() -> None:
    assert problems_of("augmentation.scale_crop=[0.5]") == [
        "augmentation.scale_crop is [0.5]: item 2 is missing"
    ]


def test_a_name_is_as_long_as_a_pipeline_s_may_be() -> None:
    assert load_recipe("shapes", overrides=["name=" + 63 * "a"]).name == 63 * "a"
    [problem] = problems_of("name=" + 64 * "a")
    assert problem.endswith(": it should have at most 63 characters")


def test_set_reads_yaml_and_the_last_one_wins() -> None:
    recipe = load_recipe(
        "shapes",
        overrides=[
            "training.epochs=3",
            "training.epochs=4",
            "training.learning_rate=1e-4",
            "training.early_stopping_patience=null",
            "evaluation.min_class_iou.disc=0.4",
            "evaluation.min_class_iou={square: 0.5}",
            "beam.options=[--a=b]",
        ],
    )
    assert recipe.training.epochs == 4
    assert recipe.training.learning_rate == 1e-4
    assert recipe.training.early_stopping_patience is None
    assert recipe.evaluation.min_class_iou == {"square": 0.5}
    assert recipe.beam.options == ("--a=b",)


def test_set_changes_the_block_it_names_and_none_that_an_alias_makes_the_same(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(
        "dataset: {layout: shapes}\nkubeflow:\n  stages:\n    Trainer: &large {memory_limit: 8Gi}\n"
        "    Evaluator: *large\n    Transform: *large\n"
    )
    stages = load_recipe(str(file), overrides=["kubeflow.stages.Trainer.memory_limit=16Gi"]).kubeflow.stages
    assert {name: stage.memory_limit for name, stage in stages.items()} == {
        "Trainer": "16Gi",
        "Evaluator": "8Gi",
        "Transform": "8Gi",
    }
    # Nor is a mistake in it told of a block that was not touched.
    [problem] = problems_of("kubeflow.stages.Trainer.memory_limt=1", recipe=str(file))
    assert problem.startswith("unknown key kubeflow.stages.Trainer.memory_limt ")


@pytest.mark.parametrize("block", ["", "beam:\n", "beam: null\n", "beam: {}\n"])
def test_set_reaches_into_a_block_that_is_absent_or_null(tmp_path: Path, block: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(f"dataset: {{layout: shapes}}\n{block}")
    recipe = load_recipe(str(file), overrides=["beam.workers=2", "model.depth=3"])
    assert recipe.beam.workers == 2
    assert recipe.model.depth == 3
    assert recipe.name == "mine"


def test_a_relative_root_counts_from_the_current_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "recipes"
    elsewhere.mkdir()
    (elsewhere / "mine.yaml").write_text("dataset: {layout: kitti_semantics, root: data/x}\n")
    monkeypatch.chdir(tmp_path)
    assert load_recipe("recipes/mine.yaml").dataset.root == str(tmp_path / "data" / "x")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ("transform.heigth=64", "unknown key transform.heigth (value 64); did you mean transform.height?"),
        ("epochs=64", "unknown key epochs (value 64); did you mean training.epochs?"),
        ("trainig.epochs=3", "unknown key trainig (value {'epochs': 3}); did you mean training?"),
        (
            "dataset.splits.vall=0.1",
            "unknown key dataset.splits.vall (value 0.1); did you mean dataset.splits.val?",
        ),
        (
            "beam.zzz=1",
            "unknown key beam.zzz (value 1); beam has runner, workers, job_endpoint, flink_master, "
            "environment_type, environment_config, project, region, temp_location, options",
        ),
        ("transform.height=tall", "transform.height is 'tall': it should be a valid integer"),
        ("training.epochs=1.5", "training.epochs is 1.5: it should be a valid integer"),
        ("training.epochs='3'", "training.epochs is '3': it should be a valid integer"),
        ("training.epochs=true", "training.epochs is true: it should be a valid integer"),
        ("training.epochs=null", "training.epochs is null: it should be a valid integer"),
        ("training.epochs=0", "training.epochs is 0: it should be greater than or equal to 1"),
        (
            "training.learning_rate=.nan",
            "training.learning_rate is '.nan': it should be a number, and finite",
        ),
        ("evaluation.min_mean_iou=75", "evaluation.min_mean_iou is 75: it should be less than or equal to 1"),
        ("transform.resize=strech", "transform.resize is 'strech'; did you mean stretch?"),
        ("transform.resize=zzz", "transform.resize is 'zzz'; there is stretch, letterbox, native"),
        (
            "transform.overlap=0.25",
            "transform.overlap is 0.25, but transform.resize is stretch; it belongs to native",
        ),
        (
            "training.windows_per_epoch=9",
            "training.windows_per_epoch is 9, but transform.resize is stretch, which shows pictures in one "
            "piece; leave it out, or set transform.resize to native",
        ),
        ("training=3", "training is 3: it should be a block of keys"),
        ("dataset=null", "dataset is null: it should be a block of keys"),
        ("dataset.classes=disc", "dataset.classes is 'disc': it should be a list"),
        (
            "dataset.ignore_label=x",
            "dataset.ignore_label is 'x': it should be a valid integer, or should be a list",
        ),
        (
            "training.epochs=9 training.epochs.x=3",
            "--set training.epochs.x=3: training.epochs is 9, not a block; set training.epochs itself",
        ),
        (
            "evaluation.max_regression=",
            "--set evaluation.max_regression=: the value is empty; write null to mean none",
        ),
        ("dataset.root=", "--set dataset.root=: the value is empty; write null to mean none"),
        (
            "beam.runner=[X]",
            "beam.runner is ['X']; there is FnApiRunner, PortableRunner, FlinkRunner, SparkRunner, "
            "DataflowRunner",
        ),
        (
            'beam.runner={"name":"FlinkRunner"}',
            "beam.runner is {'name': 'FlinkRunner'}; did you mean FlinkRunner?",
        ),
        (
            "kubeflow.stages.Trainer.memory_limt=8Gi",
            "unknown key kubeflow.stages.Trainer.memory_limt (value '8Gi'); did you mean "
            "kubeflow.stages.Trainer.memory_limit?",
        ),
        (
            'kubeflow.stages.Trainer.tolerations=[{"efect":"NoSchedule"}]',
            "unknown key kubeflow.stages.Trainer.tolerations.0.efect (value 'NoSchedule'); did you mean "
            "kubeflow.stages.Trainer.tolerations.0.effect?",
        ),
        (
            'kubeflow.volumes=[{"claim":"data","mount_path":"/data","zzz":1}]',
            "unknown key kubeflow.volumes.0.zzz (value 1); kubeflow.volumes.0 has claim, mount_path, "
            "sub_path",
        ),
        (
            'kubeflow.volumes=[{"claim":"data"}]',
            "kubeflow.volumes.0.mount_path is missing; add it to the recipe",
        ),
        ("training", "--set training: write it as KEY=VALUE, such as training.epochs=10"),
        ("=3", "--set =3: write it as KEY=VALUE, such as training.epochs=10"),
        ("training..epochs=3", "--set training..epochs=3: write it as KEY=VALUE, such as training.epochs=10"),
        (
            "training.loss.focal.gama=1",
            "unknown key training.loss.focal.gama (value 1); did you mean training.loss.focal.gamma?",
        ),
        (
            "training.loss.dise=1",
            "unknown key training.loss.dise (value 1); did you mean training.loss.dice?",
        ),
        (
            "training.loss.focal.gamma=-1",
            "training.loss.focal.gamma is -1: it should be greater than or equal to 0",
        ),
        ("training.loss.dice=0", "training.loss.dice is 0: it should be greater than 0"),
        ("training.loss.dice=x", "training.loss.dice is 'x': it should be a number, and finite"),
        (
            "training.loss={}",
            "training.loss is empty; give at least one a weight: cross_entropy, dice, focal, tversky, lovasz",
        ),
        (
            "training.machines=2",
            "unknown key training.machines (value 2); use kubeflow.stages.Trainer.machines (several machines "
            "train together on Kubeflow alone, where an operator starts them)",
        ),
        (
            "training.focal_gamma=1",
            "unknown key training.focal_gamma (value 1); use training.loss.focal.gamma (a loss has its own "
            "parameters)",
        ),
        (
            "augmentation.variants=[]",
            "unknown key augmentation.variants (value []); use augmentation (changes are drawn at random, "
            "under its other keys)",
        ),
        (
            "model.average_scales=[1.25]",
            "unknown key model.average_scales (value [1.25]); use model.test_time_augmentation.scales",
        ),
        (
            "evaluation.slices=[species]",
            "evaluation.slices names 'species', unknown to layout shapes; remove it (its attributes: none)",
        ),
        (
            "training.early_stopping_patience=4 dataset.splits.val=0",
            "training.early_stopping_patience is 4, but dataset.splits.val is 0 and leaves it nothing "
            "to watch; give val a share such as 0.1, or set the patience to null",
        ),
        ("serving.max_batch_size=8", "serving.max_batch_size is 8: it should be greater than or equal to 32"),
        (
            "serving.check_exmples=8",
            "unknown key serving.check_exmples (value 8); did you mean serving.check_examples?",
        ),
        (
            "serving.max_pixels=1000000",
            "serving.max_pixels is 1000000, but dataset.max_pixels is 50000000: the model would refuse what "
            "it is evaluated on; raise the one or lower the other",
        ),
        (
            "model.depth=4 transform.height=100",
            "transform.height is 100, not a multiple of 8, the stride of model.depth 4; "
            "use 96, or a smaller model.depth",
        ),
        (
            "model.depth=4 transform.width=3",
            "transform.width is 3, not a multiple of 8, the stride of model.depth 4; "
            "use 8, or a smaller model.depth",
        ),
    ],
)
def test_a_mistake_is_one_line_with_key_value_and_remedy(overrides: str, message: str) -> None:
    assert problems_of(*overrides.split()) == [message]


def test_a_threshold_for_a_class_that_does_not_exist_names_those_that_do() -> None:
    [problem] = problems_of("evaluation.min_class_iou.cat=0.5")
    assert "evaluation.min_class_iou" in problem
    assert "'cat'" in problem
    assert "disc" in problem


def test_a_threshold_for_a_slice_needs_the_slice() -> None:
    [problem] = problems_of("evaluation.min_slice_iou.species.cat=0.5")
    assert "evaluation.min_slice_iou" in problem
    assert "'species'" in problem


def test_a_dataset_recipe_without_its_folder_says_how_to_name_it() -> None:
    [problem] = problems_of(recipe="pets_unet")
    assert "dataset.root" in problem
    assert "--data" in problem


def test_a_pattern_that_cannot_be_read_is_a_mistake() -> None:
    [line] = problems_of("dataset.images=i/[z-a].jpg", recipe="camvid_best", data="/camvid")
    assert line == ("dataset.images is 'i/[z-a].jpg': the pattern cannot be read: bad character range z-a")


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ("", "dataset.root is empty; name a folder"),
        ("/data/caf\udce9", "dataset.root is '/data/caf\\udce9', which is not UTF-8; rename what it names"),
    ],
)
def test_a_folder_that_cannot_be_named_is_a_mistake(data: str, problem: str) -> None:
    [line] = problems_of(recipe="pets_unet", data=data)
    assert line.startswith(problem)


def test_the_home_of_a_user_that_there_is_not_is_a_folder_like_any_other() -> None:
    assert load_recipe("pets_unet", "~nobody-of-this-name/pets").dataset.root.endswith("name/pets")  # type: ignore[union-attr]


def test_all_problems_are_told_at_once() -> None:
    problems = problems_of("transform.height=1.5", "epochs=3", "model.depth=99", "transform.resize=x")
    assert len(problems) == 4


def test_all_contradictions_are_told_at_once() -> None:
    assert len(problems_of("transform.height=100", "transform.width=100", "dataset.splits.val=0")) == 3


def test_data_for_the_drawn_shapes_is_a_mistake() -> None:
    assert problems_of(data="mine") == [
        "layout shapes draws its own data; for your own folder set dataset.layout to folder"
    ]


def test_an_unknown_recipe_suggests_the_nearest() -> None:
    [problem] = problems_of(recipe="pets_unt")
    assert problem.startswith("unknown recipe 'pets_unt'; did you mean pets_unet?")
    [problem] = problems_of(recipe="zzzzzz")
    assert "pets_unet, shapes" in problem


def test_a_recipe_file_that_is_absent_says_where_it_was_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert problems_of(recipe="mine.yaml") == [
        f"recipe {tmp_path / 'mine.yaml'} does not exist; give a YAML file or a recipe's name"
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: [1", "line 1, column 6"),
        ("a: 1\na: 2\n", "line 2, column 1: key a is given twice; keep one"),
        ("{1: 2}", "line 1, column 2: key 1 is not a word; put it in quotes"),
        ("dataset: {layout: shapes}\n  training: x", "line 2"),
        ("- a\n- b\n", "must hold keys"),
        ("", "must hold keys"),
        ("a: !!python/object/apply:os.getcwd []", "could not determine a constructor"),
        ("a: \x00", "special characters"),
    ],
)
def test_a_file_that_is_no_recipe_says_where_it_goes_wrong(tmp_path: Path, text: str, expected: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    [problem] = problems_of(recipe=str(file))
    assert str(file) in problem
    assert expected in problem


@pytest.mark.parametrize(
    ("text", "said"),
    [("training: &x\n  epochs: *x\n", "alias"), ("training: " + "[" * 3000, "nested too deeply")],
)
def test_a_recipe_without_an_end_is_no_recipe(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "endless.yaml"
    file.write_text(text)
    [problem] = problems_of(recipe=str(file))
    assert str(file) in problem and said in problem


def test_a_value_without_an_end_is_no_value() -> None:
    with pytest.raises(RecipeError, match=r"^--set .*: an alias stands inside its own anchor$"):
        load_recipe("shapes", overrides=["training=&x {a: *x}"])


def test_a_file_that_is_not_text_says_so(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_bytes(b"\xff\xfe\xfa")
    [problem] = problems_of(recipe=str(file))
    assert str(file) in problem


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("1.5E+2", 150.0),
        (".5", 0.5),
        ("-7", -7),
        ("010", "010"),
        ("no", "no"),
        ("on", "on"),
        ("1:30", "1:30"),
        ("2026-01-01", "2026-01-01"),
        ("true", True),
        ("null", None),
        ("~", None),
        ("", None),
        ("'3'", "3"),
        ("[1, a, {b: .5}]", [1, "a", {"b": 0.5}]),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text: str, value: object) -> None:
    loaded = load_yaml(text)
    assert loaded == value
    assert type(loaded) is type(value)


_TEXT = st.text("az09 .:-#&*!|>%@`'{}[],?é—\"")
_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**9), 10**9)
    | st.floats(allow_nan=False, allow_infinity=False)
    | _TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3),
    max_leaves=8,
)


@given(_JSON)
def test_json_is_read_as_json(value: object) -> None:
    assert load_yaml(json.dumps(value)) == value


@given(st.dictionaries(_TEXT, _JSON, max_size=4))
def test_no_content_of_a_recipe_file_ends_in_anything_but_words(values: dict[str, object]) -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump(values, file)
        file.flush()
        with pytest.raises(RecipeError):
            load_recipe(file.name)


def test_a_recipe_survives_json() -> None:
    recipe = load_recipe("shapes")
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe


def test_recipes_and_help_need_neither_tensorflow_nor_kubeflow() -> None:
    code = (
        "import sys; sys.argv[1:] = ['--list-recipes'];"
        "from pipeline.run_local import main; main();"
        "heavy = {'tensorflow', 'tfx', 'apache_beam', 'keras', 'numpy', 'PIL', 'scipy', 'grpc'};"
        "heavy = (heavy | {'pipeline.kubeflow'}) & set(sys.modules);"
        "import pipeline.report, pipeline.local.run_page;"
        "heavy |= {'tensorflow', 'tfx'} & set(sys.modules);"
        "sys.exit(', '.join(heavy) or None)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "shapes" in result.stdout


def test_a_weights_file_is_found_from_the_current_directory_and_its_content_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = Path("encoder.weights.h5")

    def settings() -> TrainerSettings:
        overrides = [f"model.encoder_weights={file}"]
        return load_recipe("pets_mobilenetv2", str(tmp_path), overrides).trainer_settings()

    file.write_bytes(b"once")
    first = settings()
    assert first.model.encoder_weights == str(tmp_path / file)
    file.write_bytes(b"anew")
    assert settings().encoder_digest != first.encoder_digest
    file.unlink()
    with pytest.raises(
        RecipeError, match=r"model\.encoder_weights is .*, and there is no such file; give one"
    ):
        settings()


@pytest.mark.parametrize(
    ("overrides", "normalization"),
    [
        ((), "unit"),
        (("model.encoder=MobileNetV2",), "unit"),
        (("model.encoder=MobileNetV2", "model.encoder_weights=imagenet"), "signed"),
        (("model.encoder=DenseNet121", "model.encoder_weights=imagenet"), "imagenet"),
        (
            ("model.encoder=DenseNet121", "model.encoder_weights=imagenet", "transform.normalization=unit"),
            "unit",
        ),
    ],
)
def test_a_pretrained_encoder_sees_the_pixels_it_was_trained_with(
    overrides: tuple[str, ...], normalization: str
) -> None:
    recipe = load_recipe("pets_unet", "/somewhere", ["model.depth=null", *overrides])
    assert recipe.normalized_transform().normalization == normalization


@pytest.mark.parametrize("old", MOVED)
def test_a_key_that_moved_is_gone_and_its_successor_exists(old: str) -> None:
    keys = set(all_keys(Recipe))
    successor, _ = MOVED[old]
    assert old not in keys and successor.replace(".stages.Trainer.", ".stages.") in keys


@pytest.mark.parametrize("stage", get_args(StageName))
def test_beam_options_of_every_stage_have_moved_to_beam(stage: str) -> None:
    [problem] = problems_of(f"kubeflow.stages.{stage}.beam_options=[]")
    assert "; use beam (one engine for all stages" in problem
