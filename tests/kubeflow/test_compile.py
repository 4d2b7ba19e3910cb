"""Every recipe compiles into a package that kfp's own protos and client take."""

import json
from pathlib import Path
from typing import get_args

import pytest
import yaml
from google.protobuf import json_format
from kfp import components
from kfp.kubernetes.kubernetes_executor_config_pb2 import KubernetesExecutorConfig
from kfp.pipeline_spec.pipeline_spec_pb2 import PipelineDeploymentConfig, PipelineSpec, PlatformSpec
from spec_rules import violations

from components.files import sha256
from pipeline.config import Recipe, list_recipes, load_recipe
from pipeline.kubeflow.entrypoint import unpack_options
from pipeline.kubeflow.spec.caching import DATA_TASK, SERVED_TASK
from pipeline.kubeflow.spec.compile import beam_options, compile_pipeline, pipeline_name
from pipeline.kubeflow.spec.machines import worker_pod
from pipeline.kubeflow.spec.package import Package
from pipeline.kubeflow_config import StageName
from pipeline.recipe_errors import RecipeError

IMAGE = f"segmentation@sha256:{64 * '1'}"
ROOT = "s3://bucket/root"


def recipe_of(name: str, *overrides: str) -> Recipe:
    data = None if name == "shapes" else "/data/x"
    return load_recipe(name, data, overrides, runs_here=False)


def compiled(recipe: Recipe) -> Package:
    return compile_pipeline(recipe, image=IMAGE, pipeline_root=ROOT)


@pytest.fixture(scope="module")
def packages() -> dict[str, Package]:
    return {name: compiled(recipe_of(name)) for name in list_recipes()}


@pytest.fixture(scope="module")
def shapes(packages: dict[str, Package]) -> PipelineSpec:
    return packages["shapes"].spec


def container_of(spec: PipelineSpec, stage: str) -> PipelineDeploymentConfig.PipelineContainerSpec:
    deployment = json_format.ParseDict(
        json_format.MessageToDict(spec.deployment_spec), PipelineDeploymentConfig()
    )
    return deployment.executors[spec.components[stage].executor_label].container


def container_args(spec: PipelineSpec, stage: str) -> list[str]:
    return list(container_of(spec, stage).args)


def options_of(package: Package, stage: str) -> list[str]:
    """What a variable that shows an annotation of the pod adds to these."""
    executors = package.platform.platforms["kubernetes"].deployment_spec.executors
    config = json_format.ParseDict(
        json_format.MessageToDict(executors[package.spec.components[stage].executor_label]),
        KubernetesExecutorConfig(),
    )
    if not config.field_path_as_env:
        return []
    [variable] = config.field_path_as_env
    [(key, value)] = config.pod_metadata.annotations.items()
    assert (variable.name, variable.field_path) == ("STAGE_OPTIONS", f"metadata.annotations['{key}']")
    return unpack_options(value)


def stages_with(option: str, package: Package) -> set[str]:
    """The stages that have an option that begins so."""
    return {
        name
        for name in package.spec.components
        if any(each.startswith(option) for each in options_of(package, name))
    }


@pytest.mark.parametrize("name", list_recipes())
def test_every_recipe_keeps_the_rules_of_the_backend(packages: dict[str, Package], name: str) -> None:
    assert violations(packages[name].spec, recipe_of(name).kubeflow) == []


@pytest.mark.parametrize("name", list_recipes())
def test_both_documents_are_read_back_as_they_were(packages: dict[str, Package], name: str) -> None:
    package = packages[name]
    pipeline, platform = yaml.load_all(package.to_yaml(), yaml.CSafeLoader)
    assert json_format.ParseDict(pipeline, PipelineSpec()) == package.spec
    assert json_format.ParseDict(platform, PlatformSpec()) == package.platform


