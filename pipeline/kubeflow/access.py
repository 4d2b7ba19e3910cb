"""Who asks Kubeflow Pipelines, and where it is."""

import os
from dataclasses import dataclass
from pathlib import Path

from kfp.client import (
    KF_PIPELINES_SA_TOKEN_ENV,
    KF_PIPELINES_SA_TOKEN_PATH,
    ServiceAccountTokenVolumeCredentials,
)
from kfp.client.client import KF_PIPELINES_ENDPOINT_ENV

from pipeline.kubeflow.errors import ConnectionProblem


@dataclass(frozen=True)
class Access:
    """Where Kubeflow is and how it is told who asks; None leaves it to kfp's own configuration."""

    host: str | None = None
    """Address of the API, ``https://…/pipeline``; None is kfp's: its environment variable, the service in
    this cluster, or the one that kubectl's context reaches."""
    namespace: str | None = None
    """The profile's, where Kubeflow serves several users; elsewhere only the pods' for advice."""
    token_file: Path | None = None
    """Holds a bearer token; read again for each request, so that it may be renewed."""
    cookies_file: Path | None = None
    """Holds the value of a Cookie header, ``name=value; name=value``."""
    ssl_ca_cert: Path | None = None
    """PEM file of who signed the server's certificate."""
    verify_ssl: bool = True

    @property
    def address(self) -> str | None:
        """The host as given, on the command line or in kfp's environment variable."""
        return self.host or os.environ.get(KF_PIPELINES_ENDPOINT_ENV)


def credentials(access: Access) -> ServiceAccountTokenVolumeCredentials | None:
    """Returns the token file's; else, unless there are cookies, those that the cluster gave this pod.

    Raises:
        ConnectionProblem: there is no such file, or no token in it.
    """
    if access.token_file:
        _only_line(access.token_file, "--token-file", "a token")
        return ServiceAccountTokenVolumeCredentials(str(access.token_file))
    if access.cookies_file:
        return None
    named = os.environ.get(KF_PIPELINES_SA_TOKEN_ENV)
    if named:
        _only_line(Path(named), KF_PIPELINES_SA_TOKEN_ENV, "a token")
    if named or os.path.isfile(KF_PIPELINES_SA_TOKEN_PATH):
        return ServiceAccountTokenVolumeCredentials()
    return None


def cookies(access: Access) -> str | None:
    """Returns the Cookie header, or None; raises ConnectionProblem."""
    if access.cookies_file is None:
        return None
    return _only_line(access.cookies_file, "--cookies-file", "cookies, NAME=VALUE; NAME=VALUE")


def _only_line(path: Path, option: str, what: str) -> str:
    """Returns what a file of one line holds."""
    try:
        text = path.read_text(encoding="latin-1").strip()
    except OSError as error:
        raise ConnectionProblem(f"{option} {path}: {error.strerror}") from None
    if not text or len(text.splitlines()) > 1:
        raise ConnectionProblem(f"{option} {path}: it must hold one line: {what}")
    if not text.isascii() or not text.isprintable():
        # A byte order mark, most often: kfp reads the file as UTF-8, and no header can hold what it finds.
        raise ConnectionProblem(
            f"{option} {path}: it must hold printable ASCII alone, without a byte order mark"
        )
    return text
