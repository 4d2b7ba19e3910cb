"""Uploads a compiled pipeline as a version, and starts it: once, or again and again."""

import hashlib
import json
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kfp_server_api import V2beta1Pipeline, V2beta1RecurringRun

from pipeline.kubeflow.client.backend import Backend
from pipeline.kubeflow.client.errors import ConnectionProblem
from pipeline.kubeflow.client.options import Schedule
from pipeline.kubeflow.client.transport import BoundedClient

_DIGEST_DIGITS = 12


@dataclass(frozen=True)
class Version:
    """A pipeline's version on the backend."""

    pipeline_id: str
    version_id: str
    name: str
    is_new: bool


@dataclass(frozen=True)
class RunSettings:
    """How a version is run."""

    experiment_id: str
    name: str
    pipeline_root: str
    parameters: Mapping[str, Any]
    """Values that replace the pipeline's defaults."""
    service_account: str | None

    def arguments(self, version: Version) -> dict[str, Any]:
        """Returns what kfp's client wants to know of any run."""
        return {
            "experiment_id": self.experiment_id,
            "job_name": self.name,
            "pipeline_id": version.pipeline_id,
            "version_id": version.version_id,
            "pipeline_root": self.pipeline_root,
            "params": dict(self.parameters),
            "service_account": self.service_account,
        }


def upload(backend: Backend, name: str, package: str, description: str) -> Version:
    """Returns the version that holds just this package, uploaded unless it is there.

    The version's name ends in a digest of the package, so that the same is never uploaded twice.

    Args:
        backend: where to.
        name: the pipeline's; it is created if need be.
        package: the compiled pipeline, as YAML.
        description: the pipeline's, if it is new.
    """
    digest = hashlib.sha256(package.encode()).hexdigest()[:_DIGEST_DIGITS]
    version_name = f"{name}-{digest}"
    client = backend.client
    with backend.explained():
        found = client.list_pipelines(filter=_named(name), namespace=backend.namespace).pipelines
        # kfp's own upload would add a first version, named like the pipeline.
        pipeline_id = (
            found[0].pipeline_id
            if found
            else client.pipelines.pipeline_service_create_pipeline(
                pipeline=V2beta1Pipeline(
                    display_name=name, description=description, namespace=backend.namespace
                )
            ).pipeline_id
        )
        versions = client.list_pipeline_versions(pipeline_id, filter=_named(version_name)).pipeline_versions
        if versions:
            return Version(pipeline_id, versions[0].pipeline_version_id, version_name, is_new=False)
        with tempfile.TemporaryDirectory() as directory:
            # The backend tells the kind of package from the file's name.
            path = Path(directory, f"{version_name}.yaml")
            path.write_text(package, encoding="utf-8")
            version = client.upload_pipeline_version(str(path), version_name, pipeline_id=pipeline_id)
    return Version(pipeline_id, version.pipeline_version_id, version_name, is_new=True)


def experiment(backend: Backend, name: str) -> str:
    """Returns the id of the experiment of that name, which is created if need be."""
    with backend.explained():
        return str(backend.client.create_experiment(name, namespace=backend.namespace).experiment_id)


def start(backend: Backend, version: Version, settings: RunSettings) -> str:
    """Starts a run and returns its id."""
    with backend.explained():
        return str(backend.client.run_pipeline(**settings.arguments(version)).run_id)


def schedule(backend: Backend, version: Version, settings: RunSettings, when: Schedule) -> str:
    """Starts a recurring run and returns its id.

    Raises:
        ConnectionProblem: there is one of that name, which would go on beside it.
    """
    client = backend.client
    with backend.explained():
        found = _recurring_runs(client, settings)
        running = [job for job in found if job.status != "DISABLED"]
        if running:
            raise ConnectionProblem(
                f"there is a recurring run {settings.name} already ({running[0].recurring_run_id}), and both "
                "would run; disable it, or choose another name with --cron-name"
            )
        job = client.create_recurring_run(
            **settings.arguments(version),
            cron_expression=when.cron,
            start_time=when.start,
            end_time=when.end,
            max_concurrency=when.max_concurrency,
            no_catchup=not when.catchup,
        )
    return str(job.recurring_run_id)


def _recurring_runs(client: BoundedClient, settings: RunSettings) -> Iterator[V2beta1RecurringRun]:
    """Yields all of the experiment and name, the disabled ones included; the API lists ten at a time."""
    token = ""
    while True:
        page = client.list_recurring_runs(
            page_token=token, experiment_id=settings.experiment_id, filter=_named(settings.name)
        )
        yield from page.recurring_runs or ()
        token = page.next_page_token or ""
        if not token:
            return


def account_warning(version: str, account: str | None) -> str | None:
    """Returns what to say of a backend that may not run recurring runs as the account that they ask for.

    Before 2.17.0 it sets one only where there is none, and its compiler has named ``pipeline-runner`` already
    (``apiserver/template/v2_template.go``).

    Args:
        version: what the backend calls itself.
        account: the one that is asked for, if any.
    """
    release = re.match(r"v?(\d+)\.(\d+)", version)
    # A candidate of the first release that is right may be older than its mend.
    candidate = re.match(r"v?2\.17\.0-", version)
    if account is None or (release and not candidate and (int(release[1]), int(release[2])) >= (2, 17)):
        return None
    who = f"Kubeflow Pipelines {version}"
    if release is None:
        told = version or "none"
        who = f"Kubeflow Pipelines does not tell its version ({told}); if it is older than 2.17.0, it"
    return (
        f"Warning: {who} starts recurring runs not as {account} (kubeflow.service_account) but as "
        "pipeline-runner, who may read every Secret of the namespace"
    )


def stages_of(backend: Backend, run: Any) -> frozenset[str]:
    """Returns the names of a run's tasks as its pipeline has them."""
    spec = run.pipeline_spec or {}
    if (reference := run.pipeline_version_reference) is not None:
        with backend.explained():
            version = backend.client.get_pipeline_version(
                reference.pipeline_id, reference.pipeline_version_id
            )
        spec = version.pipeline_spec or {}
    # A package with a platform's part is kept a key deeper.
    spec = spec.get("pipeline_spec", spec)
    return frozenset(spec.get("root", {}).get("dag", {}).get("tasks", {}))


def _named(name: str) -> str:
    """A filter of the API: exactly this display name."""
    return json.dumps({"predicates": [{"operation": "EQUALS", "key": "display_name", "stringValue": name}]})
