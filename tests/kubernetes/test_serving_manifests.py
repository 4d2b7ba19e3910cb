"""The model server's manifests: valid, restricted, and consistent with each other."""

from pathlib import Path

import kubernetes_validate
import pytest
from known_server import FLAGS
from manifests import OVERLAYS, SERVING, Manifests, build, builder

from components.serving.config import ServingConfig

pytestmark = pytest.mark.skipif(builder() is None, reason="neither kubectl nor kustomize is installed")

# preStop.sleep is on by default from 1.30; the newest is what the schemas know.
KUBERNETES_VERSIONS = ("1.30", "1.37")
# Kinds of the Prometheus Operator, for which there is no schema here; test_serving_monitoring.py reads them.
CUSTOM_KINDS = ("ServiceMonitor", "PrometheusRule")


@pytest.fixture(params=OVERLAYS)
def server(request: pytest.FixtureRequest) -> Manifests:
    return build(SERVING / "overlays" / request.param)


@pytest.mark.parametrize("version", KUBERNETES_VERSIONS)
@pytest.mark.parametrize("directory", ["foundation", *(f"overlays/{name}" for name in OVERLAYS)])
def test_every_object_fits_the_schema_without_unknown_fields(directory: str, version: str) -> None:
    for item in build(SERVING / directory).objects:
        if item["kind"] not in CUSTOM_KINDS:
            kubernetes_validate.validate(item, version, strict=True)


def test_names_are_unique_and_everything_lives_in_one_namespace(server: Manifests) -> None:
    names = [(item["kind"], item["metadata"]["name"]) for item in server.objects]
    assert len(names) == len(set(names))
    namespace = build(SERVING / "foundation").the("Namespace")["metadata"]["name"]
    assert {item["metadata"]["namespace"] for item in server.objects} == {namespace}


def test_deleting_an_overlay_deletes_neither_models_nor_namespace(server: Manifests) -> None:
    assert not server.of_kind("PersistentVolumeClaim") and not server.of_kind("Namespace")


def test_the_namespace_enforces_the_restricted_pod_security_standard() -> None:
    labels = build(SERVING / "foundation").the("Namespace")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


