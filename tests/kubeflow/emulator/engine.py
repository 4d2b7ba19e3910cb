"""A real container engine: podman with a configuration of its own, and base images that no registry gives.

These are of Debian's packages and this machine's interpreter. They stay in podman's storage, as the
layers do of what is built from them: the first build takes many minutes, the next seconds.
"""

import functools
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from emulator.pod import REPOSITORY, REVISION, Pod

_DEBIAN: Final = "bookworm"
# What the interpreter's own extension modules are linked with.
_LIBRARIES: Final = (
    "ca-certificates,libbz2-1.0,libexpat1,libffi8,liblzma5,libreadline8,libsqlite3-0,libssl3,libuuid1,zlib1g"
)
_TIMEOUT_SECONDS: Final = 600
MARK: Final = "what-no-image-may-hold"
"""A comment of pip's configuration in every build."""
NAME: Final = "localhost/tfx-image-segmentation-tests"
_PYTHON: Final = f"{NAME}/python:{platform.python_version()}"
BASE: Final = f"{_PYTHON}-slim"
BUILDER: Final = f"{_PYTHON}-builder"
# This machine's installation has packages of its own; the official images have neither tests nor bytecode.
_LEFT_OUT: Final = (
    *("./bin", "./share", "./lib/python3.11/site-packages", "./lib/python3.11/idlelib"),
    *("*/__pycache__", "*/test", "*/tests"),
)
_INSTALL_PIP: Final = """
ldconfig
python3 -m ensurepip
cd /usr/local/bin
ln -s pip3 pip
find /usr/local -name __pycache__ -prune -exec rm -r {} +
rm -rf /var/lib/apt/lists/* /var/cache/apt/archives/*.deb
"""
_COMPILER: Final = f"""
FROM {BASE}
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev binutils
"""
# Of the machine's own settings those that mean the same in a container.
_PIP_SETTINGS: Final = ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout")


@functools.cache
def missing() -> str:
    """Says why no image can be built and run here; empty if one can."""
    if os.geteuid() != 0:
        return "no container engine without root"
    if programs := [name for name in ("podman", "runc", "debootstrap", "make") if shutil.which(name) is None]:
        return f"no image is built without {', '.join(programs)}"
    if platform.freedesktop_os_release().get("VERSION_CODENAME") != _DEBIAN or sys.base_prefix == "/usr":
        return f"no base images but from Debian {_DEBIAN} with a Python of its own prefix"
    with tempfile.TemporaryDirectory() as directory:
        answer = Engine.configured(Path(directory)).try_to("info")
        if answer.returncode != 0:
            return f"podman does not answer: {answer.stderr.strip()}"
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-cache-dir"]
        found = subprocess.run([*command, f"--dest={directory}", "wheel"], capture_output=True, check=False)
    return "no package index answers" if found.returncode != 0 else ""


