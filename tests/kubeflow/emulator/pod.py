"""A container's view of the world, without a container engine: own mounts in an own namespace.

Only the interpreter, the installed packages and the image's code are to be seen, not this checkout.
"""

import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import own_namespaces
from warm_process import WarmProcess

REPOSITORY: Final = Path(__file__).resolve().parents[3]
REVISION: Final = "what the image was built from"
CODE: Final = "/app"
"""Where the image has the project's code."""
_ENTER: Final = Path(__file__).with_name("enter_pod.py")
_SYSTEM: Final = ("/bin", "/sbin", "/lib", "/lib64", "/usr", "/etc", "/proc", "/sys", "/dev")
# The launcher's volumes (compiler/argocompiler/container.go), new and empty for every pod.
_SCRATCH: Final = ("/tmp", "/s3", "/gcs", "/minio", "/.local", "/.cache", "/.config")
_TIMEOUT_SECONDS: Final = 600


def missing_privilege() -> str:
    """Says why no pod can run here; empty if one can."""
    return own_namespaces.obstacle("mount -t tmpfs tmpfs /mnt")


def install(target: Path) -> Path:
    """Installs the project as the image does, and returns the directory."""
    source = target / "source"
    source.mkdir(parents=True)
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(REPOSITORY / name, source)
    for name in ("pipeline", "components", "models"):
        shutil.copytree(REPOSITORY / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    installed = target / "app"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    subprocess.run([*pip, "--no-build-isolation", f"--target={installed}", str(source)], check=True)
    return installed


@dataclass(frozen=True)
class Pod:
    """One attempt of one task."""

    directory: Path
    """New for every pod; what it writes to its own disk is found here."""
    code: Path
    """What `install` returned."""
    mounts: Mapping[str, Path] = field(default_factory=dict)
    """Folders of persistent volumes by the path at which the pod sees them."""
    environment: Mapping[str, str] = field(default_factory=dict)

    def own(self, path: str) -> Path:
        """Where a file of the pod's own disk lies."""
        return self.directory / path.lstrip("/")

    def volumes(self) -> dict[str, Path]:
        """Folders by the path at which the pod sees them: the launcher's, new and empty, and the claims."""
        scratch = {path: self.own(path) for path in _SCRATCH}
        for folder in scratch.values():
            folder.mkdir(parents=True, exist_ok=True)
        return scratch | dict(self.mounts)

    def run(self, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """Runs a command as the image would; stdout and stderr arrive as one.

        A module's process is forked from one that has imported TFX already, but nothing of the project.
        """
        if list(command[:2]) == ["python", "-m"]:
            process = self.start(command[2:])
            output, _ = process.communicate(_TIMEOUT_SECONDS)
            return subprocess.CompletedProcess(command, process.wait(), output)
        root = self.directory / "root"
        script = f'{self._mounts(root)}\nexec chroot {shlex.quote(str(root))} env -C /tmp "$@"'
        return subprocess.run(
            [*own_namespaces.UNSHARE, "sh", "-euc", script, "pod", *command],
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=_TIMEOUT_SECONDS,
            check=False,
        )

    def start(self, module: Sequence[str], stdout: int | None = None) -> WarmProcess:
        """Starts a module with its arguments, as the image would, and does not wait."""
        root = self.directory / "root"
        entering = [str(_ENTER), self._mounts(root), str(root), *module]
        return WarmProcess(entering, environment=self._environment(), stdout=stdout, merged=True)

    def _environment(self) -> dict[str, str]:
        image = {
            "PATH": f"{sys.prefix}/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "PYTHONPATH": CODE,
            "PYTHONSAFEPATH": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "HOME": "/tmp",
            "RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT": "1",
            "SEGMENTATION_REVISION": REVISION,
        }
        return {**image, **self.environment}

    def _mounts(self, root: Path) -> str:
        root.mkdir(parents=True)
        lines = [f"mount -t tmpfs tmpfs {shlex.quote(str(root))}"]

        def bind(source: Path | str, seen_at: str) -> None:
            target = shlex.quote(f"{root}{seen_at}")
            lines.append(f"mkdir -p {target}; mount --rbind {shlex.quote(str(source))} {target}")

        for path in map(Path, _SYSTEM):
            if path.is_symlink():
                lines.append(f"ln -s {shlex.quote(str(path.readlink()))} {shlex.quote(f'{root}{path}')}")
            elif path.exists():
                bind(path, str(path))
        # Before the rest, which a checkout in /tmp would otherwise hide.
        for seen_at, folder in self.volumes().items():
            bind(folder, seen_at)
        # The virtual environment lies within the checkout: at its path, all the rest of that is empty.
        for prefix in {sys.base_prefix, sys.prefix}:
            bind(prefix, prefix)
        bind(self.code, CODE)
        return "\n".join(lines)
