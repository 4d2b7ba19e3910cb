"""Set-up: installs once, completely, with the right Python. A stand-in for Python notes what it is asked."""

import importlib.util
import os
import shutil
import subprocess
import sys
import time
from ctypes.util import find_library
from pathlib import Path

import markupsafe._speedups
import pytest

_REPOSITORY = Path(__file__).resolve().parents[2]
LOCKS = sorted(f"requirements/{path.name}" for path in (_REPOSITORY / "requirements").glob("*.lock"))
LOCKS_IN_ORDER = [f"requirements/{name}.lock" for name in ("cpu", "gpu", "signing", "dev", "tools")]
"""Each is resolved after those that constrain it."""
_PACKAGES = "lib/python3.11/site-packages"
_CUDA = {
    "cublas": ("libcublas.so.12", "libcublasLt.so.12"),
    "cuda_runtime": ("libcudart.so.12",),
    "cudnn": ("libcudnn.so.9",),
    "cufft": ("libcufft.so.11",),
    "cusolver": ("libcusolver.so.11",),
    "cusparse": ("libcusparse.so.12",),
}
"""The libraries that TensorFlow opens before it looks for GPUs, by package."""
_OPEN_CUDA = """
import ctypes, sys
framework = ctypes.CDLL(sys.argv[1] + "/libtensorflow_framework.so.2", ctypes.RTLD_GLOBAL)
ctypes.CDLL(sys.argv[1] + "/libtensorflow_cc.so.2", ctypes.RTLD_GLOBAL)
status = (ctypes.c_uint64 * 8)()
# tsl::internal::DsoLoader::MaybeTryDlopenGPULibraries(), whose absl::Status is 1 where all is well.
framework._ZN3tsl8internal9DsoLoader26MaybeTryDlopenGPULibrariesEv(status)
sys.exit(status[0] != 1)
"""
_PYTHON = """#!/bin/bash
echo "$*" >> {calls}
case "$*" in
  "-c "*) exit {version_check} ;;
  "-m venv"*)
    [ "$3" != --clear ] || rm -rf "${{@: -1}}"
    mkdir -p "${{@: -1}}/bin"; cp "$0" "${{@: -1}}/bin/python" ;;
  "-m pip install"*gpu.lock) [ ! -e {broken_network} ] && mkdir -p .venv/{packages}/nvidia/cusparse/lib ;;
  "-m pip install"*) [ ! -e {broken_network} ] ;;
esac
"""


class Clone:
    """A clone's set-up files, with a stand-in for Python."""

    def __init__(self, root: Path, python_is_3_11: bool = True):
        self.root = root / "clone"
        self.root.mkdir()
        shutil.copy(_REPOSITORY / "Makefile", self.root)
        (self.root / "requirements").mkdir()
        for name in ("cpu", "gpu", "dev", "tools"):
            name = f"requirements/{name}.lock"
            (self.root / name).write_text(f"# {name}\n")
        self.broken_network = root / "broken"
        self._calls = root / "calls"
        self._bin = root / "bin"
        self._bin.mkdir()
        for tool in (
            "bash",
            "sha256sum",
            "touch",
            "rm",
            "ln",
            "mkdir",
            "cp",
            "grep",
            "sed",
            "awk",
            "find",
            "env",
        ):
            (self._bin / tool).symlink_to(shutil.which(tool) or pytest.skip(f"no {tool}"))
        python = self._bin / "python3"
        python.write_text(
            _PYTHON.format(
                calls=self._calls,
                version_check=0 if python_is_3_11 else 1,
                broken_network=self.broken_network,
                packages=_PACKAGES,
            )
        )
        python.chmod(0o755)

    def make(self, *targets: str) -> subprocess.CompletedProcess[str]:
        self._calls.unlink(missing_ok=True)
        return subprocess.run(
            [shutil.which("make") or pytest.skip("no make"), *targets],
            cwd=self.root,
            env={"PATH": str(self._bin)},
            capture_output=True,
            text=True,
        )

    @property
    def installed(self) -> list[str]:
        """The locks that the last ``make`` installed."""
        calls = self._calls.read_text().splitlines() if self._calls.exists() else []
        return [call.split()[-1] for call in calls if call.startswith("-m pip install")]


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    return Clone(tmp_path)


