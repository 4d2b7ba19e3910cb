"""The recipe's ``beam`` block: the command line that Beam gets, and what is refused before a run."""

from types import SimpleNamespace
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions, PortableOptions
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.transforms.environments import Environment, ProcessEnvironment
from tfx.utils import dependency_utils

from pipeline import tfxio
from pipeline.config import BeamConfig, load_recipe
from pipeline.recipe_errors import RecipeError

EXTERNAL: dict[str, Any] = {"environment_type": "EXTERNAL", "environment_config": "localhost:50000"}
POOL = "environment_type: EXTERNAL, environment_config: 'localhost:50000'"
DATAFLOW = (
    "runner: DataflowRunner, project: my-project, region: europe-west4, temp_location: 'gs://bucket/tmp', "
    "environment_config: 'r.example.org/worker:1'"
)
SERVICE = f"runner: PortableRunner, job_endpoint: 'beam:8099', {POOL}"


def problems_of(block: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        load_recipe("shapes", overrides=[f"beam={{{block}}}"])
    return str(caught.value).splitlines()


def test_beam_works_in_this_process_with_a_worker_for_each_core_that_it_may_use(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # As Slurm, taskset and --cpuset-cpus leave some of a machine's.
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {3, *range(8, 15)})
    assert BeamConfig().pipeline_args() == [
        "--runner=FnApiRunner",
        "--direct_running_mode=multi_threading",
        "--direct_num_workers=8",
        "--sdk_container_image=none",
    ]
    assert BeamConfig(workers=1).pipeline_args() == [
        "--runner=FnApiRunner",
        "--direct_running_mode=in_memory",
        "--direct_num_workers=1",
        "--sdk_container_image=none",
    ]


def test_stages_that_more_threads_would_slow_down_have_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)))

    def threads(stage: str, *changes: str) -> str:
        recipe = load_recipe("shapes", overrides=changes)
        [number] = [arg for arg in recipe.beam_args(stage) if arg.startswith("--direct_num_workers=")]
        return number.removeprefix("--direct_num_workers=")

    assert [threads(stage) for stage in ("ImageMaskExampleGen", "Evaluator")] == ["8", "2"]
    assert [threads(stage) for stage in ("StatisticsGen", "Transform")] == ["1", "1"]
    assert threads("Transform", "transform.materialize=true") == "8"
    assert threads("Evaluator", "beam.workers=1") == "1"
    assert threads("StatisticsGen", "beam.workers=3") == "3"


FLINK = "runner: FlinkRunner, job_endpoint: 'h:1', environment_type: LOOPBACK, workers: 8"


def test_an_engine_has_its_own_number_of_workers_in_every_stage() -> None:
    recipe = load_recipe("shapes", overrides=[f"beam={{{FLINK}}}"])
    assert all("--parallelism=8" in recipe.beam_args(stage) for stage in ("StatisticsGen", "Evaluator"))


def test_flink_gets_the_job_without_java_on_this_side() -> None:
    beam = BeamConfig(runner="FlinkRunner", flink_master="http://flink:8081", workers=8, **EXTERNAL)
    assert beam.pipeline_args() == [
        "--runner=FlinkRunner",
        "--parallelism=8",
        "--flink_master=http://flink:8081",
        "--environment_type=EXTERNAL",
        "--flink_submit_uber_jar",
        "--environment_config=localhost:50000",
        "--sdk_container_image=none",
    ]


def test_a_job_service_gets_the_recipe_s_further_options_last() -> None:
    beam = BeamConfig(
        runner="SparkRunner",
        job_endpoint="spark-jobs:8099",
        options=("--experiments=pre_optimize=all",),
        **EXTERNAL,
    )
    assert beam.pipeline_args() == [
        "--runner=SparkRunner",
        "--job_endpoint=spark-jobs:8099",
        "--environment_type=EXTERNAL",
        "--environment_config=localhost:50000",
        "--sdk_container_image=none",
        "--experiments=pre_optimize=all",
    ]


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        ("EXTERNAL", "localhost:50000"),
        ("PROCESS", "/opt/apache/beam/boot"),
        ("DOCKER", "r.example.org/segmentation:1"),
        ("LOOPBACK", None),
    ],
)
def test_beam_and_tfx_understand_every_environment_and_pack_nothing(
    kind: Any, config: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dependency_utils, "build_ephemeral_package", pytest.fail)
    beam = BeamConfig(
        runner="PortableRunner", job_endpoint="a:1", environment_type=kind, environment_config=config
    )
    arguments = dependency_utils.make_beam_dependency_flags(beam.pipeline_args())
    environment = Environment.from_options(PipelineOptions(arguments).view_as(PortableOptions))
    assert config is None or config in repr(environment) or config in vars(environment).values()
    if isinstance(environment, ProcessEnvironment):
        assert environment.env == {"RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT": "1"}