def test_kfps_client_reads_the_file(packages: dict[str, Package], tmp_path: Path) -> None:
    packages["pets_unet"].write(tmp_path / "pipeline.yaml")
    loaded = components.load_component_from_file(str(tmp_path / "pipeline.yaml"))
    assert loaded.pipeline_spec == packages["pets_unet"].spec
    assert loaded.platform_spec == packages["pets_unet"].platform
    assert {name: (given.type, given.default) for name, given in loaded.component_spec.inputs.items()} == {
        "data_path": ("String", "/data/x"),
        "epochs": ("Integer", 30),
        "learning_rate": ("Float", 0.001),
        "min_mean_iou": ("Float", 0.6),
        "serving_dir": ("String", "/serving/pets"),
    }


def test_what_a_run_may_change_stands_in_a_package_once() -> None:
    given = {
        "dataset.root": "/data/of-this-run",
        "training.epochs": 7919,
        "training.learning_rate": 0.00271828,
        "evaluation.min_mean_iou": 0.161803,
    }
    recipe = load_recipe(
        "pets_unet", overrides=[f"{key}={value}" for key, value in given.items()], runs_here=False
    )
    text = compiled(recipe).to_yaml()
    assert {value: text.count(str(value)) for value in given.values()} == dict.fromkeys(given.values(), 1)


def test_the_drawn_dataset_has_an_empty_path(shapes: PipelineSpec) -> None:
    default = shapes.root.input_definitions.parameters["data_path"].default_value
    assert default.WhichOneof("kind") == "string_value" and default.string_value == ""


