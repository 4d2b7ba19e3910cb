"""The training operators' own schemas of their objects, which an API server checks, without unknown fields.

training_crds.json is made of ``manifests/base/crds`` in github.com/kubeflow/trainer, releases 2.0.0 and 2.3.0
and, of the Training Operator that it was before, 1.9.3:

    python tests/kubeflow/training_crds.py RELEASE=FILE.yaml … > tests/kubeflow/training_crds.json

Left out: descriptions, rules in CEL, statuses, what nothing of this project sets, and the schema of Pods, for
which there is Kubernetes' own.
"""

import json
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import yaml

_LEFT_OUT = {
    *("status", "initializer", "podSpecOverrides", "podTemplateOverrides", "runtimePatches"),
    *("volumeClaimPolicies", "podGroupPolicy", "podFailurePolicy", "coordinator", "torch", "mpi", "flux"),
}
_KEYWORDS = {
    *("type", "items", "required", "enum", "minimum", "maximum", "minLength", "maxLength", "maxItems"),
    *("minItems", "pattern", "properties", "additionalProperties", "x-kubernetes-preserve-unknown-fields"),
}
_KUBERNETES = "1.30"


@cache
def schemas() -> dict[str, dict[str, Any]]:
    """By kind, then by release."""
    loaded: dict[str, dict[str, Any]] = json.loads(Path(__file__).with_suffix(".json").read_text())
    return loaded


def check(given: dict[str, Any], release: str) -> None:
    """Raises what the API server would refuse, or drop, of an object."""
    jsonschema.validate(given, schemas()[given["kind"]][release])
    for template in _pod_templates(given["spec"]):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"} | template["metadata"]}
        kubernetes_validate.validate(pod | {"spec": template["spec"]}, _KUBERNETES, strict=True)


def _pod_templates(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        if "containers" in value.get("spec", {}):
            yield value
        for inner in value.values():
            yield from _pod_templates(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _pod_templates(inner)


def _extract(schema: dict[str, Any]) -> dict[str, Any]:
    properties = schema.get("properties", {})
    if "containers" in properties:
        return {"type": "object"}
    kept: dict[str, Any] = {key: value for key, value in schema.items() if key in _KEYWORDS}
    if "properties" in kept:
        kept["properties"] = {
            key: _extract(value) for key, value in properties.items() if key not in _LEFT_OUT
        }
        kept.setdefault("additionalProperties", False)
    for key in ("items", "additionalProperties"):
        if isinstance(kept.get(key), dict):
            kept[key] = _extract(kept[key])
    return kept


if __name__ == "__main__":
    made: dict[str, dict[str, Any]] = {}
    for argument in sys.argv[1:]:
        release, _, file = argument.partition("=")
        crd = yaml.safe_load(Path(file).read_text())["spec"]
        [stored] = [version for version in crd["versions"] if version["storage"]]
        made.setdefault(crd["names"]["kind"], {})[release] = _extract(stored["schema"]["openAPIV3Schema"])
    json.dump(made, sys.stdout, separators=(",", ":"), sort_keys=True)
    print()
