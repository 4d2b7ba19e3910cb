"""Where a cluster may find its data: which paths and buckets are taken, and which for a single run."""

from typing import Any

import pytest

from pipeline.config import Recipe, load_recipe
from pipeline.kubeflow.client.parameters import parameter_values
from pipeline.recipe_errors import RecipeError

BUCKET = "s3://datasets/pets"


def recipe_of(data: str, *overrides: str) -> Recipe:
    return load_recipe("pets_unet", data, overrides, runs_here=False)


def values(data: str, *assignments: str) -> dict[str, Any]:
    """What `parameter_values` makes of a command with this ``--data``."""

    def load(more: list[str]) -> Recipe:
        replaced = any(override.startswith("dataset.root=") for override in more)
        return load_recipe("pets_unet", None if replaced else data, more, runs_here=False)

    return parameter_values(assignments, load)


@pytest.mark.parametrize("data", [BUCKET, "gs://b/a/b.c", "minio://mlpipeline/pets", "s3://b/.hidden/..a"])
def test_a_folder_of_a_bucket_is_taken_with_or_without_a_slash_at_its_end(data: str) -> None:
    assert recipe_of(data).dataset.root == recipe_of(f"{data}/").dataset.root == data


@pytest.mark.parametrize(
    "data",
    [
        "s3://datasets",
        "s3://datasets/",
        "s3:///pets",
        "s3://b/pets?region=x",
        "s3://b/../pets",
        "s3://b/pets/.",
        "s3://b/a%20b",
        "s3://b//pets",
        "s3://b/my pets",
        "http://b/pets",
    ],
)
def test_what_no_launcher_could_fetch_is_one_line(data: str) -> None:
    with pytest.raises(RecipeError, match=r"\Adataset.root is .*s3://BUCKET/FOLDER.*\Z"):
        recipe_of(data)


def test_weights_from_a_bucket_are_refused() -> None:
    with pytest.raises(RecipeError) as refusal:
        recipe_of(BUCKET, "model={encoder: mobilenetv2, encoder_weights: 's3://b/weights.h5'}")
    assert str(refusal.value) == (
        "model.encoder_weights is 's3://b/weights.h5'; give the absolute path at which a container finds it; "
        "from a bucket only the dataset is fetched"
    )


def test_a_run_on_this_machine_reads_a_folder_of_a_bucket_and_nothing_else_from_there() -> None:
    assert load_recipe("pets_unet", f"{BUCKET}/").dataset.root == BUCKET
    with pytest.raises(RecipeError, match=r"\Adataset.root is 's3://datasets', .*s3://BUCKET/FOLDER\Z"):
        load_recipe("pets_unet", "s3://datasets")
    with pytest.raises(RecipeError, match=r"\Amodel.encoder_weights is 's3://b/w', .* give a file's path\Z"):
        load_recipe("pets_unet", BUCKET, ["model={encoder: mobilenetv2, encoder_weights: 's3://b/w'}"])


def test_a_run_may_read_another_bucket_or_another_folder() -> None:
    assert values(BUCKET, "data_path=gs://others/cats/") == {"data_path": "gs://others/cats"}
    assert values("/data/pets", "data_path=/data/cats") == {"data_path": "/data/cats"}


def test_a_stage_that_reads_the_bucket_itself_reads_a_volume_as_well() -> None:
    def load(more: list[str]) -> Recipe:
        data = None if any(override.startswith("dataset.root=") for override in more) else BUCKET
        return load_recipe("pets_unet", data, ["kubeflow.copy_bucket=false", *more], runs_here=False)

    assert parameter_values(["data_path=/data/pets"], load) == {"data_path": "/data/pets"}


@pytest.mark.parametrize(
    ("compiled", "given", "kind"),
    [(BUCKET, "/data/pets", "bucket"), ("/data/pets", BUCKET, "folder of a volume")],
)
def test_a_run_cannot_change_from_bucket_to_volume_or_back(compiled: str, given: str, kind: str) -> None:
    with pytest.raises(RecipeError) as refusal:
        values(compiled, f"data_path={given}", "epochs=3")
    assert str(refusal.value) == (
        f"--param data_path={given}: the pipeline is compiled to read a {kind}, {compiled}; "
        f"with --data {given} it is compiled to read this"
    )