def test_run_installs_and_starts_and_a_second_run_only_starts(clone: Clone) -> None:
    first = clone.make("run", "ARGS=--recipe pets_unet")
    assert first.returncode == 0, first.stderr
    assert clone.installed == ["requirements/cpu.lock"]
    assert clone.make("run").returncode == 0
    assert clone.installed == []


def test_packages_are_installed_only_with_their_hashes(clone: Clone) -> None:
    clone.make("setup-dev")
    calls = [line for line in clone._calls.read_text().splitlines() if "pip install" in line]
    assert len(calls) == 2
    assert all("--require-hashes" in call and "--no-deps" in call for call in calls)


def test_packages_are_compiled_on_every_core_and_not_by_pip(clone: Clone) -> None:
    clone.make("setup-dev")
    calls = clone._calls.read_text().splitlines()
    installed = [place for place, call in enumerate(calls) if "pip install" in call]
    assert all("--no-compile" in calls[place] for place in installed)
    assert [calls[place + 1] for place in installed] == ["-m compileall -qq -j 0 .venv/lib"] * 2


def test_a_changed_lock_is_installed_and_a_touched_one_is_not(clone: Clone) -> None:
    clone.make("setup-dev")
    os.utime(clone.root / "requirements/cpu.lock")
    clone.make("setup-dev")
    assert clone.installed == []
    (clone.root / "requirements/dev.lock").write_text("pytest\n")
    clone.make("setup-dev")
    assert clone.installed == ["requirements/dev.lock"]
    (clone.root / "requirements/cpu.lock").write_text("tfx\n")
    clone.make("setup-dev")
    assert clone.installed == ["requirements/cpu.lock", "requirements/dev.lock"]


def test_a_gpu_is_set_up_by_its_own_lock_and_stays_so_until_told_otherwise(clone: Clone) -> None:
    clone.make("setup", "TARGET=gpu")
    assert clone.installed == ["requirements/gpu.lock"]
    for targets in (["run"], ["run", "TARGET=gpu"]):
        assert clone.make(*targets).returncode == 0
        assert clone.installed == []
    clone.make("setup-dev")
    assert clone.installed == ["requirements/dev.lock"]


