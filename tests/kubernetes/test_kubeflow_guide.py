"""What docs/kubeflow.md says is what the commands, the manifests and the image are."""

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from documented import DOCS, REPOSITORY, blocks, shell_lines, words
from manifests import SERVING

from pipeline.config import load_recipe
from pipeline.kubeflow.client import options
from pipeline.kubeflow.client.parameters import PARAMETER_KEYS
from pipeline.kubeflow.client.submit import account_warning
from pipeline.kubeflow_config import MODEL_PUSHED, KubeflowConfig

PIPELINE = REPOSITORY / "kubernetes" / "pipeline"
PAGE = DOCS / "kubeflow.md"
GUIDE = PAGE.read_text()
SHELL = "\n".join(blocks(PAGE, "sh"))


def commands(name: str) -> Iterator[list[str]]:
    """Arguments of each command with a name."""
    for line in shell_lines(PAGE):
        if line.startswith(name):
            yield words(line.removeprefix(name))


def submissions() -> list[list[str]]:
    return [argv for argv in commands("python -m pipeline.run_kubeflow") if argv[-1] != "--help"]


@pytest.mark.parametrize("argv", submissions(), ids=lambda argv: argv[0])
def test_commands_are_what_run_kubeflow_understands(argv: list[str]) -> None:
    args = options.parse(None, argv)
    if args.command != "wait":
        recipe = load_recipe(args.recipe, args.data, args.set, runs_here=False)
        assert recipe.dataset.root is None or recipe.dataset.root.startswith("/data/")


def test_every_command_is_shown() -> None:
    assert {argv[0] for argv in submissions()} == {"compile", "submit", "wait"}


def test_a_first_run_needs_neither_data_nor_gpu_and_is_what_the_server_serves() -> None:
    args = options.parse(None, submissions()[0])
    recipe = load_recipe(args.recipe, args.data, args.set, runs_here=False)
    assert recipe.dataset.root is None
    assert recipe.kubeflow.stage("Trainer").gpus == 0
    models = (SERVING / "base/models.config").read_text()
    assert f'name: "{recipe.serving.model_name}"' in models


def test_the_kubernetes_parts_of_a_recipe_are_valid(tmp_path: Path) -> None:
    shapes = yaml.safe_load((REPOSITORY / "pipeline/recipes/shapes.yaml").read_text())
    path = tmp_path / "shapes.yaml"
    read = []
    for text in blocks(PAGE, "yaml"):
        path.write_text(yaml.safe_dump(shapes | yaml.safe_load(text)))
        read.append(load_recipe(str(path), runs_here=False).kubeflow)
    in_place, with_gpus = read
    assert not in_place.copy_bucket and in_place.secrets[0].variable == "AWS_ACCESS_KEY_ID"
    assert with_gpus.stage("Trainer").gpus == 2


def test_parameters_and_the_last_task_have_the_names_that_the_guide_gives_them() -> None:
    listed = re.search(r"\*\*`--param`\*\* sets (.*?) for one run", GUIDE, flags=re.DOTALL)
    assert listed and set(re.findall(r"`(\w+)`", listed[1])) == PARAMETER_KEYS.keys()
    assert f"`{MODEL_PUSHED}`" in GUIDE


def test_claims_paths_and_account_are_the_recipes_defaults() -> None:
    config = KubeflowConfig()
    for volume in config.volumes:
        assert f"`{volume.claim}` at `{volume.mount_path}`" in " ".join(GUIDE.split())
    assert f"`{config.service_account}`" in GUIDE


def test_kubectl_applies_only_what_is_there() -> None:
    applied = re.findall(r"kubectl (?:apply|delete) -k (kubernetes/\S+)", SHELL)
    assert len(applied) >= 5
    assert [path for path in applied if not (REPOSITORY / path / "kustomization.yaml").is_file()] == []


def test_every_file_and_folder_named_is_there() -> None:
    named = set(re.findall(r"`((?:base|object-store|overlays|storage)/[\w-][\w/.-]*)`", GUIDE))
    assert len(named) > 5
    both = (PIPELINE, SERVING)
    assert [path for path in named if not any((place / path).exists() for place in both)] == []
    assert [
        path
        for path in re.findall(r"`((?:pipeline|docs)/[\w/]+\.\w+)`", GUIDE)
        if not (REPOSITORY / path).exists()
    ] == []


