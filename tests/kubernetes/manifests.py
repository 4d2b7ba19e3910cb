"""What ``kubectl apply -k`` would send: the objects of a kustomization, and how to find things in them."""

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

SERVING = Path(__file__).resolve().parents[2] / "kubernetes" / "serving"
OVERLAYS = ("cpu", "gpu", "canary")

Object = dict[str, Any]


def builder() -> list[str] | None:
    """The command that builds a kustomization, None where there is none."""
    if shutil.which("kubectl"):
        return ["kubectl", "kustomize"]
    return ["kustomize", "build"] if shutil.which("kustomize") else None


@cache
def build(directory: Path) -> "Manifests":
    """Builds a kustomization; the build's own message is the error where it fails."""
    command = builder()
    assert command, "neither kubectl nor kustomize is installed"
    result = subprocess.run([*command, str(directory)], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    assert "deprecated" not in result.stderr.lower(), result.stderr
    return Manifests([document for document in yaml.safe_load_all(result.stdout) if document])


class Manifests:
    """The objects of one kustomization."""

    def __init__(self, objects: list[Object]):
        self.objects = objects

    def of_kind(self, kind: str) -> list[Object]:
        return [item for item in self.objects if item["kind"] == kind]

    def the(self, kind: str, name: str | None = None) -> Object:
        """The only object of a kind (and name)."""
        found = [item for item in self.of_kind(kind) if name in (None, item["metadata"]["name"])]
        assert len(found) == 1, f"{len(found)} objects of kind {kind}, name {name}"
        return found[0]

    @property
    def pod(self) -> Object:
        """The Deployment's Pod template: metadata and spec."""
        return self.the("Deployment")["spec"]["template"]

    @property
    def container(self) -> Object:
        """The server's container, the Pod's only one."""
        [container] = self.pod["spec"]["containers"]
        return container

    @property
    def flags(self) -> dict[str, str]:
        """The server's flags; given twice is an error."""
        pairs = [argument.removeprefix("--").split("=", 1) for argument in self.container["args"]]
        names = [name for name, _ in pairs]
        assert len(names) == len(set(names)), names
        return dict(pairs)

    def file_in_container(self, path: str) -> str:
        """Content of a file that a ConfigMap puts under a path in the container."""
        volumes = {volume["name"]: volume for volume in self.pod["spec"]["volumes"]}
        for mount in self.container["volumeMounts"]:
            if Path(path).parent == Path(mount["mountPath"]):
                config_map = self.the("ConfigMap", volumes[mount["name"]]["configMap"]["name"])
                return config_map["data"][Path(path).name]
        raise AssertionError(f"nothing is mounted at {Path(path).parent}")

    @property
    def models(self) -> list[model_server_config_pb2.ModelConfig]:
        """The models of --model_config_file, read as TensorFlow Serving reads it."""
        text = self.file_in_container(self.flags["model_config_file"])
        config = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
        return list(config.model_config_list.config)

    def container_port(self, port: int | str) -> int:
        """Number of a container's port, given its name or number; it must be declared."""
        declared = {item["name"]: item["containerPort"] for item in self.container["ports"]}
        assert port in declared or port in declared.values(), f"{port} is not among {declared}"
        return declared[port] if isinstance(port, str) else port

    def selected_by(self, selector: Mapping[str, str]) -> bool:
        """Whether a selector (matchLabels) finds the server's Pods."""
        assert selector, "an empty selector finds every Pod"
        return selector.items() <= self.pod["metadata"]["labels"].items()


def strings(value: object) -> Iterator[str]:
    """All strings inside nested lists and mappings."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from strings(item)
