"""A dataset of any size: the Oxford-IIIT Pet images repeated under other names, as links."""

from itertools import cycle, islice
from pathlib import Path
from typing import Final

PICTURE: Final = ".+(?=-)"
"""For ``dataset.splits.group``: the part of a name that the copies of a picture share."""


def repeat_pets(source: Path, target: Path, count: int, test: int) -> None:
    """Lays out ``count`` pairs in ``target`` as the official download does, ``test`` of them for testing.

    A picture and its copies are in one list: what both hold would have to be decoded once more to be told of,
    which no real dataset of this size costs.

    Args:
        source: a download of the dataset, ``images/`` and ``annotations/``.
        target: an empty or absent directory.
    """
    (target / "images").mkdir(parents=True)
    (target / "annotations" / "trimaps").mkdir(parents=True)
    listed = [
        line
        for line in (source / "annotations" / "list.txt").read_text().splitlines()
        if not line.startswith("#")
    ]
    # Every n-th picture, so that both lists show every breed.
    step = count // test
    trained = [line for place, line in enumerate(listed) if place % step]
    lists = {"test": _copies(listed[::step], test), "trainval": _copies(trained, count - test)}
    for name, rows in lists.items():
        for picture, key, _ in rows:
            for folder, suffix in (("images", "jpg"), ("annotations/trimaps", "png")):
                file = (source / folder / f"{picture}.{suffix}").resolve()
                (target / folder / f"{key}.{suffix}").symlink_to(file)
        lines = [f"{key} {columns}\n" for _, key, columns in rows]
        (target / "annotations" / f"{name}.txt").write_text("".join(lines))


def _copies(listed: list[str], count: int) -> list[tuple[str, str, str]]:
    """Picture, the copy's own name and the other columns of ``count`` rows, one picture after the other."""
    rows = []
    for place, line in enumerate(islice(cycle(listed), count)):
        picture, columns = line.split(maxsplit=1)
        rows.append((picture, f"{picture}-{place // len(listed)}", columns))
    return rows
