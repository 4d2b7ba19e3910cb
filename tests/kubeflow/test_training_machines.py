"""Two machines, each a process of what the job's Pods are told, against one; one of them dies in between."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.forkserver import ensure_running
from pathlib import Path
from typing import Any

import conftest
import numpy as np
import own_namespaces
import pytest
from conftest import Pair, RunTransform, TransformRun, disc_pair
from emulator import driver, launcher
from emulator.package import LoadedPackage
from emulator.stores import MetadataStore
from fake_training import NAME, FakeCluster, Moment, environment, pod_template
from kfp.pipeline_spec.pipeline_spec_pb2 import RuntimeArtifact
from tfx.components.trainer.fn_args_utils import FnArgs
from warm_process import WarmProcess

from components.trainer import run_fn as trainer
from pipeline.config import Recipe, load_recipe
from pipeline.kubeflow import entrypoint, uris
from pipeline.kubeflow.spec.compile import compile_pipeline

EPOCHS = 3
RECIPE = f"""
name: discs
dataset: {{layout: folder, root: /data/discs, images: "*.png", masks: "*.png", classes: [ground, disc]}}
transform: {{height: 16, width: 16, resize: stretch}}
model: {{filters: 4, depth: 2}}
training: {{epochs: {EPOCHS}, batch_size: 4, learning_rate: 0.01, early_stopping_patience: null}}
"""
IMAGE = f"registry.example/segmentation@sha256:{64 * '1'}"


MEMBERS = [f"{NAME}-node-0-{index}" for index in (0, 1)]
NETWORKS = f"""
printf '127.0.0.1 localhost\\n10.9.0.1 {MEMBERS[0]}.{NAME}\\n10.9.0.2 {MEMBERS[1]}.{NAME}\\n' > "$1"
mount --bind "$1" /etc/hosts
unshare --net sleep 1000 >&2 & other=$!
trap "kill $other" EXIT
while [ "$(readlink /proc/$other/ns/net)" = "$(readlink /proc/$$/ns/net)" ]; do sleep 0.01; done
ip link add pod type veth peer name pod netns $other
ip link set lo up; ip addr add 10.9.0.1/24 dev pod; ip link set pod up
nsenter --net=/proc/$other/ns/net sh -euc \
    'ip link set lo up; ip addr add 10.9.0.2/24 dev pod; ip link set pod up'
echo $$ $other
cat > /dev/null
"""
"""Two networks with a wire between them, in which the machines have the names that DNS would know; says whose
they are, and takes them down when asked."""


MISSING = own_namespaces.obstacle("ip link add pod type veth peer name other", "--net")
pytestmark = [
    pytest.mark.timeout(900),  # minutes where the processors have other work
    pytest.mark.skipif(bool(MISSING), reason=MISSING),
]


@contextmanager
def networks(hosts: Path) -> Iterator[list[str]]:
    """The ids of two processes, each in a network of its own."""
    command = [*own_namespaces.UNSHARE, "--net", "sh", "-euc", NETWORKS, "networks", str(hosts)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdin and holder.stdout
        yield holder.stdout.readline().split()
        holder.stdin.close()


class Machines(FakeCluster):
    """A cluster whose Pods are processes of this machine, each in the network of another process."""

    def __init__(self, home: Path, others: list[str]):
        super().__init__()
        self._networks = others
        # Before the task has temporary files elsewhere: a socket's path must not be long.
        ensure_running()
        self.dying = False
        """Whether the second machine is to be killed after an epoch."""
        self._home = home
        self._processes: dict[str, WarmProcess] = {}

    def created(self, kind: str) -> None:
        if kind != "TrainJob":
            return
        [runtime, job] = self.made[-2:]
        machines = job["spec"]["trainer"]["numNodes"]
        [container] = pod_template(runtime)["spec"]["containers"]
        assert container["command"][:2] == ["python", "-m"]
        for index, name in zip(range(machines), MEMBERS, strict=True):
            variables = environment(runtime, index, machines)
            epochs = "1" if self.dying and index == 1 else ""
            program = [str(Path(__file__).with_name("machine.py")), self._networks[index], epochs]
            command = [*program, *container["command"][2:]]
            with (self._home / f"{name}.log").open("wb") as log:
                self._processes[name] = WarmProcess(
                    command,
                    environment={"PATH": "/usr/bin:/bin", "HOME": str(self._home), **variables},
                    stdout=log.fileno(),
                    merged=True,
                )

    def deleted(self, kind: str) -> None:
        for process in self._processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self._processes.values():
            process.wait(10)
        self._processes.clear()

    def moment(self) -> Moment:
        ended = {name: process.poll() for name, process in self._processes.items()}
        pods: dict[str, Any] = {}
        for name, status in ended.items():
            phase = {None: "Running", 0: "Succeeded"}.get(status, "Failed")
            text = (self._home / f"{name}.log").read_text(errors="replace")
            code = status if status is None or status >= 0 else 128 - status
            terminated = {"exitCode": code, "reason": "Error", "message": text[-2048:], "finishedAt": "x"}
            pods[name] = {"phase": phase, "containerStatuses": [{"state": {"terminated": terminated}}]}
        if any(ended.values()):
            return Moment({"Failed": "jobset failed"}, pods)
        if pods and all(status == 0 for status in ended.values()):
            return Moment({"Complete": "all jobs completed"}, pods)
        return Moment({}, pods)


@dataclass(frozen=True)
class Training:
    """What a training on two machines has left behind."""

    task: Path
    """Where the launcher has its folders."""
    checkpoints: Path
    shared: Path
    first: list[str]
    """The task's output, of the attempt in which a machine died."""
    second: list[str]
    output: dict[str, Any]
    cluster: Machines


