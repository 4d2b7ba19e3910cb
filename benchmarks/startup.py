"""Start-up time of the commands: how long one waits before anything happens.

    python -m benchmarks.startup [--rounds 3] [--set KEY=VALUE]

For ``--help``; for the first byte that ``pipeline.predict`` sends to a server; in a run of ``shapes``, for
the first stage, the first training step, the first epoch, the server that tries the model, and the end; and
for a rerun in which every stage is cached.
"""

import json
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Final

from pipeline.command_line import command_parser

ACCEPT_SECONDS: Final = 60
"""A client that has not connected by then never will."""


def help_seconds() -> float:
    """Returns how long ``pipeline.run_local --help`` takes."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "pipeline.run_local", "--help"]
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
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


def run_waits(*arguments: str) -> dict[str, float]:
    """Returns the seconds after which a run came to where one waits for it; not for a cached stage."""
    started = time.perf_counter()
    waits: dict[str, float] = {}
    command = [sys.executable, "-m", "pipeline.run_local", "--json", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        for line in run.stdout:
            now = time.perf_counter() - started
            match json.loads(line):
                case {"event": "stage_started", "number": number}:
                    if number == 1:
                        waits["the first stage begins after"] = now
                case {"event": "progress", "step": step, "steps": steps}:
                    reached = "epoch is over" if step == steps else "training step is done"
                    waits.setdefault(f"the first {reached} after", now)
                case {
                    "event": "finished",
                    "exit_code": 0,
                    "summary": {"serving_check": check, "stages": stages},
                }:
                    waits["all is done after"] = now
                    if not next(stage["cached"] for stage in stages if stage["name"] == "ServingCheck"):
                        waits["of which the server that tries the model is ready in"] = check["load_seconds"]
                case {"event": "finished", "log": log}:
                    raise RuntimeError(f"the run failed: see {log}")
    return waits


def main(argv: Sequence[str] | None = None) -> None:
    parser = command_parser("benchmarks.startup", __doc__)
    parser.add_argument("--rounds", type=int, default=3, help="of which the medians are printed")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="changes to shapes")
    args = parser.parse_args(argv)
    rounds = range(args.rounds)
    print(f"--help: {median(help_seconds() for _ in rounds):.2f} s", flush=True)
    first_byte = median(first_byte_seconds() for _ in rounds)
    print(f"pipeline.predict, first byte on the wire: {first_byte:.2f} s", flush=True)
    changes = [part for change in args.set for part in ("--set", change)]
    with tempfile.TemporaryDirectory() as root:
        for name in ("first run", "nothing has changed"):
            found = [run_waits("--workdir", f"{root}/{number}", *changes) for number in rounds]
            for what in found[0]:
                print(f"shapes, {name}: {what} {median(waits[what] for waits in found):.1f} s", flush=True)


if __name__ == "__main__":
    main()