def test_pods_meet_the_restricted_pod_security_standard(server: Manifests) -> None:
    spec = server.pod["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] > 0
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
    allowed = {"configMap", "emptyDir", "persistentVolumeClaim"}
    assert all(volume.keys() - {"name"} <= allowed for volume in spec["volumes"])
    for container in spec["containers"] + spec.get("initContainers", []):
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert context["readOnlyRootFilesystem"] is True
        assert not context.get("privileged") and context.get("runAsUser", 1) > 0
        assert "hostPort" not in str(container["ports"])


def test_the_server_has_no_credentials_of_the_cluster(server: Manifests) -> None:
    account = server.the("ServiceAccount")
    assert account["automountServiceAccountToken"] is False
    assert server.pod["spec"]["automountServiceAccountToken"] is False
    assert server.pod["spec"]["serviceAccountName"] == account["metadata"]["name"]


def test_the_image_is_pinned_by_digest_and_runs_the_server_itself(server: Manifests) -> None:
    name, digest = server.container["image"].split("@sha256:")
    assert name == "tensorflow/serving" and len(digest) == 64
    # The image's entry point is a shell script that passes no signal on.
    assert server.container["command"] == ["/usr/bin/tensorflow_model_server"]


def test_every_flag_is_one_of_the_server(server: Manifests) -> None:
    assert server.flags.keys() <= FLAGS


def test_every_file_that_a_flag_names_is_mounted_there(server: Manifests) -> None:
    files = [value for name, value in server.flags.items() if name.endswith("_file")]
    assert len(files) >= 2
    assert all(server.file_in_container(path) for path in files)


def test_variables_in_flags_are_defined(server: Manifests) -> None:
    defined = {variable["name"] for variable in server.container["env"]}
    used = {value[2:-1] for value in server.flags.values() if value.startswith("$(")}
    assert used == {"CPUS"} and used <= defined


def test_models_are_mounted_read_only_where_the_configuration_looks(server: Manifests) -> None:
    claim = build(SERVING / "foundation").the("PersistentVolumeClaim")
    [volume] = [item for item in server.pod["spec"]["volumes"] if "persistentVolumeClaim" in item]
    assert volume["persistentVolumeClaim"] == {"claimName": claim["metadata"]["name"], "readOnly": True}
    [mount] = [item for item in server.container["volumeMounts"] if item["name"] == volume["name"]]
    assert mount["readOnly"] is True
    for model in server.models:
        assert Path(model.base_path) == Path(mount["mountPath"], model.name)


def test_many_servers_can_mount_the_models_at_once() -> None:
    claim = build(SERVING / "foundation").the("PersistentVolumeClaim")["spec"]
    # The schema takes any name of a resource; the API server does not.
    assert claim["accessModes"] == ["ReadWriteMany"] and claim["resources"]["requests"].keys() == {"storage"}


def test_only_the_scratch_directory_can_be_written(server: Manifests) -> None:
    writable = [item["mountPath"] for item in server.container["volumeMounts"] if not item.get("readOnly")]
    assert writable == ["/tmp"]
    [scratch] = [item["emptyDir"] for item in server.pod["spec"]["volumes"] if "emptyDir" in item]
    assert scratch["sizeLimit"]
    variables = {item["name"]: item.get("value") for item in server.container["env"]}
    assert variables.get("CUDA_CACHE_PATH", "/tmp/cuda").startswith("/tmp/")


def test_the_configured_model_is_the_one_the_pipeline_pushes_by_default(server: Manifests) -> None:
    [model] = server.models
    assert model.name == ServingConfig().model_name
    assert model.model_platform == "tensorflow"


def test_ready_means_that_the_configured_model_answers(server: Manifests) -> None:
    [model] = server.models
    label = "/labels/stable" if model.version_labels else ""
    # Only /metadata fails without an AVAILABLE version; the status page is 200 in any state.
    path = f"/v1/models/{model.name}{label}/metadata"
    for probe in ("startupProbe", "readinessProbe"):
        request = server.container[probe]["httpGet"]
        assert request["path"] == path
        assert server.container_port(request["port"]) == int(server.flags["rest_api_port"])


def test_starting_may_take_all_attempts_to_load(server: Manifests) -> None:
    probe = server.container["startupProbe"]
    # Five retries, a minute apart, are the server's defaults (--max_num_load_retries).
    assert probe["periodSeconds"] * probe["failureThreshold"] > 5 * 60
    assert server.the("Deployment")["spec"]["progressDeadlineSeconds"] > 2 * 600


def test_liveness_asks_the_process_and_no_model(server: Manifests) -> None:
    probe = server.container["livenessProbe"]
    assert server.container_port(probe["tcpSocket"]["port"]) == int(server.flags["port"])
    # Neither TLS nor a flag that some image does not know can break it.
    assert not {"grpc", "httpGet", "exec"} & probe.keys()


def test_a_slow_answer_over_rest_does_not_take_a_pod_out_of_service(server: Manifests) -> None:
    # Predictions over REST share the readiness probe's threads.
    probe = server.container["readinessProbe"]
    assert probe["timeoutSeconds"] * probe["failureThreshold"] >= 30, "--rest_api_timeout_in_ms"


def test_connections_have_moved_before_the_server_is_killed(server: Manifests) -> None:
    age = int(server.flags["grpc_channel_arguments"].removeprefix("grpc.max_connection_age_ms=")) / 1000
    sleep = server.container["lifecycle"]["preStop"]["sleep"]["seconds"]
    # gRPC spreads the age by 10 %, resolves a name at most every 30 s, and CoreDNS keeps it for 5 s.
    assert 1.1 * age + 30 + 5 < sleep < server.pod["spec"]["terminationGracePeriodSeconds"]


def test_requests_equal_limits(server: Manifests) -> None:
    resources = server.container["resources"]
    assert {"cpu", "memory"} <= resources["limits"].keys()
    assert resources["requests"] == resources["limits"]


def test_services_lead_to_the_servers_ports(server: Manifests) -> None:
    services = {item["metadata"]["name"]: item["spec"] for item in server.of_kind("Service")}
    assert services.keys() == {"model-server-grpc", "model-server-rest"}
    for name, flag in (("model-server-grpc", "port"), ("model-server-rest", "rest_api_port")):
        assert server.selected_by(services[name]["selector"])
        [port] = services[name]["ports"]
        assert server.container_port(port["targetPort"]) == port["port"] == int(server.flags[flag])
    assert services["model-server-grpc"]["clusterIP"] == "None"
    assert services["model-server-rest"].get("clusterIP") != "None"


def test_the_deployment_and_its_companions_find_the_pods(server: Manifests) -> None:
    assert server.selected_by(server.the("Deployment")["spec"]["selector"]["matchLabels"])
    assert server.selected_by(server.the("PodDisruptionBudget")["spec"]["selector"]["matchLabels"])
    assert server.selected_by(server.the("NetworkPolicy")["spec"]["podSelector"]["matchLabels"])
    constraints = server.pod["spec"]["topologySpreadConstraints"]
    assert {item["topologyKey"].rpartition("/")[2] for item in constraints} == {"zone", "hostname"}
    assert all(server.selected_by(item["labelSelector"]["matchLabels"]) for item in constraints)


def test_a_disruption_leaves_a_server(server: Manifests) -> None:
    scalers = server.of_kind("HorizontalPodAutoscaler")
    deployment = server.the("Deployment")
    # Either somebody scales or the number is fixed; both would fight over it at every apply.
    assert len(scalers) + ("replicas" in deployment["spec"]) == 1
    for scaler in scalers:
        assert scaler["spec"]["scaleTargetRef"] == {
            "apiVersion": deployment["apiVersion"],
            "kind": deployment["kind"],
            "name": deployment["metadata"]["name"],
        }
    fewest = scalers[0]["spec"]["minReplicas"] if scalers else deployment["spec"]["replicas"]
    assert fewest > server.the("PodDisruptionBudget")["spec"]["maxUnavailable"]
    assert fewest > deployment["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"]


def test_the_network_lets_in_clients_and_prometheus_and_nothing_out(server: Manifests) -> None:
    policy = server.the("NetworkPolicy")["spec"]
    assert set(policy["policyTypes"]) == {"Ingress", "Egress"} and policy.get("egress", []) == []
    clients, prometheus = policy["ingress"]
    assert {server.container_port(item["port"]) for item in clients["ports"]} == {8500, 8501}
    assert {server.container_port(item["port"]) for item in prometheus["ports"]} == {8501}
    for rule in (clients, prometheus):
        # One entry: namespace and Pod must both fit. Two entries would mean either.
        [peer] = rule["from"]
        assert peer["podSelector"]["matchLabels"] and "namespaceSelector" in peer
    assert prometheus["from"][0]["namespaceSelector"]["matchLabels"]


def test_changed_models_are_reread_and_changed_settings_restart(server: Manifests) -> None:
    names = {volume["configMap"]["name"] for volume in server.pod["spec"]["volumes"] if "configMap" in volume}
    [settings] = names - {"model-server-models"}
    assert settings.startswith("model-server-settings-"), "without a hash Pods keep the old settings"
    assert not any("subPath" in mount for mount in server.container["volumeMounts"])
    assert int(server.flags["model_config_file_poll_wait_seconds"]) > 0
    assert int(server.flags["file_system_poll_wait_seconds"]) > 0
