"""What sets the overlays apart: policy and labels of the model, batching, roll-outs, GPUs."""

import re
import shutil
from pathlib import Path

import pytest
from known_server import BATCHING_PARAMETERS
from manifests import OVERLAYS, SERVING, build, builder

pytestmark = pytest.mark.skipif(builder() is None, reason="neither kubectl nor kustomize is installed")


def test_cpu_and_gpu_serve_the_newest_version() -> None:
    for overlay in ("cpu", "gpu"):
        [model] = build(SERVING / "overlays" / overlay).models
        assert model.model_version_policy.latest.num_versions == 1 and not model.version_labels


def test_canary_serves_the_versions_that_have_a_label() -> None:
    """Others, too, while one is loaded to which a label is to move: a label in use moves only then."""
    canary = build(SERVING / "overlays/canary")
    [model] = canary.models
    assert model.version_labels.keys() == {"stable", "canary"}
    assert {*model.version_labels.values()} <= {*model.model_version_policy.specific.versions}
    assert canary.flags["allow_version_labels_for_unavailable_models"] == "true"


def test_cpu_rolls_without_losing_capacity() -> None:
    strategy = build(SERVING / "overlays/cpu").the("Deployment")["spec"]["strategy"]
    assert strategy == {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}


def test_gpu_pods_take_a_gpu_each_and_roll_without_a_spare_one() -> None:
    gpu = build(SERVING / "overlays/gpu")
    assert gpu.container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert any(item["key"] == "nvidia.com/gpu" for item in gpu.pod["spec"]["tolerations"])
    assert gpu.pod["spec"]["nodeSelector"]
    assert gpu.the("Deployment")["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": 1, "maxSurge": 0}


def test_gpu_batches_within_its_limits() -> None:
    gpu = build(SERVING / "overlays/gpu")
    assert gpu.flags["enable_batching"] == "true"
    config = gpu.file_in_container(gpu.flags["batching_parameters_file"])
    fields = re.findall(r"^(\w+)(?:: | \{ value: )(\d+)", config, flags=re.MULTILINE)
    batching = {name: int(value) for name, value in fields}
    sizes = [int(value) for name, value in fields if name == "allowed_batch_sizes"]
    assert batching.keys() == BATCHING_PARAMETERS
    # TensorFlow Serving refuses sizes that do not end in the largest batch.
    assert sizes == sorted(set(sizes)) and sizes[-1] == batching["max_batch_size"]
    # Requests wait in the server's threads: fewer of them and no batch is ever full.
    waiting = batching["max_batch_size"] * batching["num_batch_threads"]
    assert waiting <= int(gpu.flags["grpc_max_threads"])


def test_cpu_does_not_batch() -> None:
    assert not {"enable_batching", "batching_parameters_file"} & build(SERVING / "overlays/cpu").flags.keys()


def test_each_overlay_has_the_image_that_was_pinned_for_it_in_a_mirror_too(tmp_path: Path) -> None:
    tree = shutil.copytree(SERVING, tmp_path / "serving")
    # As `kustomize edit set image` leaves the entry, at each place where the guide says that one is.
    zeros = f"digest: sha256:{'0' * 64}"
    pinned: dict[str, str] = {}
    for path in sorted(tree.rglob("kustomization.yaml")):
        if zeros in (text := path.read_text()):
            mirror, digest = f"mirror/{path.parent.name}", f"sha256:{len(pinned) + 1:064}"
            path.write_text(text.replace(zeros, f"newName: {mirror}\n    digest: {digest}"))
            pinned[path.parent.name] = f"{mirror}@{digest}"
    images = {overlay: build(tree / "overlays" / overlay).container["image"] for overlay in OVERLAYS}
    assert images == {overlay: pinned.get(overlay, pinned.get("cpu")) for overlay in OVERLAYS}