def test_compiling_again_gives_the_same_text_and_leaves_nothing_behind(
    packages: dict[str, Package],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert compiled(recipe_of("shapes")).to_yaml() == packages["shapes"].to_yaml()
    assert capfd.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []


def test_texts_that_look_like_numbers_stay_texts() -> None:
    spec = PipelineSpec()
    spec.pipeline_info.name = "12e4"
    assert "'12e4'" in Package(spec, PlatformSpec()).to_yaml()


def test_kubeflows_pages_show_the_report(shapes: PipelineSpec) -> None:
    [page] = shapes.components["Report"].output_definitions.artifacts.values()
    assert page.artifact_type.schema_title == "system.HTML"


def test_every_stage_can_be_named_in_a_recipe(shapes: PipelineSpec) -> None:
    assert set(shapes.root.dag.tasks) <= {*get_args(StageName), "model-pushed", DATA_TASK, SERVED_TASK}


def test_the_last_task_waits_for_the_push(shapes: PipelineSpec) -> None:
    assert list(shapes.root.dag.tasks["model-pushed"].dependent_tasks) == ["Pusher"]
    assert container_args(shapes, "model-pushed") == ["--announce_pushed_model", "{{$}}"]


def test_only_the_trainer_asks_for_a_gpu(shapes: PipelineSpec) -> None:
    executors = json_format.MessageToDict(shapes.deployment_spec)["executors"]
    with_gpu = {name for name in executors if "accelerator" in executors[name]["container"]["resources"]}
    assert with_gpu == {"Trainer_executor"}
    assert executors["Trainer_executor"]["container"]["resources"]["accelerator"] == {
        "type": "nvidia.com/gpu",
        "count": "1",
        "resourceType": "nvidia.com/gpu",
        "resourceCount": "1",
    }


def test_stages_ask_for_what_the_recipe_says() -> None:
    recipe = recipe_of(
        "shapes",
        "kubeflow.stages.Trainer={gpus: 2, gpu_resource: amd.com/gpu}",
        "kubeflow.stages.Evaluator={gpus: 1, retries: 0, cpu_limit: 1500m}",
        "kubeflow.defaults.retries=3",
        "kubeflow.cache=false",
        "kubeflow.checkpoint_dir=/data/checkpoints",
    )
    spec = compiled(recipe).spec
    assert violations(spec, recipe.kubeflow) == []
    executors = json_format.MessageToDict(spec.deployment_spec)["executors"]
    trainer, evaluator = (
        executors[f"{name}_executor"]["container"]["resources"] for name in ("Trainer", "Evaluator")
    )
    assert trainer["accelerator"]["resourceType"] == "amd.com/gpu"
    assert trainer["accelerator"]["resourceCount"] == "2"
    assert evaluator["accelerator"]["resourceCount"] == "1"
    assert (evaluator["cpuLimit"], evaluator["resourceCpuLimit"]) == (1.5, "1500m")
    tasks = spec.root.dag.tasks
    assert not tasks["Evaluator"].HasField("retry_policy")
    assert tasks["Transform"].retry_policy.max_retry_count == 3
    assert not any(task.caching_options.enable_cache for task in tasks.values())
    settings = tasks["Trainer"].inputs.parameters["settings"].runtime_value.constant.string_value
    assert "/data/checkpoints" in settings


def test_beam_works_in_the_pod_with_the_cpus_of_its_limit() -> None:
    ingestion = "ImageMaskExampleGen"
    recipe = recipe_of("shapes", f"kubeflow.stages.{ingestion}.cpu_limit=6500m")
    assert "--direct_num_workers=6" in beam_options(recipe, ingestion, ROOT)
    assert "--direct_num_workers=2" in beam_options(recipe, "Evaluator", ROOT)
    recipe = recipe_of("shapes", "kubeflow.defaults={cpu_request: 100m, cpu_limit: 500m}")
    assert "--direct_num_workers=1" in beam_options(recipe, "Evaluator", ROOT)
    assert "--direct_num_workers=3" in beam_options(recipe_of("shapes", "beam.workers=3"), ingestion, ROOT)


DATAFLOW = (
    "beam={runner: DataflowRunner, project: my-project, region: europe-west4, "
    "temp_location: 'gs://bucket/tmp', environment_config: 'r.example.org/worker:1'}"
)
ENGINE = (
    "beam={runner: FlinkRunner, job_endpoint: 'beam:8099', environment_type: EXTERNAL, "
    "environment_config: 'localhost:50000'}"
)


def test_an_engine_works_on_the_shared_folder_in_the_stages_that_have_beam() -> None:
    recipe = recipe_of(
        "shapes",
        ENGINE,
        "kubeflow.shared_dir=/data/shared",
        "kubeflow.stages.Transform={cpu_limit: 6, timeout_seconds: 600}",
    )
    package = compiled(recipe)
    assert violations(package.spec, recipe.kubeflow) == []
    args = options_of(package, "Transform")
    assert {"--shared_dir=/data/shared", "--shared_seconds=600", "--runner=FlinkRunner"} <= {*args}
    # Flink's own affair: the pod's processors do nothing.
    assert not [arg for arg in args if arg.startswith("--parallelism")]
    lending = stages_with("--shared_dir=/data/shared", package)
    assert lending == {"ImageMaskExampleGen", "StatisticsGen", "Transform", "Evaluator"}


def test_without_an_engine_nothing_is_lent() -> None:
    recipe = recipe_of("shapes", "kubeflow.shared_dir=/data/shared")
    assert stages_with("--shared_dir", compiled(recipe)) == set()


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ([], r"beam.runner is FlinkRunner, .* the pod's own disk; set kubeflow.shared_dir, "),
        (["kubeflow.shared_dir=/data/x"], "shared_dir is /data/x, within dataset.root, /data/x"),
        (["kubeflow.shared_dir=/data/x/y"], "shared_dir is /data/x/y, within dataset.root, /data/x"),
        (
            [
                "kubeflow.shared_dir=/data/xy",
                "beam.environment_type=LOOPBACK",
                "beam.environment_config=null",
            ],
            "beam.environment_type is LOOPBACK, .* give EXTERNAL",
        ),
    ],
)
def test_an_engine_that_cannot_do_a_pod_s_work_is_refused(overrides: list[str], words: str) -> None:
    with pytest.raises(RecipeError, match=words) as caught:
        compiled(recipe_of("pets_unet", ENGINE, *overrides))
    assert len(str(caught.value).splitlines()) == 1


BUCKET = "gs://bucket/pipelines"
SECRET = "kubeflow.secrets=[{secret: google, key: path, variable: GOOGLE_APPLICATION_CREDENTIALS}]"


