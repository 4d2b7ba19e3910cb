"""A training on several machines: the job, what its task says of it, and that nothing is left behind."""

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from fake_training import NAME, NAMESPACE, POD, UID, FakeCluster, Moment, environment, pod_template
from waiting import until

from components.errors import StageError
from components.trainer.distribution import is_chief
from pipeline.config import load_recipe
from pipeline.kubeflow import entrypoint
from pipeline.kubeflow.spec.machines import machine_problems, worker_pod
from pipeline.kubeflow.training import follow, job
from pipeline.kubeflow.training.follow import train_on_machines
from pipeline.recipe_errors import RecipeError

IMAGE = f"registry.example/segmentation@sha256:{64 * '1'}"
SHARED = "kubeflow.shared_dir=/data/shared"

RUNNING = Moment(pods={f"{NAME}-node-0-{index}-x": {"phase": "Running"} for index in (0, 1)})
TRAIN_JOB = {"TrainingRuntime": "2.3.0", "TrainJob": "2.3.0"}
OLDEST = {"TrainingRuntime": "2.0.0", "TrainJob": "2.0.0"}
TF_JOB = {"TFJob": "1.9.3"}


def ended(message: str = "", reason: str = "Error", status: int = 1, at: str = "10:00:00") -> dict[str, Any]:
    """Status of a Pod whose container has failed."""
    terminated = {"exitCode": status, "reason": reason, "message": message, "finishedAt": f"2026-03-01T{at}Z"}
    return {"phase": "Failed", "containerStatuses": [{"state": {"terminated": terminated}}]}


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[FakeCluster]:
    """This process is the Trainer's task on it."""
    fake = FakeCluster()
    with fake.running(tmp_path):
        yield fake


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "shared").mkdir()
    return tmp_path / "shared"


Train = Callable[..., None]


@pytest.fixture
def train(cluster: FakeCluster, directory: Path) -> Train:
    def run(*overrides: str, machines: int = 2) -> None:
        recipe = load_recipe("shapes", overrides=[SHARED, *overrides], runs_here=False)
        pod = json.loads(json.dumps(worker_pod(recipe.kubeflow, IMAGE)))
        train_on_machines(machines, pod, {"flag": "{}"}, directory)

    return run


def failure(train: Train) -> str:
    with pytest.raises(StageError) as raised:
        train()
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize("installed", [TRAIN_JOB, OLDEST, TF_JOB])
def test_a_job_is_made_followed_and_removed(
    cluster: FakeCluster, train: Train, installed: dict[str, str]
) -> None:
    cluster.installed = installed
    cluster.script = [Moment(), RUNNING, Moment({"Complete": "", "Succeeded": ""})]
    train()
    assert [made["kind"] for made in cluster.made] == list(installed)
    assert cluster.removed == list(reversed(installed)) and not cluster.objects
    for made in cluster.made:
        owner = {"apiVersion": "v1", "kind": "Pod", "name": POD, "uid": UID}
        assert made["metadata"] == {"name": NAME, "ownerReferences": [owner]}
    assert pod_template(cluster.made[0])["metadata"]["labels"][job.JOB_LABEL] == NAME


