"""A dataset of any size: the Oxford-IIIT Pet images repeated under other names, as links."""

from itertools import islice
from pathlib import Path


def repeat_pets(source: Path, target: Path, count: int, test: int) -> None:
    """Lays out ``count`` pairs in ``target`` as the official download does, ``test`` of them for testing.

    Args:
        source: a download of the dataset, ``images/`` and ``annotations/``.
        target: an empty or absent directory.
    """
    (target / "images").mkdir(parents=True)
    (target / "annotations" / "trimaps").mkdir(parents=True)
    listed = [
        line.split()
        for line in (source / "annotations" / "list.txt").read_text().splitlines()
        if not line.startswith("#")
    ]
    rows = []
    for copy in range(-(-count // len(listed))):
        for name, *columns in islice(listed, count - copy * len(listed)):
            breed, _, number = name.rpartition("_")
            key = f"{breed}_{copy:04d}{number}"
            (target / "images" / f"{key}.jpg").symlink_to((source / "images" / f"{name}.jpg").resolve())
            (target / "annotations" / "trimaps" / f"{key}.png").symlink_to(
                (source / "annotations" / "trimaps" / f"{name}.png").resolve()
            )
            rows.append(" ".join([key, *columns]))
    # Every n-th row, so that both lists show every breed.
    step = len(rows) / test
    chosen = {int(index * step) for index in range(test)}
    lists = {
        "list": rows,
        "test": [row for index, row in enumerate(rows) if index in chosen],
        "trainval": [row for index, row in enumerate(rows) if index not in chosen],
    }
    for name, members in lists.items():
        (target / "annotations" / f"{name}.txt").write_text("\n".join(members) + "\n")
