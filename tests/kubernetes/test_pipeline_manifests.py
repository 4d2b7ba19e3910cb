"""The manifests around a run on Kubeflow: valid, without more rights than asked for, and all of one mind."""

import shutil
from collections.abc import Iterator
from typing import get_args

import kubernetes_validate
import pytest
import yaml
from manifests import SERVING, Manifests, Object, build, builder, strings

from pipeline.kubeflow.spec.machines import worker_pod
from pipeline.kubeflow_config import KubeflowConfig, StageName
from pipeline.kubernetes_types import parse_quantity

pytestmark = pytest.mark.skipif(builder() is None, reason="neither kubectl nor kustomize is installed")

PIPELINE = SERVING.parent / "pipeline"
VARIANTS = ("minimal", "production")
DIRECTORIES = [f"{kind}/{variant}" for kind in ("overlays", "storage") for variant in VARIANTS]
# As for the servers, and the newest that there are schemas for.
KUBERNETES_VERSIONS = ("1.30", "1.37")
IMAGE_USER = "65532"


def overlay(variant: str) -> Manifests:
    return build(PIPELINE / "overlays" / variant)


def storage(variant: str) -> Manifests:
    return build(PIPELINE / "storage" / variant)


@pytest.fixture(scope="session")
def training(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Manifests]:
    """The overlays with the component for several machines, by the line that is a comment there."""
    copy = tmp_path_factory.mktemp("training") / "kubernetes"
    shutil.copytree(PIPELINE.parent, copy)
    overlays = {variant: copy / "pipeline/overlays" / variant for variant in VARIANTS}
    for directory in overlays.values():
        file = directory / "kustomization.yaml"
        before, line, after = file.read_text().partition("  # - ../../../training\n")
        assert line, f"no line for it in {file}"
        file.write_text(before + line.replace("# ", "") + after)
    return {variant: build(directory) for variant, directory in overlays.items()}


def run_namespace(variant: str) -> str:
    [namespace] = {item["metadata"]["namespace"] for item in overlay(variant).objects}
    return str(namespace)


def rules(role: Object) -> Iterator[tuple[str, str, str, tuple[str, ...]]]:
    """Group, resource, verb and the names that a right is confined to."""
    for rule in role["rules"]:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                for verb in rule["verbs"]:
                    yield group, resource, verb, tuple(rule.get("resourceNames", ()))


def claims(variant: str) -> dict[str, Object]:
    """The claims by namespace/name."""
    return {
        f"{item['metadata']['namespace']}/{item['metadata']['name']}": item
        for item in storage(variant).of_kind("PersistentVolumeClaim")
    }


def volumes(variant: str) -> dict[str, Object]:
    return {item["metadata"]["name"]: item for item in storage(variant).of_kind("PersistentVolume")}


@pytest.mark.parametrize("version", KUBERNETES_VERSIONS)
@pytest.mark.parametrize("directory", DIRECTORIES)
def test_every_object_fits_the_schema_without_unknown_fields(directory: str, version: str) -> None:
    for item in build(PIPELINE / directory).objects:
        kubernetes_validate.validate(item, version, strict=True)


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_is_deleted_with_an_overlay_holds_no_data(variant: str) -> None:
    kinds = {item["kind"] for item in overlay(variant).objects}
    assert not kinds & {"Namespace", "PersistentVolume", "PersistentVolumeClaim", "Secret"}


@pytest.mark.parametrize("variant", VARIANTS)
def test_runs_happen_where_their_claims_are(variant: str) -> None:
    namespace = run_namespace(variant)
    assert {f"{namespace}/{volume.claim}" for volume in KubeflowConfig().volumes} <= claims(variant).keys()


def test_the_minimal_variant_is_for_kubeflows_own_namespace_and_leaves_it_as_it_is() -> None:
    assert run_namespace("minimal") == "kubeflow"
    kinds = {item["kind"] for item in overlay("minimal").objects}
    assert not kinds & {"ResourceQuota", "LimitRange", "ConfigMap"}, "they would bind Kubeflow, too"
    assert "kubeflow" not in [item["metadata"]["name"] for item in storage("minimal").of_kind("Namespace")]