@dataclass(frozen=True)
class Engine:
    """Podman as containers can run in a container: the host's network, few demands."""

    variables: dict[str, str]

    @classmethod
    def configured(cls, directory: Path) -> "Engine":
        """Writes the configuration; the machine's own stays as it is."""
        containers, storage = directory / "containers.conf", directory / "storage.conf"
        # What tidies a container away would read the machine's own configuration of storage, differ about the
        # driver and fail unheard; podman then takes 20 seconds to see that the container has ended.
        containers.write_text(
            '[containers]\nnetns = "host"\ndefault_ulimits = ["nofile=20000:20000", "nproc=30000:30000"]\n'
            '[engine]\nruntime = "runc"\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n'
            f'conmon_env_vars = ["CONTAINERS_STORAGE_CONF={storage}"]\n'
        )
        storage.write_text(
            '[storage]\ndriver = "overlay"\nrunroot = "/run/containers/storage"\n'
            'graphroot = "/var/lib/containers/storage"\n'
        )
        return cls({"CONTAINERS_CONF": str(containers), "CONTAINERS_STORAGE_CONF": str(storage)})

    def try_to(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Runs podman."""
        return subprocess.run(
            ["podman", *arguments],
            env=os.environ | self.variables,
            stdout=subprocess.PIPE,
            text=True,
            errors="replace",
            check=False,
            **{"stderr": subprocess.PIPE, **options},
        )

    def do(self, *arguments: str, **options: Any) -> str:
        """Runs podman, which must succeed, and returns what it prints."""
        done = self.try_to(*arguments, **options)
        assert done.returncode == 0, f"podman {' '.join(arguments)}: {done.stderr}"
        return done.stdout

    def run(self, image: str, command: Sequence[str], *options: str) -> subprocess.CompletedProcess[str]:
        """Runs a command in a container with no more rights than restricted Pod Security leaves a stage.

        Read-only, without a network; stdout and stderr arrive as one.
        """
        rights = [
            "--read-only",
            "--read-only-tmpfs=false",
            "--cap-drop=all",
            "--security-opt=no-new-privileges",
        ]
        # Podman ends the container by itself: a client that is killed would leave it running.
        alone = ["--rm", "--pull=never", "--network=none", f"--timeout={_TIMEOUT_SECONDS}"]
        return self.try_to("run", *alone, *rights, *options, image, *command, stderr=subprocess.STDOUT)

    def make_image(self, source: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Calls ``make image`` as somebody with an index of their own would."""
        with tempfile.TemporaryDirectory() as directory:
            return subprocess.run(
                [
                    "make",
                    "--no-print-directory",
                    "image",
                    "ENGINE=podman",
                    *_index(Path(directory)),
                    *arguments,
                ],
                cwd=source,
                env=os.environ | self.variables,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )

    def prepare_base_images(self) -> None:
        """Builds `BASE` and `BUILDER`, if they are not there."""
        if self.try_to("image", "exists", BASE).returncode != 0:
            with tempfile.TemporaryDirectory(prefix="base-image-") as root:
                _install_debian(Path(root))
                tar = subprocess.Popen(["tar", "-C", root, "-cf", "-", "."], stdout=subprocess.PIPE)
                self.do("import", "-", BASE, stdin=tar.stdout)
                assert tar.wait() == 0
        if self.try_to("image", "exists", BUILDER).returncode != 0:
            self.do("build", "--tag", BUILDER, "--file=-", str(REPOSITORY / "kubernetes"), input=_COMPILER)


@dataclass(frozen=True)
class Image:
    """What an engine has built."""

    engine: Engine
    name: str


@dataclass(frozen=True)
class Container(Pod):
    """A pod that really is one: a container, with no more rights than restricted Pod Security leaves it."""

    code: Image  # type: ignore[assignment]

    def run(self, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """Runs a command in the image; stdout and stderr arrive as one."""
        volumes = self.volumes()
        # As a kubelet does with emptyDir volumes, which everybody may write.
        subprocess.run(["chmod", "-R", "a+rwX", str(self.directory)], check=True)
        options = [
            # Another than the checkout's, so that it is seen whose a report names.
            f"--env=SEGMENTATION_REVISION={REVISION}",
            *(f"--volume={folder}:{seen_at}" for seen_at, folder in volumes.items()),
            *(f"--env={name}={value}" for name, value in self.environment.items()),
        ]
        return self.code.engine.run(self.code.name, command, *options)


def _install_debian(root: Path) -> None:
    run = functools.partial(subprocess.run, check=True, stdout=subprocess.DEVNULL)
    run(["debootstrap", "--variant=minbase", f"--include={_LIBRARIES}", _DEBIAN, str(root)])
    exclude = [f"--exclude={pattern}" for pattern in _LEFT_OUT]
    with subprocess.Popen(
        ["tar", "-C", sys.base_prefix, *exclude, "-cf", "-", "."], stdout=subprocess.PIPE
    ) as tar:
        run(["tar", "-C", str(root / "usr/local"), "-xf", "-"], stdin=tar.stdout)
    for name in ("python", "python3", "python3.11"):
        shutil.copy(Path(sys.base_prefix, "bin", name), root / "usr/local/bin", follow_symlinks=False)
    run(["chroot", str(root), "sh", "-euc", _INSTALL_PIP])


def _index(directory: Path) -> list[str]:
    """What pip has been told on this machine, for `make image`."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    ).stdout
    settings = dict(line.split("=", 1) for line in listed.splitlines())
    # The environment's come first.
    names = {key.rpartition(".")[2]: settings[key].strip("'") for key in sorted(settings, reverse=True)}
    file = directory / "pip.conf"
    lines = (f"{name} = {value}" for name, value in names.items() if name in _PIP_SETTINGS)
    file.write_text("\n".join([f"# {MARK}", "[global]", *lines, ""]))
    return [f"PIP_CONF={file}", *([f"CA_BUNDLE={names['cert']}"] if "cert" in names else [])]
