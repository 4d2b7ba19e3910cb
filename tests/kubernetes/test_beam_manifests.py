"""Flink beside the pipeline: valid manifests, closed to others, and of one mind with the recipe."""

import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from apache_beam.options.pipeline_options import FlinkRunnerOptions
from documented import DOCS, REPOSITORY, blocks, shell_lines
from manifests import SERVING, Object, build, builder

from pipeline.config import BeamConfig
from pipeline.kubeflow_config import KubeflowConfig
from pipeline.kubernetes_types import parse_quantity

pytestmark = pytest.mark.skipif(builder() is None, reason="neither kubectl nor kustomize is installed")

BEAM = SERVING.parent / "beam"
PAGE = DOCS / "scale.md"
# As for the servers, and the newest that there are schemas for.
KUBERNETES_VERSIONS = ("1.30", "1.37")
OF_RUNS = {"matchExpressions": [{"key": "workflows.argoproj.io/workflow", "operator": "Exists"}]}
OF_ENGINE = {"matchLabels": {"segmentation-engine": "flink"}}
WORKER_POOL = 50000
"""Of ``boot --worker_pool``, in Beam's ``sdks/python/container/boot.go``."""


def deployments() -> dict[str, Object]:
    return {item["metadata"]["name"]: item for item in build(BEAM).of_kind("Deployment")}


def pods() -> dict[str, Object]:
    return {name: item["spec"]["template"] for name, item in deployments().items()}


def containers() -> dict[str, Object]:
    return {each["name"]: each for pod in pods().values() for each in pod["spec"]["containers"]}


def flink() -> dict[str, Any]:
    return yaml.safe_load(build(BEAM).the("ConfigMap")["data"]["config.yaml"])


def recipe_in_the_docs() -> dict[str, Any]:
    [block] = [block for block in blocks(PAGE, "yaml") if "FlinkRunner" in block]
    return yaml.safe_load(block)


def test_the_commands_in_the_docs_name_what_there_is() -> None:
    apply, status = (line for line in shell_lines(PAGE) if line.startswith("kubectl "))
    namespace = deployments()["flink-taskmanager"]["metadata"]["namespace"]
    assert apply == f"kubectl apply -k {BEAM.relative_to(REPOSITORY)}"
    assert status == f"kubectl -n {namespace} rollout status deployment/flink-taskmanager --timeout=15m"


@pytest.mark.parametrize("version", KUBERNETES_VERSIONS)
def test_every_object_fits_the_schema_without_unknown_fields(version: str) -> None:
    for item in build(BEAM).objects:
        kubernetes_validate.validate(item, version, strict=True)


def test_pods_are_restricted_and_run_as_the_user_of_the_claim() -> None:
    for pod in pods().values():
        context = pod["spec"]["securityContext"]
        assert context["runAsNonRoot"] and context["runAsUser"] == 65532
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["spec"]["automountServiceAccountToken"] is False
        assert {kind for volume in pod["spec"]["volumes"] for kind in volume if kind != "name"} == {
            "persistentVolumeClaim",
            "configMap",
            "emptyDir",
        }
    for container in containers().values():
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False and context["readOnlyRootFilesystem"] is True
        assert context["capabilities"] == {"drop": ["ALL"]}
        mounts = [mount["mountPath"] for mount in container["volumeMounts"]]
        assert "/tmp" in mounts and len(set(mounts)) == len(mounts)


def test_istio_leaves_the_pods_alone_as_it_does_those_of_runs() -> None:
    for pod in pods().values():
        assert pod["metadata"]["labels"]["sidecar.istio.io/inject"] == "false"


def test_workers_see_the_claim_where_the_stages_see_it_and_share_it_with_them() -> None:
    [data] = [volume for volume in KubeflowConfig().volumes if volume.mount_path == "/data"]
    shared = recipe_in_the_docs()["kubeflow"]["shared_dir"]
    assert shared.startswith(f"{data.mount_path}/")
    for name in ("worker", "taskmanager", "job-server"):
        assert {"name": "data", "mountPath": data.mount_path} in containers()[name]["volumeMounts"]
    for pod in pods().values():
        assert {"name": "data", "persistentVolumeClaim": {"claimName": data.claim}} in pod["spec"]["volumes"]
    claims = build(SERVING.parent / "pipeline/storage/production").of_kind("PersistentVolumeClaim")
    namespace = deployments()["flink-taskmanager"]["metadata"]["namespace"]
    [claim] = [
        item["spec"]
        for item in claims
        if (item["metadata"]["namespace"], item["metadata"]["name"]) == (namespace, data.claim)
    ]
    assert claim["accessModes"] == ["ReadWriteMany"]