def test_the_production_variant_makes_its_namespace_under_pod_security() -> None:
    namespace = storage("production").the("Namespace", run_namespace("production"))
    labels = namespace["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "baseline"
    assert labels["pod-security.kubernetes.io/warn"] == "restricted"
    assert {label.split("/")[0] for label in labels} == {"pod-security.kubernetes.io"}, "a Profile's stay"


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_account_of_runs_is_the_recipes_and_has_the_role(variant: str) -> None:
    account = overlay(variant).the("ServiceAccount")["metadata"]
    assert account["name"] == KubeflowConfig().service_account
    binding = overlay(variant).the("RoleBinding")
    assert (
        binding["roleRef"]["name"]
        == overlay(variant).the("Role", KubeflowConfig().service_account)["metadata"]["name"]
    )
    assert binding["subjects"] == [
        {"kind": "ServiceAccount", "name": account["name"], "namespace": account["namespace"]}
    ]


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_account_has_only_the_rights_of_a_runs_own_machinery(variant: str) -> None:
    assert not {item["kind"] for item in overlay(variant).objects} & {"ClusterRole", "ClusterRoleBinding"}
    rights = list(rules(overlay(variant).the("Role", KubeflowConfig().service_account)))
    assert ("argoproj.io", "workflowtaskresults", "create", ()) in rights
    assert ("argoproj.io", "workflowtaskresults", "patch", ()) in rights
    assert "*" not in "".join(
        strings(overlay(variant).the("Role", KubeflowConfig().service_account)["rules"])
    )
    for group, resource, verb, names in rights:
        if group == "":
            assert verb == "get" and (names or resource == "pods"), f"{verb} {resource} without a name"
        else:
            assert group == "argoproj.io" and resource.startswith("workflowtask")


def test_who_submits_may_use_the_account_of_runs_and_no_other_where_there_are_several_users() -> None:
    account = KubeflowConfig().service_account
    role = overlay("production").the("Role", f"{account}-submitter")
    assert list(rules(role)) == [("", "serviceaccounts", "use", (account,))]
    assert len(overlay("minimal").of_kind("Role")) == 1


@pytest.mark.parametrize("version", KUBERNETES_VERSIONS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_rights_to_train_on_several_machines_come_with_their_component_alone(
    training: dict[str, Manifests], variant: str, version: str
) -> None:
    added = [item for item in training[variant].objects if item not in overlay(variant).objects]
    assert len(added) == len(training[variant].objects) - len(overlay(variant).objects)
    for item in added:
        kubernetes_validate.validate(item, version, strict=True)
        assert item["metadata"]["namespace"] == run_namespace(variant)
    with_them = Manifests(added)
    assert {item["kind"] for item in added} == {"Role", "RoleBinding", "NetworkPolicy"}
    role, binding = with_them.the("Role"), with_them.the("RoleBinding")
    assert set(rules(role)) == {(*right, ()) for right in TRAINING_RIGHTS}
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert binding["subjects"] == overlay(variant).the("RoleBinding")["subjects"]


TRAINING_RIGHTS = {
    *(("trainer.kubeflow.org", "trainingruntimes", verb) for verb in ("create", "delete")),
    *(("trainer.kubeflow.org", "trainjobs", verb) for verb in ("create", "get", "delete")),
    *(("kubeflow.org", "tfjobs", verb) for verb in ("create", "get", "delete")),
    ("", "pods", "list"),
}
"""tests/kubeflow/test_training_job.py shows that a training needs each of them."""


def test_the_launcher_may_read_all_that_its_configuration_names() -> None:
    config = overlay("production").the("ConfigMap", "kfp-launcher")
    assert config["data"]["defaultPipelineRoot"].startswith("s3://")
    providers = yaml.safe_load(config["data"]["providers"])
    assert providers.keys() <= {"s3", "gs", "minio"}
    readable = {
        (resource, name)
        for _, resource, verb, names in rules(
            overlay("production").the("Role", KubeflowConfig().service_account)
        )
        for name in names
        if verb == "get"
    }
    assert ("configmaps", config["metadata"]["name"]) in readable
    for provider in providers.values():
        credentials = provider["default"]["credentials"]
        assert credentials["fromEnv"] is False
        assert ("secrets", credentials["secretRef"]["secretName"]) in readable
    keys = {"accessKeyKey", "secretKeyKey"}, {"tokenKey"}
    for name, wanted in zip(("s3", "gs"), keys, strict=True):
        assert providers[name]["default"]["credentials"]["secretRef"].keys() == {"secretName"} | wanted
    assert providers["s3"]["default"].keys() >= {"endpoint", "region"}


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_server_reads_the_directory_that_the_pusher_writes(variant: str) -> None:
    serving = build(SERVING / "overlays/cpu")
    [mounted] = [item for item in serving.pod["spec"]["volumes"] if "persistentVolumeClaim" in item]
    namespace = serving.the("Deployment")["metadata"]["namespace"]
    server_claim = claims(variant)[f"{namespace}/{mounted['persistentVolumeClaim']['claimName']}"]
    config = KubeflowConfig()
    [pushed_to] = [item for item in config.volumes if item.mount_path == config.serving_root]
    assert pushed_to.sub_path is None, "the server mounts all of the volume"
    pusher_claim = claims(variant)[f"{run_namespace(variant)}/{pushed_to.claim}"]
    source = "hostPath" if variant == "minimal" else "nfs"
    places = [
        volumes(variant)[item["spec"]["volumeName"]]["spec"][source] for item in (server_claim, pusher_claim)
    ]
    assert places[0]["path"] == places[1]["path"]
    assert places[0].get("server") == places[1].get("server")


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_claim_binds_to_the_volume_made_for_it(variant: str) -> None:
    assert len(claims(variant)) == len(volumes(variant)) == 3
    for name, claim in claims(variant).items():
        volume = volumes(variant)[claim["spec"]["volumeName"]]["spec"]
        assert f"{volume['claimRef']['namespace']}/{volume['claimRef']['name']}" == name
        # Null would be the cluster's default class, of which the volume is not.
        assert claim["spec"]["storageClassName"] == volume["storageClassName"] == ""
        assert claim["spec"]["accessModes"] == volume["accessModes"]
        assert claim["spec"]["resources"]["requests"]["storage"] == volume["capacity"]["storage"]
        assert volume["persistentVolumeReclaimPolicy"] == "Retain"


def test_many_nodes_mount_the_production_volumes_and_only_runs_write() -> None:
    for name, volume in volumes("production").items():
        assert volume["spec"]["accessModes"] == ["ReadWriteMany"]
        assert volume["spec"]["nfs"].get("readOnly", False) is (name == "segmentation-model-store")


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_network_is_closed_to_runs_but_for_what_is_listed(variant: str) -> None:
    policy = overlay(variant).the("NetworkPolicy", "pipeline-runs")["spec"]
    assert set(policy["policyTypes"]) == {"Ingress", "Egress"} and not policy.get("ingress")
    [expression] = policy["podSelector"]["matchExpressions"]
    assert expression == {"key": "workflows.argoproj.io/workflow", "operator": "Exists"}
    names, kubeflow, outside = policy["egress"]
    assert {(item["protocol"], item["port"]) for item in names["ports"]} == {("UDP", 53), ("TCP", 53)}
    assert kubeflow["to"] == [
        {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kubeflow"}}}
    ]
    assert {item["port"] for item in outside["ports"]} == {443, 6443, 8443, 16443} and "to" not in outside


@pytest.mark.parametrize("variant", VARIANTS)
def test_machines_that_train_together_talk_with_each_other_alone(
    training: dict[str, Manifests], variant: str
) -> None:
    policy = training[variant].the("NetworkPolicy", "training-workers")["spec"]
    config = KubeflowConfig()
    labels = worker_pod(config, "image")["metadata"]["labels"]
    selected = policy["podSelector"]["matchLabels"]
    assert selected and selected.items() <= labels.items()
    assert set(policy["policyTypes"]) == {"Ingress", "Egress"}
    assert policy["ingress"] == [{"from": [{"podSelector": policy["podSelector"]}]}]
    together, *outside = policy["egress"]
    assert together == {"to": [{"podSelector": policy["podSelector"]}]}
    assert {item["port"] for rule in outside for item in rule["ports"]} == {53, 443}


def test_two_runs_by_the_recipes_defaults_fit_into_the_quota() -> None:
    hard = overlay("production").the("ResourceQuota")["spec"]["hard"]
    config = KubeflowConfig()
    trainer = config.stage("Trainer")
    others = [config.stage(name) for name in get_args(StageName) if name != "Trainer"]
    for resource in ("cpu", "memory"):
        for bound in ("request", "limit"):
            field = f"{resource}_{bound}"
            other = max(parse_quantity(str(getattr(stage, field))) for stage in others)
            needed = 2 * (parse_quantity(str(getattr(trainer, field))) + 2 * other)
            assert parse_quantity(hard[f"{bound}s.{resource}"]) >= needed, field
    assert int(hard[f"requests.{trainer.gpu_resource}"]) >= 2 * (trainer.gpus or 0) > 0
    own = [name for name in claims("production") if name.startswith(f"{run_namespace('production')}/")]
    assert int(hard["persistentvolumeclaims"]) >= len(own)


def test_containers_that_name_no_limits_are_not_refused_under_the_quota() -> None:
    hard = overlay("production").the("ResourceQuota")["spec"]["hard"]
    [limits] = overlay("production").the("LimitRange")["spec"]["limits"]
    counted = {name.split(".", 1)[1] for name in hard if name.startswith("limits.")}
    assert limits["type"] == "Container"
    assert limits["default"].keys() == limits["defaultRequest"].keys() == counted


def test_the_volumes_name_the_user_of_the_image_as_their_owner() -> None:
    assert f"USER {IMAGE_USER}:{IMAGE_USER}" in (PIPELINE.parents[1] / "Dockerfile").read_text()
    for variant in VARIANTS:
        assert f"user {IMAGE_USER}" in (PIPELINE / "storage" / variant / "volumes.yaml").read_text()
    server = build(SERVING / "overlays/cpu").pod["spec"]["securityContext"]
    assert server["runAsUser"] == int(IMAGE_USER)


def test_no_secret_is_written_down() -> None:
    items = [
        item for path in PIPELINE.rglob("*.yaml") for item in yaml.safe_load_all(path.read_text()) if item
    ]
    assert items and not [item for item in items if item.get("kind") == "Secret"]
