"""What a first recipe of many pairs costs.

python -m benchmarks.init --pairs 100000

The pairs are links to a few pictures of 640 x 480 pixels, so what is measured is what grows with their
number: names, headers, and what is kept of them. The page cache holds the files.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

_PICTURES: Final = 8
_SIZE: Final = (480, 640)
_CELL: Final = 40
"""Pixels of a side of the masks' patches."""


def draw_links(folder: Path, pairs: int) -> None:
    """Fills ``images`` and ``masks`` with links to a few drawn pictures."""
    rng = np.random.default_rng(0)
    kinds = (("images", "jpg"), ("masks", "png"))
    for name in ("pictures", *(name for name, _ in kinds)):
        (folder / name).mkdir()
    for number in range(_PICTURES):
        cells = rng.integers(0, 3, (_SIZE[0] // _CELL, _SIZE[1] // _CELL))
        ids = np.kron(cells, np.ones((_CELL, _CELL), int)).astype(np.uint8)
        photo = 80 * ids[..., np.newaxis] + rng.integers(0, 60, (*_SIZE, 3))
        Image.fromarray(photo.astype(np.uint8)).save(folder / f"pictures/{number}.jpg")
        Image.fromarray(ids).save(folder / f"pictures/{number}.png")
    for number in range(pairs):
        for name, suffix in kinds:
            target = folder / f"pictures/{number % _PICTURES}.{suffix}"
            (folder / name / f"photograph_{number:07}.{suffix}").symlink_to(target)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.init", description=__doc__)
    parser.add_argument("--pairs", type=int, default=100_000, metavar="N", help="default: %(default)s")
    pairs = parser.parse_args(argv).pairs
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        draw_links(folder, pairs)
        options = (f"--{name}={folder / name}" for name in ("images", "masks"))
        outputs = (f"--output={folder / 'first.yaml'}", f"--preview={folder / 'preview.png'}")
        command = [sys.executable, "-m", "pipeline.init", *options, *outputs]
        started = time.perf_counter()
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - started
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            sys.exit(f"pipeline.init ended with {child.returncode}")
    print(
        f"{pairs} pairs: {seconds:.1f} s ({used.ru_utime + used.ru_stime:.1f} s of processor time), "
        f"{used.ru_maxrss * 1024 / 1e6:.0f} MB"
    )


if __name__ == "__main__":
    main()
