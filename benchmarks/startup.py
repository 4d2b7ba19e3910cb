"""How long one waits before anything happens: ``--help``, and a rerun in which every stage is cached.

python -m benchmarks.startup
"""

import subprocess
import sys
import tempfile
import time


def seconds(*arguments: str) -> float:
    """Returns how long ``pipeline.run_local`` takes with these arguments."""
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "pipeline.run_local", *arguments], stdout=subprocess.DEVNULL, check=True
    )
    return time.perf_counter() - started


def main() -> None:
    print(f"--help: {min(seconds('--help') for _ in range(3)):.2f} s (best of three)")
    with tempfile.TemporaryDirectory() as workdir:
        print(f"shapes, first run: {seconds('--workdir', workdir):.1f} s")
        print(f"shapes, everything cached: {seconds('--workdir', workdir):.1f} s")


if __name__ == "__main__":
    main()
