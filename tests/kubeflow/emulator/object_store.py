"""An object store in a directory (``objectstore/object_store.go``): keys and bytes, and no folders."""

import shutil
from pathlib import Path


class ObjectStore:
    """Every object is a file below ``root``, its key the path."""

    def __init__(self, root: Path):
        self.root = root

    def upload(self, local: Path, uri: str) -> None:
        """UploadBlob: a file, or all files of a folder. An empty folder leaves nothing behind."""
        if not local.exists():
            # Allowed; the launcher only warns.
            return
        for path in _files(local):
            self._put(path, self._object(uri) / path.relative_to(local))

    def download(self, uri: str, local: Path) -> None:
        """DownloadBlob: makes the folders that files need, and so none where there is no file."""
        for path in _files(self._object(uri)):
            self._put(path, local / path.relative_to(self._object(uri)))

    def path(self, uri: str) -> Path:
        """Where the objects below a URI lie, for tests to look at."""
        return self._object(uri)

    def _object(self, uri: str) -> Path:
        scheme, _, key = uri.partition("://")
        if scheme not in ("s3", "gs", "minio") or not key:
            raise ValueError(f"unsupported storage scheme: {uri}")
        return self.root / key

    def _put(self, source: Path, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        # Bytes alone: neither permissions nor times.
        shutil.copyfile(source, target)


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    return sorted(found for found in path.rglob("*") if found.is_file())
