"""The command of every stage's container on Kubeflow Pipelines; people do not run it by hand.

    python -m pipeline.kubeflow.entrypoint --executor_class_path CLASS --json_serialized_invocation_args INPUT
        --json_serialized_inputs_spec_args SPEC --json_serialized_outputs_spec_args SPEC
                                                                           runs a stage
    python -m pipeline.kubeflow.entrypoint --announce_pushed_model INPUT   says which version was pushed
    python -m pipeline.kubeflow.entrypoint --fingerprint_data INPUT        reads what the dataset's files hold
    python -m pipeline.kubeflow.entrypoint --fingerprint_served INPUT      reads which models are being served
    python -m pipeline.kubeflow.entrypoint --worker DIR                    trains together with other machines

INPUT is the task's ExecutorInput, which the backend's launcher puts where the package says {{$}}. The
variable STAGE_OPTIONS is a list of further options, Beam's among them, that bear on no result: JSON in
base64, from an annotation of the pod.
The log goes to standard output. Ends with 0 if the stage is done, 1 if it failed, 2 if the command is wrong,
143 at once after SIGTERM (130 after SIGINT); what a stage has started ends with it, the other machines of a
training included.
"""

import argparse
import base64
import json
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Final

from components.errors import StageError
from components.imports import OPTIONAL_TO_KERAS, quick_imports
from components.run_parameters import SERVING_DIR
from pipeline import interrupt
from pipeline.command_line import command_parser
from pipeline.failures import exits_are_failures, explain_failure
from pipeline.kubeflow import contents, in_bucket, shared_dir
from pipeline.kubeflow.executor_input import PUSHED_MODEL, artifacts
from pipeline.kubeflow.training import follow, worker
from pipeline.kubeflow.uris import local_path

OPTIONS_VARIABLE: Final = "STAGE_OPTIONS"
OPTIONS_ANNOTATION: Final = "segmentation-stage-options"

_EXECUTOR_FLAGS: Final = (
    "executor_class_path",
    worker.INPUT,
    "json_serialized_inputs_spec_args",
    "json_serialized_outputs_spec_args",
)

logger = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    given = sys.argv[1:] if argv is None else argv
    parser = _parser()
    try:
        options = unpack_options(os.environ.get(OPTIONS_VARIABLE))
    except ValueError as error:
        parser.error(
            f"{OPTIONS_VARIABLE} is not what the package says in the annotation {OPTIONS_ANNOTATION}, a JSON "
            f"list in base64: {error}"
        )
    args, beam_args = parser.parse_known_args([*given, *options])
    logging.basicConfig(
        stream=sys.stdout, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    try:
        if args.announce_pushed_model is not None:
            print(f"pushed: {announcement(args.announce_pushed_model)}")
        elif args.fingerprint_data is not None:
            _answer(args.fingerprint_data, data_fingerprint)
        elif args.fingerprint_served is not None:
            _answer(args.fingerprint_served, served_fingerprint)
        elif args.worker is not None:
            _run_executor(*_parser().parse_known_args(worker.begin_work(Path(args.worker))))
        else:
            _run_executor(args, beam_args)
    except Exception as error:
        logger.exception("the stage did not finish")
        sys.stdout.flush()
        for line in explain_failure(error).splitlines():
            print(f"failed: {line}", file=sys.stderr)
        return 1
    return 0


def pack_options(options: Sequence[str]) -> str:
    """Returns options as a text in which no template language finds a tag of its own."""
    return base64.b64encode(json.dumps(options).encode()).decode("ascii")


def unpack_options(text: str | None) -> list[str]:
    """Returns what `pack_options` has packed, nothing of None.

    Raises:
        ValueError: it is no such text.
    """
    if text is None:
        return []
    options: list[str] = json.loads(base64.b64decode(text, validate=True))
    return options


def announcement(executor_input: str) -> str:
    """Returns the line that names version and place of a pushed model.

    Args:
        executor_input: JSON of a task whose input ``pushed_model`` is the Pusher's.

    Raises:
        StageError: there is no such input, or nothing was pushed.
    """
    try:
        [artifact] = json.loads(executor_input)["inputs"]["artifacts"][PUSHED_MODEL]["artifacts"]
        metadata = artifact["metadata"]
        return f"version {metadata['pushed_version']} is served from {metadata['pushed_destination']}"
    except (KeyError, TypeError, ValueError) as error:
        raise StageError(
            f"--announce_pushed_model needs the ExecutorInput of a task whose input {PUSHED_MODEL} is a "
            f"model that the Pusher has pushed: {type(error).__name__} {error}"
        ) from error


def data_fingerprint(inputs: Mapping[str, Any]) -> dict[str, str]:
    """Returns what the ingestion's answer depends on, but for parameters and code.

    Args:
        inputs: ``inputs`` of a task's ExecutorInput, as JSON: the parameters of the ingestion.
    """
    from components.image_mask_example_gen import inputs as ingestion

    dataset = ingestion.ingestion_settings(inputs["parameterValues"]).dataset
    return {ingestion.FINGERPRINT_KEY: ingestion.fingerprint_contents(dataset)}


def served_fingerprint(inputs: Mapping[str, Any]) -> dict[str, str]:
    """Returns what Baseline and Pusher depend on besides.

    Args:
        inputs: ``inputs`` of a task's ExecutorInput, as JSON: the candidate, and where models are served.

    Raises:
        StageError: the candidate is not what was trained, or the served model not what was pushed.
    """
    from components.model_store import store, tokens

    [artifact] = inputs["artifacts"]["model"]["artifacts"]
    contents.require_whole("model", artifact["uri"], artifact.get("metadata", {}))
    model = Path(local_path(artifact["uri"]), store.SERVING_FORMAT)
    serving_dir = Path(inputs["parameterValues"][SERVING_DIR])
    return {
        tokens.SERVED_MODEL_KEY: tokens.baseline_token(model, serving_dir),
        tokens.PUSH_TOKEN_KEY: tokens.push_token(tokens.already_served(model, serving_dir)),
    }


def _answer(executor_input: str, question: Callable[[Mapping[str, Any]], dict[str, str]]) -> None:
    """Writes a task's output parameters where the launcher reads them."""
    given = json.loads(executor_input)
    answers = question(given["inputs"])
    for key, value in answers.items():
        print(f"{key}: {value}")
    output = Path(given["outputs"]["outputFile"])
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps({"parameterValues": answers}))


