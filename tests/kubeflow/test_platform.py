"""The package's second document: what pods ask of Kubernetes."""

from collections.abc import Sequence

from google.protobuf import json_format
from kfp.kubernetes import kubernetes_executor_config_pb2 as kubernetes
from kfp.pipeline_spec.pipeline_spec_pb2 import PipelineSpec

from pipeline.config import load_recipe
from pipeline.kubeflow.spec.platform import build_platform_spec, executor_config


def config_of(stage: str, *overrides: str) -> kubernetes.KubernetesExecutorConfig:
    config = load_recipe("shapes", overrides=[f"kubeflow.{override}" for override in overrides]).kubeflow
    return executor_config(config, config.stage(stage))


def test_claims_are_mounted_by_both_of_their_names() -> None:
    config = config_of(
        "Trainer",
        "volumes=[{claim: data, mount_path: /data, sub_path: pets}, {claim: models, mount_path: /serving}]",
    )
    data, models = config.pvc_mount
    assert (data.mount_path, data.sub_path) == ("/data", "pets")
    assert (models.mount_path, models.sub_path) == ("/serving", "")
    for mount, claim in ((data, "data"), (models, "models")):
        assert mount.constant == claim
        assert mount.pvc_name_parameter.runtime_value.constant.string_value == claim


def executors_of(
    *names: str, overrides: Sequence[str] = ()
) -> dict[str, kubernetes.KubernetesExecutorConfig]:
    """What the containers of tasks get, of which an ingestion alone opens buckets."""
    spec = PipelineSpec()
    for name in names:
        spec.root.dag.tasks[name].component_ref.name = name
        spec.components[name].executor_label = name
    config = load_recipe("shapes", overrides=overrides).kubeflow
    platform = build_platform_spec(spec, config, {}, {"ImageMaskExampleGen"})
    return {
        name: json_format.ParseDict(json_format.MessageToDict(values), kubernetes.KubernetesExecutorConfig())
        for name, values in platform.platforms["kubernetes"].deployment_spec.executors.items()
    }


def test_secrets_fill_environment_variables_of_those_who_open_buckets() -> None:
    overrides = ["kubeflow.secrets=[{secret: store, key: id, variable: AWS_ACCESS_KEY_ID}]"]
    executors = executors_of("ImageMaskExampleGen", "Trainer", overrides=overrides)
    [secret] = executors["ImageMaskExampleGen"].secret_as_env
    assert secret.secret_name == secret.secret_name_parameter.runtime_value.constant.string_value == "store"
    assert [(pair.secret_key, pair.env_var) for pair in secret.key_to_env] == [("id", "AWS_ACCESS_KEY_ID")]
    assert not executors["Trainer"].secret_as_env


def test_images_are_pulled_as_the_recipe_says() -> None:
    config = config_of("Trainer", "image_pull_policy=Always", "image_pull_secrets=[registry]")
    assert config.image_pull_policy == "Always"
    [secret] = config.image_pull_secret
    assert (
        secret.secret_name == secret.secret_name_parameter.runtime_value.constant.string_value == "registry"
    )


def test_a_stage_has_nodes_and_a_time_of_its_own() -> None:
    overrides = (
        "stages.Trainer={node_selector: {gpu: a100}, timeout_seconds: 60, "
        "tolerations: [{key: gpu, operator: Equal, value: 'yes', effect: NoSchedule}, {key: spot}]}",
    )
    trainer, transform = config_of("Trainer", *overrides), config_of("Transform", *overrides)
    assert dict(trainer.node_selector.labels) == {"gpu": "a100"}
    assert trainer.active_deadline_seconds == 60
    assert list(trainer.tolerations) == [
        kubernetes.Toleration(key="gpu", operator="Equal", value="yes", effect="NoSchedule"),
        kubernetes.Toleration(key="spot", operator="Exists"),
    ]
    assert not transform.HasField("node_selector") and not transform.tolerations
    assert transform.active_deadline_seconds == 6 * 3600


def test_several_gpus_share_memory() -> None:
    [mount] = config_of("Trainer", "stages.Trainer.gpus=2").empty_dir_mounts
    assert (mount.mount_path, mount.medium) == ("/dev/shm", "Memory")
    assert not config_of("Trainer").empty_dir_mounts


def test_every_executor_is_listed_and_read_back() -> None:
    config = load_recipe("shapes").kubeflow
    spec = PipelineSpec()
    for name in ("Trainer", "model-pushed"):
        spec.root.dag.tasks[name].component_ref.name = name
        spec.components[name].executor_label = f"{name}_executor"
    executors = build_platform_spec(spec, config, {}, ()).platforms["kubernetes"].deployment_spec.executors
    assert set(executors) == {"Trainer_executor", "model-pushed_executor"}
    for name in ("Trainer", "model-pushed"):
        values = json_format.MessageToDict(executors[f"{name}_executor"])
        read = json_format.ParseDict(values, kubernetes.KubernetesExecutorConfig())
        assert read == executor_config(config, config.stage(name))


def test_the_pusher_alone_has_the_key_that_signs() -> None:
    overrides = ["kubeflow.signing_secret=key", "serving.signing_key=/etc/model-signing/a.pem"]
    executors = executors_of("Trainer", "Pusher", overrides=overrides)
    [secret] = executors["Pusher"].secret_as_volume
    assert secret.mount_path == "/etc/model-signing"
    assert secret.secret_name == secret.secret_name_parameter.runtime_value.constant.string_value == "key"
    assert not executors["Trainer"].secret_as_volume