def test_the_recipe_in_the_docs_is_of_this_engine() -> None:
    beam = BeamConfig.model_validate(recipe_in_the_docs()["beam"])
    service, port = str(beam.job_endpoint).split(":")
    [exposed] = build(BEAM).the("Service", service)["spec"]["ports"]
    [container] = pods()["beam-jobs"]["spec"]["containers"]
    flags = dict(argument.removeprefix("--").split("=") for argument in container["args"])
    assert exposed["port"] == int(port) == int(flags["job-port"])
    assert container["ports"] == [
        {"name": "jobs", "containerPort": int(flags["job-port"])},
        {"name": "artifacts", "containerPort": int(flags["artifact-port"])},
    ]
    assert beam.environment_config == f"localhost:{WORKER_POOL}"
    slots = flink()["taskmanager.numberOfTaskSlots"] * deployments()["flink-taskmanager"]["spec"]["replicas"]
    assert beam.workers == slots
    host, rest = flags["flink-master"].split(":")
    assert host == flink()["jobmanager.rpc.address"] and int(rest) == flink()["rest.port"]
    assert {port["port"] for port in build(BEAM).the("Service", host)["spec"]["ports"]} == {
        flink()[key] for key in ("jobmanager.rpc.port", "blob.server.port", "rest.port")
    }


def test_the_worker_is_the_stages_image_by_beams_boot() -> None:
    worker = containers()["worker"]
    assert worker["command"] == ["/opt/apache/beam/boot", "--worker_pool"]
    assert "COPY --from=worker /opt/worker /opt/apache/beam\n" in (REPOSITORY / "Dockerfile").read_text()
    assert worker["readinessProbe"]["tcpSocket"]["port"] == WORKER_POOL
    for container in containers().values():
        assert re.fullmatch(r".+@sha256:[0-9a-f]{64}", container["image"])


def test_job_server_and_flink_are_of_one_release_that_beam_publishes() -> None:
    [release] = re.findall(r"beam_flink([\d.]+)_job_server", containers()["job-server"]["image"])
    assert release in FlinkRunnerOptions.PUBLISHED_FLINK_VERSIONS
    for name in ("jobmanager.yaml", "taskmanager.yaml"):
        assert f"image: flink:{release}-" in Path(BEAM, name).read_text()


def test_nobody_reaches_the_engine_but_itself_and_runs_its_job_server() -> None:
    policies = {item["metadata"]["name"]: item["spec"] for item in build(BEAM).of_kind("NetworkPolicy")}
    for pod in pods().values():
        assert OF_ENGINE["matchLabels"].items() <= pod["metadata"]["labels"].items()
    own = policies["flink"]
    assert own["podSelector"] == OF_ENGINE and set(own["policyTypes"]) == {"Ingress", "Egress"}
    [ingress] = own["ingress"]
    assert ingress["from"] == [{"podSelector": OF_ENGINE}]
    open_ports = {
        number
        for port in ingress["ports"]
        for number in range(port["port"], port.get("endPort", port["port"]) + 1)
    }
    declared = {value for key, value in flink().items() if key.endswith(".port")}
    assert open_ports == declared and WORKER_POOL not in open_ports
    names, engine = own["egress"]
    assert {port["port"] for port in names["ports"]} == {53} and engine == {
        "to": [{"podSelector": OF_ENGINE}]
    }
    jobs = policies["beam-jobs"]
    assert jobs["podSelector"] == {"matchLabels": {"app.kubernetes.io/name": "beam-jobs"}}
    [ingress] = jobs["ingress"]
    assert ingress["from"] == [{"podSelector": OF_RUNS}]
    runs = policies["pipeline-runs-to-beam"]
    assert runs["podSelector"] == OF_RUNS
    [egress] = runs["egress"]
    assert egress["to"] == [{"podSelector": jobs["podSelector"]}]
    numbers = {port["name"]: port["containerPort"] for port in containers()["job-server"]["ports"]}
    assert {numbers[port["port"]] for port in ingress["ports"]} == {port["port"] for port in egress["ports"]}


def test_flink_has_the_memory_and_the_patience_that_a_stage_needs() -> None:
    config = flink()
    for name in ("jobmanager", "taskmanager"):
        limit = containers()[name]["resources"]["limits"]["memory"]
        assert parse_quantity(config[f"{name}.memory.process.size"].upper() + "i") == parse_quantity(limit)
    assert parse_quantity(config["taskmanager.memory.network.min"].upper() + "i") >= 448 * 2**20
    delay, unit = config["restart-strategy.fixed-delay.delay"].split()
    assert unit == "s" and int(delay) * 1000 > config["heartbeat.timeout"]