@pytest.mark.parametrize("installed", [TRAIN_JOB, TF_JOB])
def test_each_machine_knows_all_and_which_it_is(
    cluster: FakeCluster, train: Train, installed: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.installed, cluster.script = installed, [Moment({"Complete": "", "Succeeded": ""})]
    train(machines=3)
    made = cluster.made[0]
    names = [f"{NAME}-node-0-{index}.{NAME}:2222" for index in range(3)]
    if installed is TF_JOB:
        names = [f"{NAME}-worker-{index}.{NAMESPACE}.svc:2222" for index in range(3)]
        assert made["spec"]["tfReplicaSpecs"]["Worker"]["replicas"] == 3
    else:
        assert cluster.made[1]["spec"]["trainer"]["numNodes"] == 3
        assert made["spec"]["mlPolicy"]["numNodes"] == 3
    for index in range(3):
        monkeypatch.setenv("TF_CONFIG", environment(made, index, 3)["TF_CONFIG"])
        assert is_chief() is (index == 0)
        config = json.loads(os.environ["TF_CONFIG"])
        assert config["cluster"] == {"worker": names}
        assert config["task"] == {"type": "worker", "index": index}


def test_a_machine_has_what_the_trainers_own_pod_would_have(cluster: FakeCluster, train: Train) -> None:
    cluster.script = [Moment({"Complete": ""})]
    train(
        "kubeflow.stages.Trainer={gpus: 2, cpu_limit: 16, node_selector: {gpu: a}, tolerations: [{key: t}]}",
        "kubeflow.secrets=[{secret: hub, key: token, variable: HUB_TOKEN}]",
        "kubeflow.image_pull_secrets=[registry]",
        "kubeflow.volumes=[{claim: data, mount_path: /data, sub_path: a}, {claim: s, mount_path: /serving}]",
    )
    pod = pod_template(cluster.made[0])["spec"]
    [container] = pod["containers"]
    assert container["image"] == IMAGE
    assert container["resources"] == {
        "requests": {"cpu": "4", "memory": "8Gi"},
        "limits": {"cpu": "16", "memory": "32Gi", "nvidia.com/gpu": "2"},
    }
    assert {mount["mountPath"]: mount.get("subPath") for mount in container["volumeMounts"]} == {
        "/data": "a",
        "/serving": None,
        "/dev/shm": None,
    }
    assert [volume["name"] for volume in pod["volumes"]] == ["data", "s", "shared-memory"]
    assert "HUB_TOKEN" not in {variable["name"] for variable in container.get("env", [])}
    assert pod["imagePullSecrets"] == [{"name": "registry"}]
    assert pod["nodeSelector"] == {"gpu": "a"}
    assert pod["tolerations"] == [{"key": "t", "operator": "Exists"}]
    assert pod["serviceAccountName"] == "segmentation-pipeline"


def test_a_runtime_of_which_the_webhook_has_not_heard_yet_is_named_again(
    cluster: FakeCluster, train: Train
) -> None:
    cluster.unheard_of, cluster.script = 1, [Moment({"Complete": ""})]
    train()
    assert cluster.removed == ["TrainJob", "TrainingRuntime"]


def test_what_the_chief_logs_and_how_the_pods_fare_is_said_once(
    cluster: FakeCluster,
    train: Train,
    directory: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Also where NFS fails to read the log once."""
    unschedulable = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "0/3 nodes",
    }
    pulling = {"state": {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling"}}}
    waiting = Moment(
        pods={
            "a": {"phase": "Pending", "conditions": [unschedulable]},
            "b": {"phase": "Pending", "containerStatuses": [pulling]},
        }
    )
    queued = Moment({"Suspended": "TrainJob is suspended"})
    cluster.script = [queued, Moment(), waiting, waiting, RUNNING, RUNNING, Moment({"Complete": ""})]
    lines = iter(["epoch 1/2: loss 1.0\nepo", "ch 2/2: loss 0.5 ü\n", "exporting\n"])
    moment, lives = cluster.moment, set()

    def trained() -> Moment:
        lives.add((directory / "alive").read_text())
        with (directory / "chief.log").open("a") as log:
            log.write(next(lines, "") if moment() is not waiting else "")
        return moment()

    stale, opened = [OSError(errno.ESTALE, "Stale file handle")], Path.open

    def open_nfs(path: Path, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        if mode == "rb" and path.name == "chief.log" and path.exists() and stale:
            raise stale.pop()
        return opened(path, mode, *args, **kwargs)

    monkeypatch.setattr(Path, "open", open_nfs)
    cluster.moment = trained  # type: ignore[method-assign]
    with caplog.at_level("INFO", follow.__name__):
        train()
    assert capsys.readouterr().out == "epoch 1/2: loss 1.0\nepoch 2/2: loss 0.5 ü\nexporting\n"
    assert not stale
    said = [
        record.getMessage().removeprefix(f"{NAME}: ")
        for record in caplog.records
        if record.name == follow.__name__
    ]
    assert len(lives) == len(cluster.script), "shown at each look"
    assert said[0] == "suspended: TrainJob is suspended"
    assert said[1].startswith("no Pods yet") and f"describe trainjob {NAME}" in said[1]
    assert said[2:4] == [
        "Pods: 2 Pending; a waits: Unschedulable: 0/3 nodes; b waits: ImagePullBackOff: Back-off pulling",
        "Pods: 2 Running",
    ]


@pytest.mark.parametrize(
    ("pods", "reason"),
    [
        (
            {
                "a": ended("epoch 1\nfailed: gRPC is gone\n", at="10:00:09"),
                "b": ended("Traceback\nfailed: training diverged in epoch 3\n"),
            },
            "b: training diverged in epoch 3",
        ),
        ({"a": ended(reason="OOMKilled", status=137)}, "a: OOMKilled, exit status 137"),
        (
            {"a": ended("x\nF0000 check failed\n\n", status=134)},
            "a: Error, exit status 134; the last line of its log: F0000 check failed",
        ),
        ({"a": {"phase": "Failed", "reason": "Evicted", "message": "disk"}}, "a: Evicted: disk"),
        ({}, "jobset failed"),
    ],
)
def test_a_failure_is_the_first_pods_in_one_line(
    cluster: FakeCluster, train: Train, pods: dict[str, Any], reason: str
) -> None:
    cluster.script = [RUNNING, Moment({"Failed": "jobset failed"}, pods)]
    assert failure(train) == f"the training on 2 machines failed: {reason}"
    assert not cluster.objects


def test_a_cluster_without_an_operator_is_one_clear_line(cluster: FakeCluster, train: Train) -> None:
    cluster.installed = {}
    message = failure(train)
    assert "kubeflow.stages.Trainer.machines is 2" in message and "TrainJob" in message and "TFJob" in message


@pytest.mark.parametrize("installed", [TRAIN_JOB, TF_JOB])
def test_the_role_has_what_a_training_needs_and_no_more(
    cluster: FakeCluster, train: Train, installed: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    cluster.installed, cluster.script = installed, [RUNNING, Moment({"Complete": "", "Succeeded": ""})]
    groups = {"TrainJob": "trainer.kubeflow.org", "TFJob": "kubeflow.org"}
    needed = {
        *(
            (groups[kind], f"{kind.lower()}s", verb)
            for kind in groups.keys() & installed
            for verb in ("create", "get", "delete")
        ),
        ("", "pods", "list"),
    }
    if installed is TRAIN_JOB:
        needed |= {("trainer.kubeflow.org", "trainingruntimes", verb) for verb in ("create", "delete")}
    for right in sorted(needed):
        full, cluster.rights = cluster.rights, cluster.rights - {right}
        caplog.clear()
        if right[2] == "delete":
            train()
            told = caplog.text
            cluster.objects.clear()
        else:
            told = failure(train)
        assert f'cannot {right[2]} resource "{right[1]}"' in told and "kubernetes/training" in told
        cluster.rights = full
    train()
    assert not cluster.objects


def test_an_object_that_kubernetes_refuses_is_one_clear_line(cluster: FakeCluster, train: Train) -> None:
    cluster.unheard_of = 1000
    message = failure(train)
    assert "there is no TrainJob for a training on 2 machines" in message and "denied the request" in message
    assert cluster.removed == ["TrainingRuntime"], "what was there before it"


def test_a_job_that_somebody_deletes_ends_the_stage(cluster: FakeCluster, train: Train) -> None:
    cluster.script = [RUNNING]
    cluster.created = lambda kind: cluster.objects.pop("TrainJob", None)  # type: ignore[method-assign,assignment]
    assert "somebody has deleted it" in failure(train)


def test_a_training_goes_on_while_the_api_server_is_away(
    cluster: FakeCluster, train: Train, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    cluster.script = [RUNNING, RUNNING, Moment({"Complete": ""})]
    cluster.troubles = {4: 503, 6: 429} | dict.fromkeys(range(8, 20), 503)
    train()
    assert "Kubernetes' API does not answer" in caplog.text


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ([], ("kubeflow.stages.Trainer.machines is 2", "kubeflow.shared_dir is null")),
        ([SHARED, "training.batch_size=15"], ("training.batch_size is 15", "2 devices on 2 machines")),
        (
            [SHARED, "training.batch_size=18", "kubeflow.stages.Trainer.gpus=4"],
            ("training.batch_size is 18", "8 devices on 2 machines"),
        ),
        (
            ["kubeflow.stages.Trainer={machines: 1, gpus: 3}", "training.batch_size=16"],
            ("training.batch_size is 16", "3 devices on one machine", "a multiple of 3"),
        ),
        ([SHARED, "training.jit_compile=true"], ("training.jit_compile is true", "set it to null")),
        (
            [SHARED, "kubeflow.defaults.machines=2"],
            ("kubeflow.defaults.machines is 2", "stages.Trainer.machines"),
        ),
        ([SHARED, "kubeflow.stages.Transform.machines=2"], ("kubeflow.stages.Transform.machines is 2",)),
    ],
)
def test_what_contradicts_several_machines_is_refused(overrides: Sequence[str], words: Sequence[str]) -> None:
    machines = ["kubeflow.stages.Trainer.machines=2", *overrides]
    try:
        recipe = load_recipe("shapes", overrides=machines, runs_here=False)
        problems = list(machine_problems(recipe, IMAGE))
    except RecipeError as error:
        problems = str(error).splitlines()
    [line] = problems
    assert all(word in line for word in words), line


@pytest.mark.parametrize(
    "given", [[SHARED], [SHARED, "kubeflow.stages.Trainer.gpus=8", "training.batch_size=16"]]
)
def test_a_recipe_of_several_machines_is_taken(given: Sequence[str]) -> None:
    overrides = ["kubeflow.stages.Trainer.machines=2", *given]
    config = load_recipe("shapes", overrides=overrides, runs_here=False).kubeflow
    own, machine = config.task_pod("Trainer"), config.stage("Trainer")
    assert (own.gpus, own.cpu_limit, own.timeout_seconds) == (0, "2", machine.timeout_seconds)
    assert machine.gpus == (8 if len(given) > 1 else 1) and machine.cpu_limit == "8"


def test_the_task_that_follows_asks_for_what_other_stages_do() -> None:
    asked = "{node_selector: {arch: amd64}, tolerations: [{key: ml}], memory_limit: 16Gi, gpus: 1}"
    defaults = f"kubeflow.defaults={asked}"
    overrides = [SHARED, "kubeflow.stages.Trainer.machines=2", defaults]
    own = load_recipe("shapes", overrides=overrides, runs_here=False).kubeflow.task_pod("Trainer")
    assert (own.node_selector, own.memory_limit, own.gpus) == ({"arch": "amd64"}, "16Gi", 0)
    assert [toleration.key for toleration in own.tolerations or ()] == ["ml"]


def test_a_job_is_not_started_where_it_is_removed_meanwhile(cluster: FakeCluster, train: Train) -> None:
    def remove_while_it_is_made(kind: str) -> None:
        threading.Thread(target=follow._running[0].remove).start()
        time.sleep(0.5)

    cluster.created = remove_while_it_is_made  # type: ignore[method-assign]
    assert "this task is to end" in failure(train)
    until(lambda: not cluster.objects)


TASK = """
import json, sys
from pathlib import Path
import kubernetes.client, kubernetes.config
from pipeline import interrupt
from pipeline.kubeflow import entrypoint
from pipeline.kubeflow.training import api, follow
host, account, pod, directory = sys.argv[1:]
key = {"authorization": "bearer " + Path(account, "token").read_text()}
kubernetes.client.Configuration.set_default(kubernetes.client.Configuration(host=host, api_key=key))
kubernetes.config.load_incluster_config = lambda: None
api._NAMESPACE_FILE = Path(account, "namespace")
interrupt.leave_when_asked(entrypoint._tidy_up)
follow._PACE_SECONDS = 0.01
follow.train_on_machines(2, json.loads(pod), {}, Path(directory))
"""


def test_a_task_that_is_asked_to_end_takes_the_job_down(
    cluster: FakeCluster, directory: Path, tmp_path: Path
) -> None:
    cluster.script = [RUNNING]
    # So that the main thread misses the job before the process has ended.
    cluster.deleted = lambda kind: time.sleep(1)  # type: ignore[method-assign]
    pod = json.dumps(worker_pod(load_recipe("shapes").kubeflow, IMAGE))
    command = [sys.executable, "-c", TASK, cluster.host, str(tmp_path), pod, str(directory)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as task:
        deadline = time.monotonic() + 100
        while "TrainJob" not in cluster.objects and time.monotonic() < deadline and task.poll() is None:
            time.sleep(0.05)
        task.send_signal(signal.SIGTERM)
        output, _ = task.communicate(timeout=60)
    assert task.returncode == 143, output
    assert b"Traceback" not in output
    assert cluster.removed == ["TrainJob", "TrainingRuntime"]


WORKER = """
import sys
from pathlib import Path
import time
from pipeline.kubeflow.training import worker
worker.PATIENCE_SECONDS, worker._LOOK_SECONDS = float(sys.argv[2]), 0.05
worker._leave_without(Path(sys.argv[1]))
"""


def test_a_machine_ends_when_its_task_shows_no_life(directory: Path) -> None:
    alive = directory / "alive"
    alive.write_text("1")
    command = [sys.executable, "-c", WORKER, str(alive)]
    with subprocess.Popen([*command, "3"], stderr=subprocess.PIPE, text=True) as worker:
        for life in range(16):
            alive.write_text(str(life))
            time.sleep(0.25)
        assert worker.poll() is None, "it was shown life for longer than its patience"
        _, told = worker.communicate(timeout=60)
    assert (worker.returncode, told) == (1, "failed: the task that started this training is gone\n")
    with subprocess.Popen([*command, "1000"], stderr=subprocess.PIPE, text=True) as worker:
        alive.unlink()
        worker.communicate(timeout=60)
    assert worker.returncode == 1, "the task has removed its folder"


@pytest.mark.parametrize(
    "variable", ["", '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 1}}']
)
def test_a_machine_that_sees_nothing_of_the_task_says_so(
    directory: Path, monkeypatch: pytest.MonkeyPatch, variable: str, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TF_CONFIG", variable)
    if not variable:
        monkeypatch.delenv("TF_CONFIG")
    assert entrypoint.main(["--worker", str(directory)]) == 1
    [told] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("failed: ")]
    assert ("ReadWriteMany" if variable else "TF_CONFIG does not say") in told