def test_dataflow_gets_a_job_whose_workers_are_the_image_and_install_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By Beam's own translation, short of the request to Google."""
    monkeypatch.setattr(dependency_utils, "build_ephemeral_package", pytest.fail)
    monkeypatch.setattr(tfxio.FileSystems, "match", lambda *_, **__: [SimpleNamespace(metadata_list=[0])])
    recipe = load_recipe("shapes", overrides=[f"beam={{{DATAFLOW}, workers: 7}}"], runs_here=False)
    arguments = dependency_utils.make_beam_dependency_flags(recipe.beam.pipeline_args())
    pipeline = beam.Pipeline(argv=[*arguments, "--dry_run=True"])
    _ = pipeline | tfxio.read_tf_records(file_pattern=["gs://bucket/examples/*"])
    job = pipeline.run().job
    [environment] = job.proto_pipeline.components.environments.values()
    image = beam_runner_api_pb2.DockerPayload.FromString(environment.payload).container_image
    assert (environment.urn, image) == ("beam:env:docker:v1", "r.example.org/worker:1")
    # A list for the log, of what is installed here.
    [listed] = environment.dependencies
    assert b"submission_environment_dependencies.txt" in listed.role_payload
    options = job.options.get_all_options()
    expected = {"project": "my-project", "region": "europe-west4", "max_num_workers": 7}
    assert expected.items() <= options.items()
    assert job.google_cloud_options.staging_location.startswith("gs://bucket/tmp")


@pytest.mark.parametrize(
    ("block", "line"),
    [
        (
            "runner: DaskRunner",
            "beam.runner is 'DaskRunner': it counts what a ParDo with several outputs yields",
        ),
        ("runner: DirectRunner", "beam.runner is 'DirectRunner': it downloads Prism"),
        ("runner: FlinkRuner", "beam.runner is 'FlinkRuner'; did you mean FlinkRunner?"),
        (
            "runner: X",
            "beam.runner is 'X'; there is FnApiRunner, PortableRunner, FlinkRunner, SparkRunner, Dataf",
        ),
        (
            f"runner: PortableRunner, {POOL}",
            "beam.job_endpoint is missing, which PortableRunner needs; add it to the recipe",
        ),
        (
            f"runner: FlinkRunner, {POOL}",
            "beam.runner is FlinkRunner, which needs one of beam.job_endpoint, HOST:PORT of Beam's job "
            "server for Flink, and beam.flink_master, http://HOST:8081",
        ),
        (
            f"{SERVICE}, workers: 3",
            "beam.workers is 3, which PortableRunner does not read, but FnApiRunner, FlinkRunner, "
            "DataflowRunner; leave it out",
        ),
        (
            "runner: DataflowRunner, region: europe-west4, temp_location: 'gs://b/t', environment_config: i",
            "beam.project is missing, which DataflowRunner needs; add it to the recipe",
        ),
        (
            DATAFLOW.replace("europe-west4", "europe-west4-a"),
            "beam.region is 'europe-west4-a': give one such as europe-west4",
        ),
        (
            DATAFLOW.replace("gs://bucket/tmp", "/tmp"),
            "beam.temp_location is '/tmp': give gs://BUCKET/FOLDER",
        ),
        (
            f"{DATAFLOW}, environment_type: DOCKER",
            "beam.environment_type is 'DOCKER', which DataflowRunner does not read, but PortableRunner, ",
        ),
        (
            f"{DATAFLOW}, options: [--max_num_workers=2]",
            "beam.options has '--max_num_workers=2'; use beam.workers in its place",
        ),
        (DATAFLOW, "beam.runner is DataflowRunner, whose workers see no folder of this machine"),
        (
            f"{SERVICE}, flink_master: 'http://a:8081'",
            "beam.flink_master is 'http://a:8081', which PortableRunner does not read, but FlinkRunner; "
            "leave it out",
        ),
        (
            "job_endpoint: 'a:1'",
            "beam.job_endpoint is 'a:1', which FnApiRunner does not read, but PortableRunner, FlinkRunner, "
            "SparkRunner; leave it out",
        ),
        (
            "runner: PortableRunner, job_endpoint: 'a:1', environment_type: PROCESS",
            "beam.environment_config is missing; for PROCESS give the command that starts a worker there, "
            "such as /opt/apache/beam/boot",
        ),
        (
            "runner: SparkRunner, job_endpoint: 'a:1', environment_type: EXTERNAL, environment_config: pool",
            "beam.environment_config is 'pool'; for EXTERNAL give the worker pool's HOST:PORT as the "
            "cluster's machines see it, such as localhost:50000",
        ),
        (
            "runner: PortableRunner, job_endpoint: 'http://a:1', environment_type: LOOPBACK",
            "beam.job_endpoint is 'http://a:1': give HOST:PORT",
        ),
        (
            "options: [--direct_num_workers=2]",
            "beam.options has '--direct_num_workers=2'; use beam.workers in its place",
        ),
        *(
            (
                f"options: ['{option}']",
                f"beam.options.0 is '{option}': Beam's options begin with -- and have = before a value, such "
                "as --flink_job_server_jar=FILE",
            )
            for option in ("--flink_job_server_jar /opt/a.jar", "-x", "--=a")
        ),
        (
            "options: [--help]",
            "beam.options has '--help', with which Beam prints its help; leave it out",
        ),
        (
            "options: ['--experiments=a=1,b']",
            "beam.options has '--experiments=a=1,b'; give each experiment an option of its own: where one "
            "has a "
            "value, Beam takes what follows the comma for a part of it",
        ),
    ],
)
def test_what_a_runner_lacks_or_would_ignore_is_one_line(block: str, line: str) -> None:
    [problem] = problems_of(block)
    assert problem.startswith(line)
