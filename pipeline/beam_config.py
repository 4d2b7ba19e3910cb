"""The recipe's ``beam`` block: who does the stages' data processing, and nothing that changes a result.

Knows Beam's command line, but does not import Beam, which takes seconds.
"""

import json
import os
from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal, Self, get_args

from pydantic import Field, field_validator, model_validator

from components.settings import Settings
from pipeline.kubernetes_types import matching

Runner = Literal["FnApiRunner", "PortableRunner", "FlinkRunner", "SparkRunner", "DataflowRunner"]

_NOT_TAKEN: Final = {
    "DaskRunner": "it counts what a ParDo with several outputs yields twice",
    "DirectRunner": "it downloads Prism where it can; FnApiRunner is the one that works in this process",
    "PrismRunner": "it downloads Prism; start one, and name PortableRunner with its beam.job_endpoint",
}
"""Runners of Beam's that give a wrong result, none, or a surprise, and why."""

_KEYS: Final[dict[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "FnApiRunner": ((), ("workers",)),
    "PortableRunner": (("job_endpoint", "environment_type"), ("environment_config",)),
    "FlinkRunner": (
        ("environment_type",),
        ("job_endpoint", "flink_master", "environment_config", "workers"),
    ),
    "SparkRunner": (("job_endpoint", "environment_type"), ("environment_config",)),
    "DataflowRunner": (("project", "region", "temp_location", "environment_config"), ("workers",)),
}
"""What each runner cannot do without, and what else it reads. Of a cluster's only Flink and Dataflow are
told how many work at once: Spark has its executors, and behind PortableRunner is anybody's job service."""

_SAID_BY_KEYS: Final = {
    "--runner": "beam.runner",
    "--direct_running_mode": "beam.workers",
    "--direct_num_workers": "beam.workers",
    "--parallelism": "beam.workers",
    "--max_num_workers": "beam.workers",
    "--project": "beam.project",
    "--region": "beam.region",
    "--temp_location": "beam.temp_location",
    "--job_endpoint": "beam.job_endpoint",
    "--flink_master": "beam.flink_master",
    "--flink_submit_uber_jar": "beam.flink_master",
    "--spark_master_url": "beam.job_endpoint",
    "--environment_type": "beam.environment_type",
    "--environment_config": "beam.environment_config",
    "--environment_option": "beam.environment_config",
    "--environment_options": "beam.environment_config",
    "--sdk_container_image": "beam.environment_config",
}
"""Options of Beam's that a key says in the recipe's words; given twice, one would win without a word.
``--spark_master_url``, and ``--flink_master`` alone, would start ``java -jar``, which the image does not
have: a job service beside the cluster takes its place."""

USEFUL_THREADS: Final = {"StatisticsGen": 1, "Transform": 1, "Evaluator": 2}
"""Of the default runner's, in stages that spend their time in Python, where one is at a time, or in
TensorFlow, which has threads of its own. Each builds the stage's program for itself, which takes a second."""

_ENVIRONMENT_CONFIG: Final = {
    "EXTERNAL": "the worker pool's HOST:PORT as the cluster's machines see it, such as localhost:50000",
    "PROCESS": "the command that starts a worker there, such as /opt/apache/beam/boot",
    "DOCKER": "the image of this project",
}

_Address = Annotated[str, matching(r"[^\s/:]+:[0-9]{1,5}", "give HOST:PORT")]
_Option = Annotated[
    str,
    matching(
        r"--[^\s=]+(=.*)?",
        "Beam's options begin with -- and have = before a value, such as --flink_job_server_jar=FILE",
    ),
]


class BeamConfig(Settings):
    """Who does the stages' data processing: this machine, or an engine that Beam knows."""

    runner: Runner = "FnApiRunner"
    """Beam's runner. FnApiRunner works within the stage's own process, the others hand work to a cluster."""
    workers: int | None = Field(default=None, ge=1)
    """How many work at once, of FnApiRunner and Dataflow at most. Null: FnApiRunner takes one for each core
    that it may use, but one for StatisticsGen, for Transform unless it materializes, and two for the
    Evaluator; Flink what its cluster is set to, Dataflow what it thinks best."""
    job_endpoint: _Address | None = None
    """HOST:PORT of a Beam job service, such as the job server of Flink or Spark, or Prism."""
    flink_master: (
        Annotated[str, matching(r"https?://[^\s/]+", "give Flink's REST address, such as http://HOST:8081")]
        | None
    ) = None
    """Flink's REST address, ``http://HOST:8081``, in place of a job_endpoint; needs no Java here, but the
    jar of Beam's job server for that Flink, downloaded by Beam or named by ``--flink_job_server_jar``."""
    environment_type: Literal["EXTERNAL", "PROCESS", "DOCKER", "LOOPBACK"] | None = None
    """Where this project's code runs: in a worker pool beside the engine on each machine (EXTERNAL), in a
    process or container that the engine starts (PROCESS, DOCKER), or in the stage's own process, for trials
    (LOOPBACK)."""
    environment_config: str | None = Field(default=None, min_length=1)
    """EXTERNAL: HOST:PORT of the worker pool. PROCESS: the command. DOCKER, and Dataflow: the image."""
    project: Annotated[str, matching(r"[a-z][-a-z0-9:.]+[a-z0-9]", "give a project's id")] | None = None
    """Dataflow's: id of the Google Cloud project that pays."""
    region: Annotated[str, matching(r"[a-z]+-[a-z]+[0-9]+", "give one such as europe-west4")] | None = None
    """Dataflow's: where its workers are."""
    temp_location: Annotated[str, matching(r"gs://[^/\s]+/\S+", "give gs://BUCKET/FOLDER")] | None = None
    """Dataflow's: a folder of a bucket for what it stages."""
    options: tuple[_Option, ...] = ()
    """Further options of the runner, as Beam's command line has them."""

    @property
    def is_remote(self) -> bool:
        """Whether other machines may do the work, which see nothing that lies on this one's own disk."""
        return self.runner != "FnApiRunner"

    def pipeline_args(self, cores: int | None = None, useful: int | None = None) -> list[str]:
        """Returns the command line that Beam understands.

        Args:
            cores: what a stage may use, for the default runner; None takes those of this process.
            useful: how many threads of it are of use; counts where ``workers`` is None.
        """
        # Without an image named, TFX packs itself into an archive, anew in every stage, which workers install
        # over their own (`make_beam_dependency_flags` in tfx/utils/dependency_utils.py).
        has_image = self.environment_type == "DOCKER" or self.runner == "DataflowRunner"
        image = self.environment_config if has_image else "none"
        return [*self._runner_args(cores, useful), f"--sdk_container_image={image}", *self.options]

    def _runner_args(self, cores: int | None, useful: int | None) -> Iterator[str]:
        yield f"--runner={self.runner}"
        if not self.is_remote:
            cores = cores or len(os.sched_getaffinity(0))
            workers = self.workers or min(cores, useful or cores)
            yield f"--direct_running_mode={'in_memory' if workers == 1 else 'multi_threading'}"
            yield f"--direct_num_workers={workers}"
            return
        if self.workers is not None:
            flag = "--max_num_workers" if self.runner == "DataflowRunner" else "--parallelism"
            yield f"{flag}={self.workers}"
        for key in ("job_endpoint", "flink_master", "environment_type", "project", "region", "temp_location"):
            if (value := getattr(self, key)) is not None:
                yield f"--{key}={value}"
        if self.flink_master is not None:
            yield "--flink_submit_uber_jar"
        if self.runner == "DataflowRunner":
            # By itself it pickles the stage's program for the workers, whose image has what it needs.
            yield "--no_save_main_session"
        if self.environment_type == "PROCESS":
            # Otherwise Beam's boot makes a virtual environment, without this project in it.
            environment = {"RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT": "1"}
            config = json.dumps({"command": self.environment_config, "env": environment})
            yield f"--environment_config={config}"
        elif self.environment_config is not None and self.runner != "DataflowRunner":
            yield f"--environment_config={self.environment_config}"

    @field_validator("runner", mode="before")
    @classmethod
    def _gives_right_results(cls, name: Any) -> Any:
        if isinstance(name, str) and name in _NOT_TAKEN:
            raise ValueError(f"{_NOT_TAKEN[name]}; there is {', '.join(get_args(Runner))}")
        return name

    @model_validator(mode="after")
    def _runner_has_what_it_needs(self) -> Self:
        problems = [*self._key_problems(), *self._environment_problems(), *self._option_problems()]
        if problems:
            raise ValueError("\n".join(problems))
        return self

    def _key_problems(self) -> Iterator[str]:
        needed, read = _KEYS[self.runner]
        for key in needed:
            if getattr(self, key) is None:
                yield f"beam.{key} is missing, which {self.runner} needs; add it to the recipe"
        every = {key for keys in _KEYS.values() for group in keys for key in group}
        for key in sorted(every - {*needed, *read}):
            if (value := getattr(self, key)) is not None:
                readers = [name for name, keys in _KEYS.items() if key in (*keys[0], *keys[1])]
                yield (
                    f"beam.{key} is {value!r}, which {self.runner} does not read, but {', '.join(readers)}; "
                    "leave it out"
                )
        if self.runner == "FlinkRunner" and (self.job_endpoint is None) == (self.flink_master is None):
            yield (
                "beam.runner is FlinkRunner, which needs one of beam.job_endpoint, HOST:PORT of Beam's job "
                "server for Flink, and beam.flink_master, http://HOST:8081"
            )

    def _environment_problems(self) -> Iterator[str]:
        kind, config = self.environment_type, self.environment_config
        if kind is None:
            return
        if kind == "LOOPBACK":
            if config is not None:
                yield f"beam.environment_config is {config!r}, which LOOPBACK does not read; leave it out"
        elif config is None:
            yield f"beam.environment_config is missing; for {kind} give {_ENVIRONMENT_CONFIG[kind]}"
        elif kind == "EXTERNAL" and not _is_address(config):
            yield f"beam.environment_config is {config!r}; for {kind} give {_ENVIRONMENT_CONFIG[kind]}"

    def _option_problems(self) -> Iterator[str]:
        for option in self.options:
            name, _, value = option.partition("=")
            if name in _SAID_BY_KEYS:
                yield f"beam.options has {option!r}; use {_SAID_BY_KEYS[name]} in its place"
            elif name == "--help":
                yield f"beam.options has {option!r}, with which Beam prints its help; leave it out"
            elif name in ("--experiments", "--experiment") and "," in value:
                yield (
                    f"beam.options has {option!r}; give each experiment an option of its own: where one "
                    "has a value, Beam takes what follows the comma for a part of it"
                )


def _is_address(text: str) -> bool:
    host, colon, port = text.rpartition(":")
    return bool(host and colon and port.isdigit())