def test_versions_are_those_installed() -> None:
    assert f"kfp {version('kfp')}" in GUIDE
    assert f"TFX {version('tfx').removesuffix('.0')} " in GUIDE


def test_the_backend_that_is_installed_runs_recurring_runs_as_they_ask() -> None:
    [release] = re.findall(r"PIPELINE_VERSION=(\S+)", SHELL)
    assert account_warning(release, KubeflowConfig().service_account) is None


def test_newer_backends_are_told_of_the_account_of_runs() -> None:
    [allowed] = re.findall(r"ALLOWEDSERVICEACCOUNTS=(\S+)", SHELL)
    assert allowed == KubeflowConfig().service_account
    [binding] = commands("kubectl -n segmentation-pipeline create rolebinding submitters")
    role = yaml.safe_load((PIPELINE / "overlays/production/submitter.yaml").read_text())
    assert f"--role={role['metadata']['name']}" in binding


def test_istio_leaves_the_pod_for_uploads_alone() -> None:
    [options] = re.findall(r"^kubectl -n NAMESPACE run upload (.*) --overrides=", SHELL, flags=re.MULTILINE)
    assert "--labels=sidecar.istio.io/inject=false" in options.split()


def test_workflows_are_deleted_before_the_claims_that_their_pods_hold() -> None:
    before, _, _ = SHELL.partition("kubectl delete -k kubernetes/pipeline/storage/")
    assert f'serviceAccountName=="{KubeflowConfig().service_account}"' in before
    assert "delete workflow " in before


@pytest.mark.parametrize("asks", ["docker buildx imagetools inspect", "skopeo inspect"])
def test_the_digests_are_filled_in_by_the_command_shown(tmp_path: Path, asks: str) -> None:
    [loop] = re.findall(r"^for image in .*?^done$", SHELL, flags=re.MULTILINE | re.DOTALL)
    [skopeo] = re.findall(r"`(digest=\$\(skopeo [^`]*)`", GUIDE)
    if asks.startswith("skopeo"):
        loop = re.sub(r"digest=.*", lambda _: skopeo, loop)
    assert asks in loop
    program = tmp_path / asks.split()[0]
    # The name is the only argument without a dash or a brace that has a colon.
    program.write_text(
        '#!/bin/sh\nfor each; do case "$each" in *[{]*) ;; *:*) name=${each#docker://};; esac; done\n'
    )
    with program.open("a") as script:
        script.write("echo sha256:$(printf %s $name | sha256sum | cut -d ' ' -f 1)\n")
    program.chmod(0o755)
    shutil.copy(REPOSITORY / "Dockerfile", tmp_path)
    variables = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    subprocess.run(["bash", "-euc", loop], cwd=tmp_path, env=variables, check=True)
    filled = (tmp_path / "Dockerfile").read_text()
    images = re.findall(r"^ARG \w+_IMAGE=(\S+)@sha256:(\S+)$", filled, flags=re.MULTILINE)
    assert len(images) == 4
    assert dict(images) == {name: hashlib.sha256(name.encode()).hexdigest() for name, _ in images}


def test_all_base_images_can_be_others() -> None:
    images = re.findall(r"^ARG (\w+_IMAGE)=", (REPOSITORY / "Dockerfile").read_text(), flags=re.MULTILINE)
    given = f'BASE_IMAGES="{" ".join(f"{image}=…" for image in images)}"'
    assert given in GUIDE
    assert given in (REPOSITORY / "Makefile").read_text().replace("\n# ", " ")


def test_the_secret_has_the_keys_that_the_launcher_looks_for() -> None:
    [arguments] = commands("kubectl -n segmentation-pipeline create secret generic")
    config = yaml.safe_load((PIPELINE / "object-store/launcher-config.yaml").read_text())
    reference = yaml.safe_load(config["data"]["providers"])["s3"]["default"]["credentials"]["secretRef"]
    assert arguments[0] == reference["secretName"]
    keys = {argument.removeprefix("--from-file=").split("=")[0] for argument in arguments[1:]}
    assert keys == {reference["accessKeyKey"], reference["secretKeyKey"]}
