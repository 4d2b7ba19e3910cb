"""Kubernetes' names, quantities and paths as types for the recipe's keys."""

import re
from collections.abc import Callable
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator

_MEBIBYTE: Final = 2**20
SHARED_MEMORY: Final = "shared-memory"
"""The volume that the GPUs of a pod share."""
_TAKEN_VOLUMES: Final = (
    *(SHARED_MEMORY, "kfp-launcher", "gcs-scratch", "s3-scratch", "minio-scratch"),
    *("dot-local-scratch", "dot-cache-scratch", "dot-config-scratch"),
    # The certificates of a cluster's own authority, as 2.16 and newer, 2.15 and older backends call them.
    *("custom-ca", "ca-secret", "ca-bundle"),
    # Of the development branch of 3.0, which has no ML Metadata.
    *("kfp-launcher-token", "kfp-launcher-config"),
    *("var-run-argo", "tmp-dir-argo", "input-artifacts", "argo-env-config"),
)
"""This project's own, KFP's (as its mounts) and Argo's (``workflow/controller/workflowpod.go``)."""
_TAKEN_MOUNTS: Final = (
    *("/s3", "/gcs", "/minio", "/.local", "/.cache", "/.config", "/kfp-launcher", "/kfp/certs"),
    *("/var/run/secrets/kfp", "/etc/kfp/launcher-config", "/var/run/argo", "/argo/config"),
)
"""KFP's (``addContainerExecutorTemplate`` and ``ConfigureCustomCABundle`` in the backend's
``v2/compiler/argocompiler/{container,common}.go``) and Argo's."""


_QUANTITY: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)([a-zA-Z]*)")
_FACTORS: Final = {
    **{"": 1.0, "m": 1e-3},
    **{"k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18},
    **{"Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50, "Ei": 2.0**60},
}


def parse_quantity(text: str) -> float:
    """Returns the number of cores or bytes of ``500m``, ``2`` or ``8Gi``.

    Kubernetes' own client parses them, too, but takes over a second to be imported, and a recipe is checked
    in less.

    Raises:
        ValueError: it is no quantity.
    """
    match = _QUANTITY.fullmatch(text)
    if match is None or match[2] not in _FACTORS:
        raise ValueError("not a quantity of Kubernetes; write it as '500m', '2' or '8Gi'")
    return float(match[1]) * _FACTORS[match[2]]


def _is_cpu(text: str) -> str:
    if parse_quantity(text) == 0 or not text.removesuffix("m").replace(".", "").isdigit():
        raise ValueError("no number of CPUs above 0; write it as '500m' or '2'")
    return text


def _is_memory(text: str) -> str:
    if parse_quantity(text) < _MEBIBYTE:
        raise ValueError("that is less than a mebibyte; write it as '512Mi' or '8Gi'")
    return text


def _as_text(value: Any) -> Any:
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def matching(pattern: str, requirement: str) -> AfterValidator:
    """Has a text be refused, with the requirement as the reason, unless all of it matches."""
    compiled = re.compile(pattern)

    def check(text: str) -> str:
        if compiled.fullmatch(text) is None:
            raise ValueError(requirement)
        return text

    return AfterValidator(check)


def _outside_of(taken: tuple[str, ...], requirement: str) -> Callable[[str], str]:
    def check(text: str) -> str:
        if text in taken:
            raise ValueError(requirement)
        return text

    return check


CpuQuantity = Annotated[str, BeforeValidator(_as_text), AfterValidator(_is_cpu)]
"""``500m`` or ``2``."""
MemoryQuantity = Annotated[str, BeforeValidator(_as_text), AfterValidator(_is_memory)]
"""``512Mi`` or ``8Gi``."""
DnsName = Annotated[
    str,
    matching(
        r"(?=.{1,253}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*",
        "Kubernetes names its objects in lower-case letters, digits, hyphens and dots",
    ),
]
"""The name of a Kubernetes object."""
VolumeName = Annotated[
    str,
    matching(
        r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?",
        "KFP calls a pod's volume after its claim or Secret, so that one's name is up to 63 lower-case "
        "letters, digits and hyphens",
    ),
    AfterValidator(
        _outside_of(
            _TAKEN_VOLUMES,
            "KFP calls a pod's volume after its claim or Secret, and another volume of pods is called so; "
            "choose another name",
        )
    ),
]
"""The name of a claim or Secret that is mounted."""
SecretKey = Annotated[
    str, matching(r"[-._a-zA-Z0-9]{1,253}", "a Secret's keys are of letters, digits and - _ . only")
]
LabelKey = Annotated[
    str,
    matching(
        r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?",
        "Kubernetes labels its nodes with keys such as topology.kubernetes.io/zone",
    ),
]
LabelValue = Annotated[
    str,
    matching(
        r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?",
        "a label's value is up to 63 letters, digits and - _ .",
    ),
]
FolderPath = Annotated[
    str,
    matching(
        # In ``shared_dir`` stages read what matches ``PATH/…/*``.
        r"(?!.*/\.\.?(/|$))(?!.*[*?\[\\])/[^:]*[^:/]",
        "give an absolute path other than /, without . and .., without * ? [ and \\ "
        "and without a slash at its end",
    ),
]
"""A folder as the containers see it."""
MountPath = Annotated[
    FolderPath,
    AfterValidator(
        _outside_of(_TAKEN_MOUNTS, "KFP or Argo mounts something of its own there; choose another path")
    ),
]
SubPath = Annotated[
    str,
    matching(
        r"(?!(.*/)?\.\.(/|$))[^/].*",
        "give the path of a folder within the volume, without .. and without / at its start",
    ),
]
ResourceName = Annotated[
    str, matching(r"[a-z0-9.-]+/[A-Za-z0-9._-]+", "Kubernetes knows GPUs by names such as nvidia.com/gpu")
]
ImageName = Annotated[
    str,
    matching(
        # The grammar of github.com/distribution/reference.
        r"([A-Za-z0-9][-A-Za-z0-9.]*(:[0-9]+)?/)?"
        r"[a-z0-9]+(([._]|__|-+)[a-z0-9]+)*(/[a-z0-9]+(([._]|__|-+)[a-z0-9]+)*)*"
        r"(:[A-Za-z0-9_][-A-Za-z0-9_.]{0,127})?(@sha256:[0-9a-f]{64})?",
        "give an image's name, in lower case, such as REGISTRY/name:TAG or REGISTRY/name@sha256:DIGEST",
    ),
]
