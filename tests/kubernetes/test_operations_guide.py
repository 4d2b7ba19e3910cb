"""What docs/operations.md says of the manifests is what they are."""

import re
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from documented import DOCS, blocks
from known_server import SERIES, takes_probes_for_requests
from manifests import SERVING, build, builder

from components.serving.config import ServingConfig
from pipeline import verify

REPOSITORY = SERVING.parents[1]
GUIDE = (REPOSITORY / "docs" / "operations.md").read_text()

# Of the kubelet, by way of its cAdvisor; the server does not export its own memory.
CLUSTER_SERIES = {"container_memory_working_set_bytes"}

needs_kustomize = pytest.mark.skipif(builder() is None, reason="neither kubectl nor kustomize is installed")


@needs_kustomize
def test_every_alert_is_explained_and_no_other() -> None:
    [group] = build(SERVING / "overlays/cpu").the("PrometheusRule")["spec"]["groups"]
    explained = re.findall(r"^\| `(Model\w+)`", GUIDE, flags=re.MULTILINE)
    assert sorted(explained) == sorted(rule["alert"] for rule in group["rules"])


@needs_kustomize
def test_addresses_are_those_of_the_services() -> None:
    services = build(SERVING / "overlays/cpu").of_kind("Service")
    addresses = {
        f"{item['metadata']['name']}.{item['metadata']['namespace']}.svc:{item['spec']['ports'][0]['port']}"
        for item in services
    }
    assert set(re.findall(r"model-server-\w+\.\w+\.svc:\d+", GUIDE)) == addresses


def test_queries_ask_only_for_series_that_exist() -> None:
    series = set(re.findall(r"(:tensorflow:[\w:]+|container_\w+)\{?", GUIDE))
    assert series and series <= SERIES.keys() | CLUSTER_SERIES


def test_no_query_takes_a_probe_for_a_request() -> None:
    assert not takes_probes_for_requests(GUIDE)


def test_every_file_and_folder_named_is_there() -> None:
    named = set(re.findall(r"`((?:foundation|base|monitoring|overlays)/[\w/.-]+)`", GUIDE))
    named |= set(re.findall(r"kubernetes/serving/([\w/]+\w)", GUIDE))
    assert len(named) > 5
    assert [path for path in named if not (SERVING / path).exists()] == []


def test_the_number_of_versions_kept_is_the_recipes_default() -> None:
    [kept] = re.findall(r"`serving\.keep_versions` \((\d+)\)", GUIDE)
    assert int(kept) == ServingConfig().keep_versions


def test_the_placeholder_for_the_image_stands_where_the_guide_says() -> None:
    places = {
        str(path.relative_to(SERVING))
        for path in SERVING.rglob("*.yaml")
        if "sha256:" in path.read_text() or "tensorflow/serving:" in path.read_text()
    }
    assert places == {f"overlays/{overlay}/kustomization.yaml" for overlay in ("cpu", "gpu")}
    assert all(f"`{place}`" in GUIDE for place in places)


@needs_kustomize
def test_what_cpu_has_and_gpu_has_not_is_deleted_on_the_way() -> None:
    def kept(overlay: str) -> set[tuple[str, str]]:
        # A ConfigMap that nobody mounts any more does nothing.
        objects = build(SERVING / "overlays" / overlay).objects
        return {(item["kind"], item["metadata"]["name"]) for item in objects if item["kind"] != "ConfigMap"}

    [(kind, name)] = kept("cpu") - kept("gpu")
    assert kind == "HorizontalPodAutoscaler" and f"`kubectl -n segmentation delete hpa {name}`" in GUIDE


def test_the_claim_to_fill_in_place_of_a_read_only_one_can_be_written() -> None:
    storage = REPOSITORY / "kubernetes/pipeline/storage/production"
    volumes = {
        volume["spec"]["claimRef"]["name"]: volume["spec"]
        for volume in yaml.safe_load_all((storage / "volumes.yaml").read_text())
    }
    [read_only] = re.findall(r'"persistentVolumeClaim": \{"claimName": "([\w-]+)"', GUIDE)
    [(claim, namespace)] = re.findall(r"is the claim `([\w-]+)` in the namespace\s+`([\w-]+)`", GUIDE)
    assert volumes[claim]["claimRef"]["namespace"] == namespace
    assert volumes[claim]["nfs"] | {"readOnly": True} == volumes[read_only]["nfs"]


def test_the_sidecar_that_verifies_models_fits_the_servers_pods() -> None:
    """That of docs/supply-chain.md."""
    deployment = yaml.safe_load((SERVING / "base/deployment.yaml").read_text())
    spec = deployment["spec"]["template"]["spec"]
    [text] = [block for block in blocks(DOCS / "supply-chain.md", "yaml") if "initContainers" in block]
    added = yaml.safe_load(text)
    [container] = spec["initContainers"] = added["initContainers"]
    spec["volumes"] += added["volumes"]
    kubernetes_validate.validate(deployment, "1.37", strict=True)
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted <= {volume["name"] for volume in spec["volumes"]}
    # As restricted as the namespace asks for, and a command that there is.
    server = spec["containers"][0]["securityContext"]
    assert container["securityContext"].items() <= server.items()
    _, _, module, *arguments = container["command"] + container["args"]
    assert module == verify.__name__
    options = verify._parser().parse_args(arguments)
    assert options.to == Path("/verified/segmentation") and options.model_base_path.parts[1] == "models"