def test_tensorflow_finds_all_of_cudas_libraries_after_a_set_up_for_gpus(
    clone: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The libraries are stand-ins; who looks for them, and where, is TensorFlow."""
    spec = importlib.util.find_spec("tensorflow")
    assert spec is not None and spec.origin is not None
    installed = Path(spec.origin).parent
    assert clone.make("setup", "TARGET=gpu").returncode == 0
    packages = clone.root / ".venv" / _PACKAGES
    (packages / "tensorflow").mkdir()
    for name in ("libtensorflow_framework.so.2", "libtensorflow_cc.so.2"):
        (packages / "tensorflow" / name).symlink_to(installed / name)
    for package, libraries in _CUDA.items():
        (packages / "nvidia" / package / "lib").mkdir(parents=True, exist_ok=True)
        for library in libraries:
            (packages / "nvidia" / package / "lib" / library).symlink_to(markupsafe._speedups.__file__)
    # A toolkit of its own would be found, too.
    monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)
    opened = [sys.executable, "-c", _OPEN_CUDA, str(packages / "tensorflow")]
    assert subprocess.run(opened, capture_output=True, timeout=60).returncode == 0
    (packages / "nvidia/cusparse/lib/libcusolver.so.11").unlink()
    if find_library("cusolver") is None:
        assert subprocess.run(opened, capture_output=True, timeout=60).returncode == 1, (
            "the link is not needed any more"
        )


def test_switching_between_cpu_and_gpu_leaves_nothing_of_the_other(clone: Clone) -> None:
    clone.make("setup-dev")
    left = clone.root / ".venv/left"
    for target in ("gpu", "cpu"):
        left.touch()
        clone.make("setup-dev", f"TARGET={target}")
        assert clone.installed == [f"requirements/{target}.lock", "requirements/dev.lock"]
        assert not left.exists()
        assert clone.make("setup-dev").returncode == 0 and clone.installed == []


def test_a_switch_that_broke_off_is_not_taken_for_complete(clone: Clone) -> None:
    clone.make("setup")
    clone.broken_network.touch()
    assert clone.make("setup", "TARGET=gpu").returncode != 0
    clone.broken_network.unlink()
    # Nor, without a word, for one to the CPU.
    assert clone.make("run").returncode == 0
    assert clone.installed == ["requirements/gpu.lock"]


def test_an_unknown_target_installs_nothing(clone: Clone) -> None:
    result = clone.make("setup", "TARGET=tpu")
    assert result.returncode != 0 and "TARGET=tpu: there are cpu and gpu" in result.stderr
    assert clone.installed == []


def test_an_installation_that_broke_off_is_not_taken_for_complete(clone: Clone) -> None:
    clone.broken_network.touch()
    assert clone.make("run").returncode != 0
    clone.broken_network.unlink()
    assert clone.make("run").returncode == 0
    assert clone.installed == ["requirements/cpu.lock"]


def test_without_python_3_11_one_line_says_so(tmp_path: Path) -> None:
    result = Clone(tmp_path, python_is_3_11=False).make("run")
    assert result.returncode != 0
    said = [line for line in result.stderr.splitlines() if not line.startswith("make:")]
    assert len(said) == 1
    assert said[0].startswith("No Python 3.11 found: install it")


def test_make_alone_lists_the_targets(clone: Clone) -> None:
    result = clone.make()
    assert result.returncode == 0
    for target in ("help", "setup", "run", "test", "lint", "lock", "clean"):
        assert f"make {target} " in result.stdout


def test_locks_name_neither_a_registry_nor_a_place_on_the_machine_that_made_them() -> None:
    for name in LOCKS:
        text = (_REPOSITORY / name).read_text()
        assert "--hash=sha256:" in text
        for word in ("://", "--index", "--find-links", "/tmp", "/home", "/work"):
            assert word not in text, name


@pytest.fixture
def committed(clone: Clone) -> Clone:
    """A clone whose locks were committed ten days ago, and whose tools note what they are asked."""
    for tool in ("git", "date"):
        (clone._bin / tool).symlink_to(shutil.which(tool) or pytest.skip(f"no {tool}"))
    when = f"@{int(time.time()) - 10 * 86400} +0000"
    author = {f"GIT_{who}_{what}": "a@b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    environment = {**os.environ, **author, "GIT_AUTHOR_DATE": when, "GIT_COMMITTER_DATE": when}
    for command in (["init", "-q"], ["add", "requirements"], ["commit", "-qm", "Lock"]):
        subprocess.run(["git", *command], cwd=clone.root, env=environment, check=True)
    for place, script in (
        (".cache/uv/bin/uv", f'#!/bin/bash\necho "uv $*" >> {clone._calls}\n'),
        (".cache/tools/bin/pip-audit", '#!/bin/bash\necho "asked: $*"; [[ "$*" != *dev.lock* ]]\n'),
    ):
        (clone.root / place).parent.mkdir(parents=True)
        (clone.root / place).write_text(script)
        (clone.root / place).chmod(0o755)
    (clone.root / ".cache/tools/installed.sha256").write_text(
        subprocess.run(
            ["sha256sum", "requirements/tools.lock"], cwd=clone.root, capture_output=True, text=True
        ).stdout
    )
    return clone


def test_an_audit_asks_about_every_lock_strictly_and_names_those_at_fault(committed: Clone) -> None:
    result = committed.make("audit", "ARGS=-s osv")
    assert result.returncode != 0
    asked = [line for line in result.stdout.splitlines() if line.startswith("asked: ")]
    assert [line.split("--requirement ")[1] for line in asked] == [
        f"requirements/{name}.lock -s osv" for name in ("cpu", "dev", "gpu", "tools")
    ]
    assert all("--strict --require-hashes --disable-pip" in line for line in asked)
    assert "not without fault: requirements/dev.lock\n" in result.stderr


def test_the_age_of_a_lock_is_said_before_it_is_resolved_and_by_an_audit(committed: Clone) -> None:
    day = time.strftime("%F", time.localtime(time.time() - 10 * 86400))
    for target in ("lock", "audit"):
        said = committed.make(target).stdout
        assert said.startswith(f"requirements/cpu.lock is of {day}, 10 days old\n")
    committed.make("lock")
    resolved = [call.split()[-1] for call in committed._calls.read_text().splitlines()]
    assert resolved == LOCKS_IN_ORDER and sorted(resolved) == LOCKS
    shutil.rmtree(committed.root / ".git")
    assert "days old" not in committed.make("lock").stdout
