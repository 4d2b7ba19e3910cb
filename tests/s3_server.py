"""An S3 server over a folder: versitygw, whose buckets are the folders right in it.

go install github.com/versity/versitygw/cmd/versitygw@v1.8.0
"""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from waiting import until_open

_KEY, _SECRET = "tester", "secret-of-the-test"


@contextmanager
def serving(root: Path) -> Iterator[int]:
    """Serves a folder, and yields the port on this machine; skips the test where there is no server."""
    path = os.pathsep.join((os.environ["PATH"], os.path.expanduser("~/go/bin")))
    if (server := shutil.which("versitygw", path=path)) is None:
        pytest.skip("no versitygw")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    command = [server, "--port", f"127.0.0.1:{port}", "--quiet", "posix", "--nometa", str(root)]
    process = subprocess.Popen(
        command,
        env=os.environ | {"ROOT_ACCESS_KEY": _KEY, "ROOT_SECRET_KEY": _SECRET},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until_open(port)
        yield port
    finally:
        process.terminate()
        process.wait()


def environment(port: int) -> dict[str, str]:
    """Returns what a client's environment must say."""
    return {
        "AWS_ACCESS_KEY_ID": _KEY,
        "AWS_SECRET_ACCESS_KEY": _SECRET,
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