def stages_with_the_secret(package: Package) -> set[str]:
    executors = package.platform.platforms["kubernetes"].deployment_spec.executors
    labels = {label for label, values in executors.items() if values.fields.get("secretAsEnv")}
    spec = package.spec
    components = {name: task.component_ref.name for name, task in spec.root.dag.tasks.items()}
    return {task for task, name in components.items() if spec.components[name].executor_label in labels}


def test_only_those_who_read_the_data_have_the_secrets_of_a_run_without_an_engine() -> None:
    package = compile_pipeline(recipe_of("pets_unet", SECRET), image=IMAGE, pipeline_root=BUCKET)
    assert stages_with_the_secret(package) == {"ImageMaskExampleGen", DATA_TASK}


@pytest.mark.parametrize("engine", [DATAFLOW, ENGINE])
def test_an_engine_works_in_the_bucket_in_the_stages_that_have_beam(engine: str) -> None:
    overrides = [engine, "kubeflow.copy_bucket=false", SECRET]
    recipe = load_recipe("pets_unet", "gs://bucket/pets", overrides, runs_here=False)
    package = compile_pipeline(recipe, image=IMAGE, pipeline_root=BUCKET)
    assert violations(package.spec, recipe.kubeflow) == []
    in_bucket = stages_with("--in_bucket", package)
    assert in_bucket == {"ImageMaskExampleGen", "StatisticsGen", "Transform", "Evaluator"}
    assert stages_with_the_secret(package) == {*in_bucket, DATA_TASK}
    assert stages_with("--shared_dir", package) == set()


def test_the_shared_folder_is_taken_where_there_is_one_unless_the_workers_mount_nothing() -> None:
    shared = ("kubeflow.shared_dir=/data/shared", "kubeflow.copy_bucket=false")
    for engine, option in ((ENGINE, "--shared_dir=/data/shared"), (DATAFLOW, "--in_bucket")):
        recipe = load_recipe("pets_unet", "gs://bucket/pets", [engine, *shared], runs_here=False)
        assert option in beam_options(recipe, "Transform", BUCKET)


@pytest.mark.parametrize(
    ("engine", "data", "root", "words"),
    [
        (DATAFLOW, "gs://bucket/pets", ROOT, "but the pipeline root is s3://.*; give one in Google Cloud"),
        (DATAFLOW, "gs://bucket/pets", BUCKET, "do not see the copy of gs://bucket/pets .*copy_bucket"),
        (DATAFLOW, "/data/pets", BUCKET, "dataset.root is /data/pets, on a claim, but .* mount none; give"),
        (ENGINE, "gs://bucket/pets", BUCKET, "runner is FlinkRunner, .* the copy of gs://bucket/pets on"),
    ],
)
def test_what_the_workers_in_a_bucket_do_not_see_is_refused(
    engine: str, data: str, root: str, words: str
) -> None:
    recipe = load_recipe("pets_unet", data, [engine], runs_here=False)
    with pytest.raises(RecipeError, match=words) as caught:
        compile_pipeline(recipe, image=IMAGE, pipeline_root=root)
    assert len(str(caught.value).splitlines()) == 1


def test_drawn_data_are_nowhere_for_workers_in_a_bucket() -> None:
    with pytest.raises(RecipeError, match="do not see the data that layout shapes draws on the pod's own"):
        compile_pipeline(recipe_of("shapes", ENGINE), image=IMAGE, pipeline_root=BUCKET)


def test_names_are_put_into_letters_that_kfp_takes() -> None:
    recipe = recipe_of("shapes", "name=Pets_UNet.v2")
    assert pipeline_name(recipe) == "pets-unet-v2"
    assert compiled(recipe).spec.pipeline_info.name == pipeline_name(recipe)


def test_without_an_image_nothing_is_compiled() -> None:
    with pytest.raises(ValueError, match="image"):
        compile_pipeline(recipe_of("shapes"), image="", pipeline_root=ROOT)


