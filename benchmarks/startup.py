"""Start-up time of the commands: how long one waits before anything happens.

python -m benchmarks.startup

Three waits: for ``--help``, for a rerun in which every stage is cached, and for the first byte that
``pipeline.predict`` sends to a server.
"""

import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

ACCEPT_SECONDS: Final = 60
"""A client that has not connected by then never will."""


def seconds(*arguments: str) -> float:
    """Returns how long ``pipeline.run_local`` takes with these arguments."""
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "pipeline.run_local", *arguments], stdout=subprocess.DEVNULL, check=True
    )
    return time.perf_counter() - started


def first_byte_seconds() -> float:
    """Returns the time from the start of ``pipeline.predict`` to its first byte on the wire.

    The server is a bare socket: that byte is the client's own, whatever the server would answer.
    """
    with tempfile.TemporaryDirectory() as directory, socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(ACCEPT_SECONDS)
        # The model's labels are asked for first, so no pixel of the image is ever read.
        image = Path(directory, "image.png")
        image.touch()
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        asking = ("--server", address, "--model", "any", "--output", directory)
        started = time.perf_counter()
        client = subprocess.Popen([sys.executable, "-m", "pipeline.predict", str(image), *asking])
        try:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1)
                waited = time.perf_counter() - started
                # While the connection is open: of its end the client would complain.
                client.kill()
        finally:
            client.kill()
            client.wait()
        return waited


def main() -> None:
    print(f"--help: {min(seconds('--help') for _ in range(3)):.2f} s (best of three)")
    waits = [first_byte_seconds() for _ in range(3)]
    print(f"pipeline.predict, first byte on the wire: {min(waits):.2f} s (best of three)")
    with tempfile.TemporaryDirectory() as workdir:
        print(f"shapes, first run: {seconds('--workdir', workdir):.1f} s")
        print(f"shapes, everything cached: {seconds('--workdir', workdir):.1f} s")


if __name__ == "__main__":
    main()
