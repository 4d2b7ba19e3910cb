"""Runs tests in a network of their own, where nobody else reaches what listens on all addresses.

What they mount, nobody else sees either.
"""

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

_NETWORK = ("unshare", "--user", "--map-root-user", "--net", "--mount")


@functools.cache
def missing_privilege() -> str:
    """Says why there is no such network here; empty if there is."""
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        return "no network of its own without unshare (util-linux) and ip (iproute2)"
    trial = subprocess.run([*_NETWORK, "true"], capture_output=True, text=True, check=False)
    return f"no network of its own: {trial.stderr.strip()}" if trial.returncode else ""


def run(module: str, check: str, directory: Path) -> None:
    """Runs a function of a module as a test, fixtures and all, though pytest by itself takes it for none.

    Args:
        module: ``__file__`` of the module.
        check: the function's name, which begins with ``check_``.
        directory: for the temporary directories of its fixtures.

    Raises:
        AssertionError: the test failed; with what pytest printed.
    """
    pytest = [sys.executable, "-m", "pytest", "-n0", "-q", "-p", "no:cacheprovider", "--color=no"]
    options = ["-o", "python_functions=check_*", "-m", "", f"--basetemp={directory / 'inside'}"]
    command = [*pytest, *options, f"{module}::{check}"]
    done = subprocess.run(
        [*_NETWORK, "sh", "-euc", 'ip link set lo up; exec "$@"', "sh", *command],
        env=os.environ | {"PYTEST_ADDOPTS": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    assert done.returncode == 0, done.stdout[-20_000:]