TRAINER = "kubeflow.stages.Trainer"
MACHINES = (
    "kubeflow.stages.Trainer={machines: 2, gpus: 4, memory_limit: 64Gi}",
    "kubeflow.shared_dir=/data/shared",
)


def test_a_weights_file_here_says_nothing_of_the_containers(tmp_path: Path) -> None:
    weights = tmp_path / "encoder.weights.h5"
    weights.write_bytes(b"mine")
    recipe = recipe_of("pets_mobilenetv2", f"model.encoder_weights={weights}")
    spec = json_format.MessageToJson(compiled(recipe).spec)
    assert str(weights) in spec and sha256(weights) not in spec


def test_machines_train_in_place_of_the_trainers_task() -> None:
    recipe = recipe_of("shapes", *MACHINES)
    package = compiled(recipe)
    assert violations(package.spec, recipe.kubeflow) == []
    machines, pod, *shared = options_of(package, "Trainer")
    assert machines == "--training_machines=2"
    assert json.loads(pod.removeprefix("--training_pod=")) == worker_pod(recipe.kubeflow, IMAGE)
    assert shared == ["--shared_dir=/data/shared", "--shared_seconds=86400"]
    deployment = json_format.MessageToDict(package.spec.deployment_spec)
    label = package.spec.components["Trainer"].executor_label
    resources = deployment["executors"][label]["container"]["resources"]
    assert "accelerator" not in resources and resources["resourceMemoryLimit"] == "8Gi"
    others = options_of(package, "Evaluator")
    assert not [argument for argument in others if "training_" in argument]


def test_one_machine_needs_no_job(packages: dict[str, Package]) -> None:
    assert options_of(packages["shapes"], "Trainer") == []


@pytest.mark.parametrize(
    "others",
    [
        MACHINES,
        (f"{TRAINER}.gpus=4",),
        (f"{TRAINER}.gpu_resource=amd.com/gpu",),
        (f"{TRAINER}.node_selector={{nvidia.com/gpu.product: Tesla-T4}}",),
    ],
)
def test_stages_behind_know_on_what_devices_was_trained(others: tuple[str, ...]) -> None:
    """The cache would answer them with what was made of the model of others."""
    one, two = (compiled(recipe_of("shapes", *overrides)).spec for overrides in ((), others))
    of_trainer = [spec.root.dag.tasks["Trainer"].inputs.parameters["lineage_devices"] for spec in (one, two)]
    assert of_trainer[0] != of_trainer[1]
    for name in ("Baseline", "Evaluator", "ServingCheck", "Pusher", "Report"):
        lineages = [spec.root.dag.tasks[name].inputs.parameters["lineage"] for spec in (one, two)]
        assert lineages[0] != lineages[1], name


def test_machines_by_a_tag_are_refused() -> None:
    with pytest.raises(RecipeError) as raised:
        compile_pipeline(recipe_of("shapes", *MACHINES), image="segmentation:1", pipeline_root=ROOT)
    assert "kubeflow.image is segmentation:1" in str(raised.value)
    assert "@sha256:" in str(raised.value)


def test_a_key_that_the_pusher_would_not_find_is_refused_before_anything_runs() -> None:
    key, secret = "serving.signing_key=/etc/model-signing/a.pem", "kubeflow.signing_secret=key"
    spec = compiled(recipe_of("shapes", key, secret)).spec
    assert violations(spec, recipe_of("shapes", key, secret).kubeflow) == []
    parameters = spec.root.dag.tasks["Pusher"].inputs.parameters
    assert parameters["signing_key"].runtime_value.constant.string_value == "/etc/model-signing/a.pem"
    for overrides, said in (
        ((key,), "name a Secret in kubeflow.signing_secret"),
        (("serving.signing_key=a.pem", secret), "the key as /etc/model-signing/NAME"),
        ((secret,), "nothing is signed: set serving.signing_key"),
    ):
        with pytest.raises(RecipeError, match=said):
            compiled(recipe_of("shapes", *overrides))
