"""The recipe's ``kubeflow`` block: what is filled in, and what an impossible one says."""

import pytest

from pipeline.config import load_recipe
from pipeline.kubernetes_types import parse_quantity
from pipeline.recipe_errors import RecipeError


def problem_of(*overrides: str) -> str:
    with pytest.raises(RecipeError) as caught:
        load_recipe("shapes", overrides=[f"kubeflow.{override}" for override in overrides])
    [line] = str(caught.value).splitlines()
    return line


def test_a_stage_says_less_and_less_general_things_last() -> None:
    config = load_recipe(
        "shapes",
        overrides=[
            "kubeflow.defaults={memory_limit: 64Gi, retries: 2}",
            "kubeflow.stages.Trainer={retries: 0, cpu_limit: 16}",
        ],
    ).kubeflow
    trainer, transform = config.stage("Trainer"), config.stage("Transform")
    assert (transform.memory_limit, transform.retries, transform.cpu_limit, transform.gpus) == (
        "64Gi",
        2,
        "2",
        0,
    )
    # The project's own word on the Trainer is more particular than the recipe's on all stages.
    assert (trainer.memory_limit, trainer.retries) == ("32Gi", 0)
    assert (trainer.cpu_limit, trainer.gpus) == ("16", 1)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("stages.Trainer.cpu_limit=4 cores", ("kubeflow.stages.Trainer.cpu_limit", "'4 cores'", "500m")),
        ("stages.Trainr.gpus=1", ("kubeflow.stages.Trainr", "did you mean Trainer?")),
        (
            "stages.Trainer.memory_limit=4Gi",
            ("Trainer", "memory_request is 8Gi", "which is 4Gi"),
        ),
        ("stages.Trainer.gpu_resource=gpu", ("kubeflow.stages.Trainer.gpu_resource", "nvidia.com/gpu")),
        ("stages.Trainer.tolerations=[{key: a, value: b}]", ("tolerations.0", "Exists takes no value")),
        ("stages.Trainer.tolerations=[{operator: Equal}]", ("tolerations.0", "needs a key")),
        ("serving_root=/models", ("kubeflow.serving_root is /models", "/data, /serving")),
        ("checkpoint_dir=/servings", ("kubeflow.checkpoint_dir is /servings", "would be lost")),
        ("shared_dir=/data/u*", ("kubeflow.shared_dir is '/data/u*'", "without * ? [ and")),
        ("shared_dir=/shared", ("kubeflow.shared_dir is /shared", "/data, /serving", "would be lost")),
        (
            "volumes=[{claim: a, mount_path: /serving}, {claim: b, mount_path: /serving}]",
            ("kubeflow.volumes", "at one path"),
        ),
        (
            "volumes=[{claim: a, mount_path: /serving}, {claim: a, mount_path: /data}]",
            ("kubeflow.volumes", "one claim twice"),
        ),
        ("volumes=[{claim: my.claim, mount_path: /serving}]", ("kubeflow.volumes.0.claim", "'my.claim'")),
        *(
            (f"volumes=[{{claim: {name}, mount_path: /serving}}]", (f"'{name}'", "another volume"))
            for name in (
                *("shared-memory", "kfp-launcher", "kfp-launcher-token", "kfp-launcher-config"),
                *("custom-ca", "ca-secret", "argo-env-config"),
            )
        ),
        ("signing_secret=model.signing", ("kubeflow.signing_secret is 'model.signing'", "63 lower-case")),
        (f"signing_secret={'a' * 64}", ("kubeflow.signing_secret", "63 lower-case")),
        (
            "signing_secret=segmentation-data",
            ("kubeflow.signing_secret is segmentation-data", "another name"),
        ),
        ("volumes=[{claim: a, mount_path: serving}]", ("kubeflow.volumes.0.mount_path", "absolute")),
        *(
            (f"volumes=[{{claim: a, mount_path: {path}}}]", ("kubeflow.volumes.0.mount_path", "Argo mounts"))
            for path in (
                *("/s3", "/kfp/certs", "/var/run/secrets/kfp", "/etc/kfp/launcher-config"),
                *("/argo/config", "/var/run/argo"),
            )
        ),
        ("volumes=[{claim: a, mount_path: /serving, sub_path: ../b}]", ("sub_path", "without ..")),
        ("serving_root=/serving/../data", ("kubeflow.serving_root", "without . and ..")),
        ("stages.Trainer.cpu_limit=0", ("kubeflow.stages.Trainer.cpu_limit is 0", "above 0")),
        ("stages.Trainer.cpu_limit=4Gi", ("kubeflow.stages.Trainer.cpu_limit", "no number of CPUs")),
        ("stages.Trainer.memory_limit=64", ("kubeflow.stages.Trainer.memory_limit is 64", "8Gi")),
        ("stages.Trainer.memory_limit=64GB", ("kubeflow.stages.Trainer.memory_limit", "8Gi")),
        ("stages.Trainer.node_selector={a b: c}", ("kubeflow.stages.Trainer.node_selector", "keys such as")),
        ("stages.Trainer.node_selector={a: b c}", ("kubeflow.stages.Trainer.node_selector.a", "value")),
        (
            "stages.Transform.beam_options=[--a]",
            ("Transform.beam_options", "; use beam"),
        ),
        ("secrets=[{secret: a, key: b c, variable: D}]", ("kubeflow.secrets.0.key", "letters, digits")),
        (
            "secrets=[{secret: a, key: b, variable: C}, {secret: d, key: e, variable: C}]",
            ("kubeflow.secrets fills C 2 times",),
        ),
        ("image=''", ("kubeflow.image", "TAG")),
        ("image=a b", ("kubeflow.image is 'a b'", "TAG")),
        ("image=r.example.org/Name", ("kubeflow.image", "lower case")),
        ("service_account=A", ("kubeflow.service_account is 'A'", "lower-case")),
        ("service_account=a..b", ("kubeflow.service_account is 'a..b'", "lower-case")),
    ],
)
def test_an_impossible_value_is_named_with_what_would_be_right(override: str, words: tuple[str, ...]) -> None:
    line = problem_of(override)
    for word in words:
        assert word in line


@pytest.mark.parametrize(
    "image",
    ["seg", "seg:1", "localhost:5000/team/seg_1.x:v1", f"REGISTRY.example.org/a--b@sha256:{'0' * 64}"],
)
def test_an_image_may_have_a_registry_a_tag_and_a_digest(image: str) -> None:
    assert load_recipe("shapes", overrides=[f"kubeflow.image={image!r}"]).kubeflow.image == image


def test_one_mistake_in_all_stages_is_one_line() -> None:
    line = problem_of("defaults.memory_limit=1Gi")
    assert "Transform, Baseline" in line and "Trainer" not in line


@pytest.mark.parametrize(
    ("text", "number"),
    [("2", 2), ("1500m", 1.5), ("0.5", 0.5), ("8Gi", 8 * 2**30), ("8G", 8e9), ("1k", 1000), ("1Ki", 1024)],
)
def test_quantities_are_numbers(text: str, number: float) -> None:
    assert parse_quantity(text) == pytest.approx(number)


@pytest.mark.parametrize("text", ["", "8GB", "8 Gi", "-1", "1e3", "8ki", "Gi"])
def test_anything_else_is_no_quantity(text: str) -> None:
    with pytest.raises(ValueError, match="quantity"):
        parse_quantity(text)