def whole_pair(seed: int) -> Pair:
    """Without pixels that do not count, over whose numbers machines average in a way of their own."""
    pair = disc_pair(seed)
    return Pair(pair.image, (pair.class_ids == 1).astype(np.uint8))


@pytest.fixture(scope="module")
def run(run_transform: RunTransform) -> TransformRun:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(conftest, "disc_pair", whole_pair)
        return run_transform(height=16, width=16, resize="stretch")


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    directory = tmp_path_factory.mktemp("recipe")
    (directory / "discs.yaml").write_text(RECIPE)
    keys = {
        "stages.Trainer": "{machines: 2, gpus: 0}",
        "shared_dir": f"{directory}/shared",
        "checkpoint_dir": f"{directory}/checkpoints",
        "volumes": f"[{{claim: data, mount_path: {directory}}}, {{claim: serving, mount_path: /serving}}]",
    }
    overrides = [f"kubeflow.{key}={value}" for key, value in keys.items()]
    return load_recipe(str(directory / "discs.yaml"), overrides=overrides, runs_here=False)


@pytest.fixture(scope="module")
def together(run: TransformRun, recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Training:
    """Two attempts at the package's Trainer task."""
    root = tmp_path_factory.mktemp("task")
    package = LoadedPackage.parse(
        compile_pipeline(recipe, image=IMAGE, pipeline_root="s3://artifacts/discs").to_yaml()
    )
    told: list[list[str]] = []
    with ExitStack() as stack:
        cluster = Machines(root, stack.enter_context(networks(root / "hosts")))
        stack.enter_context(cluster.running(root))
        patched = stack.enter_context(pytest.MonkeyPatch.context())
        patched.setattr(uris, "_LOCAL_ROOTS", {"s3://": f"{root}/s3/"})
        arguments, output_file = task_arguments(package, run, root)
        label = package.spec.components["Trainer"].executor_label
        for name, value in package.environment(label).items():
            patched.setenv(name, value)
        for dying, status in ((True, 1), (False, 0)):
            cluster.dying = dying
            with (root / "out").open("w") as out:
                patched.setattr(sys, "stdout", out)
                patched.setattr(sys, "stderr", out)
                assert entrypoint.main(arguments) == status, (root / "out").read_text()
            told.append((root / "out").read_text().splitlines())
    assert recipe.kubeflow.shared_dir and recipe.kubeflow.checkpoint_dir
    [checkpoints] = Path(recipe.kubeflow.checkpoint_dir, "discs").glob("training-*")
    shared = Path(recipe.kubeflow.shared_dir)
    output = json.loads(output_file.read_text())
    return Training(root, checkpoints, shared, told[0], told[1], output, cluster)


def task_arguments(package: LoadedPackage, run: TransformRun, root: Path) -> tuple[list[str], Path]:
    """What the launcher calls the entrypoint with, and where that writes its output."""
    spec = package.spec
    task = spec.root.dag.tasks["Trainer"]
    component = spec.components[task.component_ref.name]
    store = MetadataStore()
    produced: dict[str, dict[str, int]] = {}
    for source in task.inputs.artifacts.values():
        origin = source.task_output_artifact
        key = origin.output_artifact_key
        uri = f"s3://artifacts/{key}"
        artifact = RuntimeArtifact(uri=uri, type={"schema_title": "system.Artifact"})
        if key == "examples":
            artifact.metadata.update({"split_names": '["train", "val"]'})
        produced[origin.producer_task] = {key: store.record(key, artifact).id}
        folder = {"examples": run.examples, "transform_graph": run.graph}[key]
        target = Path(root, "s3/artifacts", key)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(folder)
    answers = {"data-fingerprint": {"fingerprint": "1"}}
    parameters = driver.root_parameters(spec, {})
    given = driver.resolve_inputs(task, component, parameters, produced, answers, store)
    driver.provision_outputs(given, "s3://artifacts/run", "Trainer", component)
    given.outputs.output_file = f"{root}{given.outputs.output_file}"
    container = package.containers[component.executor_label]
    return launcher._with_placeholders(list(container.args), given, component), Path(
        given.outputs.output_file
    )


@pytest.fixture(scope="module")
def alone(run: TransformRun, recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoints of the same training by this process."""
    root = tmp_path_factory.mktemp("alone")
    settings = recipe.trainer_settings(checkpoint_dir=str(root / "checkpoints"))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(trainer, "export", lambda *_: None)
        trainer.run_fn(
            FnArgs(
                train_files=[str(run.examples / "Split-train" / "*")],
                eval_files=[str(run.examples / "Split-val" / "*")],
                transform_output=str(run.graph),
                serving_model_dir=str(root / "model"),
                model_run_dir=str(root / "run"),
                custom_config={"settings": settings},
            )
        )
    [checkpoints] = (root / "checkpoints/discs").glob("training-*")
    return checkpoints


def epochs_of(checkpoints: Path) -> list[dict[str, float]]:
    found: list[dict[str, float]] = json.loads((checkpoints / "state.json").read_text())["epochs"]
    return found


def test_two_machines_have_the_weights_of_one_though_one_died(together: Training, alone: Path) -> None:
    [mine], [theirs] = (list(where.glob("*.npz")) for where in (alone, together.checkpoints))
    assert mine.name == theirs.name
    with np.load(mine) as expected, np.load(theirs) as found:
        assert len(expected.files) > 10
        for name in expected.files:
            np.testing.assert_allclose(found[name], expected[name], atol=1e-5)


def test_two_machines_measure_what_one_does(together: Training, alone: Path) -> None:
    mine, theirs = epochs_of(alone), epochs_of(together.checkpoints)
    assert len(mine) == len(theirs) == EPOCHS
    for one, other in zip(mine, theirs, strict=True):
        for key in ("loss", "iou_at_input_size", "val_loss", "val_iou_at_input_size"):
            assert other[key] == pytest.approx(one[key], rel=1e-4), key


def test_a_machine_that_dies_fails_the_attempt_in_one_line(together: Training) -> None:
    [line] = [line for line in together.first if line.startswith("failed: ")]
    assert line.startswith(f"failed: the training on 2 machines failed: {MEMBERS[1]}: Error, exit status 137")


def test_the_next_attempt_goes_on_and_repeats_what_the_chief_logs(together: Training) -> None:
    def told(lines: list[str]) -> list[str]:
        return re.findall(r"(?:epoch [0-9]/|going on after epoch [0-9])", "\n".join(lines))

    assert told(together.first) == ["epoch 1/"]
    assert told(together.second) == ["going on after epoch 1", "epoch 2/", "epoch 3/"]


def test_the_chiefs_model_is_the_tasks(together: Training) -> None:
    artifacts = {key: members["artifacts"][0] for key, members in together.output["artifacts"].items()}
    assert artifacts.keys() == {"model", "model_run"}
    assert all(artifact["uri"].startswith("s3://artifacts/run/") for artifact in artifacts.values())
    for key, name in (("model", "saved_model.pb"), ("model_run", "history.json")):
        folder = Path(artifacts[key]["uri"].replace("s3://", f"{together.task}/s3/"))
        assert name in {path.name for path in folder.rglob("*")}


def test_nothing_is_left_on_the_cluster_or_in_the_shared_folder(together: Training) -> None:
    assert not together.cluster.objects
    assert together.cluster.removed == ["TrainJob", "TrainingRuntime"] * 2
    assert not list(together.shared.iterdir())