@exits_are_failures()
def _run_executor(args: argparse.Namespace, beam_args: list[str]) -> None:
    """Has TFX's own entrypoint run the executor, on input and with output that this backend understands."""
    # Many seconds of imports, which neither help nor a wrong command should wait for.
    with quick_imports(*OPTIONAL_TO_KERAS):
        from google.protobuf import json_format
        from kfp.pipeline_spec import pipeline_spec_pb2
        from tfx.orchestration.kubeflow.v2.container import kubeflow_v2_run_executor
        from tfx.utils import import_utils

        from pipeline.kubeflow.spec.artifacts import declare, localize, publish
        from pipeline.tfxio import configure_tfxio

        import_utils.import_class_by_path(args.executor_class_path)

    executor_input = pipeline_spec_pb2.ExecutorInput()
    inputs_spec = pipeline_spec_pb2.ComponentInputsSpec()
    outputs_spec = pipeline_spec_pb2.ComponentOutputsSpec()
    for flag, message in (
        ("json_serialized_invocation_args", executor_input),
        ("json_serialized_inputs_spec_args", inputs_spec),
        ("json_serialized_outputs_spec_args", outputs_spec),
    ):
        try:
            json_format.Parse(getattr(args, flag), message, ignore_unknown_fields=True)
        except json_format.ParseError as error:
            raise StageError(f"--{flag} is not the JSON of a {message.DESCRIPTOR.name}: {error}") from error

    for key, artifact in artifacts(executor_input.inputs.artifacts):
        contents.require_whole(key, artifact.uri, json_format.MessageToDict(artifact.metadata))
    configure_tfxio()
    adapted = argparse.Namespace(**vars(args))
    declared = declare(executor_input, inputs_spec, outputs_spec)
    visible_to_all: AbstractContextManager[pipeline_spec_pb2.ExecutorInput]
    if args.in_bucket:
        visible_to_all = in_bucket.new_outputs(declared, beam_args)
    elif args.shared_dir:
        visible_to_all = shared_dir.lend_artifacts(localize(declared), args.shared_dir, args.shared_seconds)
    else:
        visible_to_all = nullcontext(localize(declared))
    with visible_to_all as visible:
        adapted.json_serialized_invocation_args = json_format.MessageToJson(visible)
        if args.training_machines is None:
            kubeflow_v2_run_executor.main((adapted, beam_args))
        else:
            follow.train_on_machines(
                args.training_machines,
                json.loads(args.training_pod),
                {flag: getattr(adapted, flag) for flag in _EXECUTOR_FLAGS},
                Path(tempfile.mkdtemp()),
            )

    output_file = Path(executor_input.outputs.output_file)
    output = json_format.Parse(output_file.read_text(), pipeline_spec_pb2.ExecutorOutput())
    published = publish(output, executor_input)
    look = partial(in_bucket.files, beam_args=beam_args) if args.in_bucket else contents.local_files
    contents.add_notes(published, look)
    output_file.write_text(json_format.MessageToJson(published))


def _tidy_up() -> None:
    shared_dir.end_loans()
    follow.take_down()
    shared_dir.remove_lent()


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("pipeline.kubeflow.entrypoint", __doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--executor_class_path", metavar="CLASS", help="MODULE.CLASS of TFX's executor")
    what.add_argument("--announce_pushed_model", metavar="INPUT", help="ExecutorInput of the announcing task")
    what.add_argument("--fingerprint_data", metavar="INPUT", help="of the task that reads the data")
    what.add_argument("--fingerprint_served", metavar="INPUT", help="of the task that looks what is served")
    what.add_argument(
        "--worker", metavar="DIR", help="where the task has left what the machines need to know"
    )
    parser.add_argument(
        "--json_serialized_invocation_args", metavar="INPUT", default="", help="ExecutorInput of the task"
    )
    parser.add_argument(
        "--json_serialized_inputs_spec_args",
        metavar="SPEC",
        default="{}",
        help="the component's ComponentInputsSpec, as TFX's compiler wrote it",
    )
    parser.add_argument(
        "--json_serialized_outputs_spec_args",
        metavar="SPEC",
        default="{}",
        help="the component's ComponentOutputsSpec, as TFX's compiler wrote it",
    )
    parser.add_argument(
        "--shared_dir", metavar="DIR", help="where other machines that work for the stage see its artifacts"
    )
    parser.add_argument(
        "--shared_seconds", metavar="SECONDS", type=int, help="what is left there is older: the pod's time"
    )
    parser.add_argument(
        "--in_bucket", action="store_true", help="other machines see its artifacts where they are"
    )
    parser.add_argument(
        "--training_machines", metavar="N", type=int, help="how many train in the place of this process"
    )
    parser.add_argument("--training_pod", metavar="POD", help="JSON of their pods' template")
    return parser


if __name__ == "__main__":
    interrupt.leave_when_asked(_tidy_up)
    sys.exit(main())
