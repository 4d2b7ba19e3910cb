"""Runs tests in a network of their own, where nobody else reaches what listens on all addresses.

What they mount, nobody else sees either.
"""

import os
from pathlib import Path
from typing import Final

import own_namespaces
from warm_process import WarmProcess

_ENTER: Final = Path(__file__).with_name("enter_network.py")


def missing_privilege() -> str:
    """Says why there is no such network here; empty if there is."""
    return own_namespaces.obstacle("ip link set lo up", "--net")


def run(module: str, check: str, directory: Path) -> None:
    """Runs a function of a module as a test, fixtures and all, though pytest by itself takes it for none.

    Args:
        module: ``__file__`` of the module.
        check: the function's name, which begins with ``check_``.
        directory: for the temporary directories of its fixtures.

    Raises:
        AssertionError: the test failed; with what pytest printed.
    """
    pytest = ["pytest", "-n0", "-q", "-p", "no:cacheprovider", "--color=no"]
    options = ["-o", "python_functions=check_*", "-m", "", f"--basetemp={directory / 'inside'}"]
    process = WarmProcess(
        [str(_ENTER), *pytest, *options, f"{module}::{check}"],
        environment=os.environ | {"PYTEST_ADDOPTS": ""},
        merged=True,
    )
    try:
        output, _ = process.communicate()
        assert process.wait() == 0, output[-20_000:]
    finally:
        process.kill()
