"""Runs a recipe on Kubeflow Pipelines.

    python -m pipeline.run_kubeflow compile --recipe R --image IMAGE --pipeline-root URI --output FILE.yaml
    python -m pipeline.run_kubeflow submit --recipe R --image IMAGE --pipeline-root URI --host URL --wait
    python -m pipeline.run_kubeflow submit ... --param epochs=50 --param data_path=/data/pets
    python -m pipeline.run_kubeflow submit ... --cron '0 0 3 * * *'          every night at three
    python -m pipeline.run_kubeflow wait RUN_ID --host URL                   a run that was started before

Ends with 0 if a model was pushed (without --wait: if the run was started), 3 if the gate or the serving check
refused it, 1 if a stage failed or the run was cancelled, 2 if the command, the recipe, the connection or the
authentication is wrong, or the backend is of a kind that tells of no stages, 130 if it was interrupted or
--timeout is over; a run that was started goes on then.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from components.streams import open_missing_streams
from pipeline import interrupt
from pipeline.command_line import USAGE, UsageError
from pipeline.config import Recipe, load_recipe, recipe_path
from pipeline.kubeflow.client import options
from pipeline.kubeflow.client.errors import ConnectionProblem, Forbidden, NotFound, WaitedTooLong
from pipeline.kubeflow.client.parameters import parameter_values
from pipeline.kubeflow_config import MODEL_PUSHED, PUSHER, names_digest
from pipeline.recipe_errors import RecipeError
from pipeline.terminal import output_diverted

if TYPE_CHECKING:
    from pipeline.kubeflow.client.backend import Backend
    from pipeline.kubeflow.spec.package import Package

_GATES = ("Evaluator", "ServingCheck")
_EXIT_CODES = {"pushed": 0, "failed": 1, "canceled": 1, "unknown": USAGE, "rejected": 3}
_LOOK = "  The user interface shows what has begun, and whether a model was pushed"

Say = Callable[[str], None]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    open_missing_streams()
    args = options.parse(__doc__, None if argv is None else list(argv))
    interrupt.Interrupt()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    command = {"compile": _compile, "submit": _submit, "wait": _wait}[args.command]
    try:
        # TFX and kfp print and log a lot, and nothing that is not said better here.
        with output_diverted(Path(os.devnull)) as stream:
            return command(args, _printing_to(stream))
    except (RecipeError, UsageError, ConnectionProblem) as error:
        print(error, file=sys.stderr)
        return USAGE
    except WaitedTooLong as late:
        print(late, file=sys.stderr)
        return interrupt.EXIT_CODE
    except KeyboardInterrupt as interruption:
        print(str(interruption) or "interrupted; no run was started", file=sys.stderr)
        return interrupt.EXIT_CODE


def _compile(args: argparse.Namespace, say: Say) -> int:
    recipe = _recipe(args)
    if os.path.exists(args.output) and os.path.samefile(args.output, recipe_path(args.recipe)):
        raise UsageError(f"--output {args.output} is the recipe itself; choose another file")
    package = _compiled(args, recipe)
    try:
        package.write(args.output)
    except FileExistsError:
        raise UsageError(f"--output {args.output}: {args.output.parent} is no folder") from None
    except OSError as error:
        raise UsageError(f"--output {args.output}: {error.strerror}") from None
    say(f"Wrote {args.output}: pipeline {_name(package)}, {len(package.spec.root.dag.tasks)} tasks")
    say("Next: upload and run it:")
    say(f"  {options.COMMAND} submit {options.pipeline_options(args)} --host URL --wait")
    return 0


def _submit(args: argparse.Namespace, say: Say) -> int:
    recipe = _recipe(args)
    _image(recipe)
    parameters = parameter_values(args.param, lambda more: _recipe(args, more))
    # Before compiling, which takes a while: who may not submit wants to know at once.
    backend = _connected(args)
    package = _compiled(args, recipe)
    from pipeline.kubeflow.client import submit

    version = submit.upload(backend, _name(package), package.to_yaml(), recipe.description)
    say(f"{'Uploaded' if version.is_new else 'Already there:'} version {version.name}")
    now = datetime.now().strftime("%Y-%m-%d %H:%M:%S")
    settings = submit.RunSettings(
        experiment_id=submit.experiment(backend, args.experiment or recipe.name),
        name=args.cron_name or recipe.name if args.schedule else f"{recipe.name} {now}",
        pipeline_root=args.pipeline_root,
        parameters=parameters,
        service_account=recipe.kubeflow.service_account,
    )
    if args.schedule:
        if warning := submit.account_warning(backend.version, settings.service_account):
            say(warning)
        if recipe.kubeflow.cache and not names_digest(_image(recipe)):
            say(
                f"Note: {_image(recipe)} is a tag, so every run begins anew; where the image is named by its "
                "digest, NAME@sha256:..., a run over unchanged data reuses its stages"
            )
        with _perhaps_started(settings.name):
            recurring_id = submit.schedule(backend, version, settings, args.schedule)
        page = backend.page("recurringrun", recurring_id)
        say(f"Recurring run {settings.name}, {args.schedule.cron}: {page}")
        return 0
    with _perhaps_started(settings.name):
        run_id = submit.start(backend, version, settings)
    say(f"Started run {settings.name}: {backend.page('runs', run_id)}")
    if args.wait:
        return _follow(args, backend, run_id, say)
    say(f"Next: follow it to its end:\n  {_resume(args, run_id)}")
    return 0


@contextmanager
def _perhaps_started(name: str) -> Iterator[None]:
    """Says of a request without an answer that the backend may have done what it was asked."""
    remedy = f"{name} may have been started nevertheless: look for it before you submit again"
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"interrupted; {remedy}") from None
    except ConnectionProblem as problem:
        raise ConnectionProblem(f"{problem}; {remedy}") if problem.perhaps_done else problem from None


def _wait(args: argparse.Namespace, say: Say) -> int:
    backend = _connected(args)
    say(f"Run {args.run_id}: {backend.page('runs', args.run_id)}")
    return _follow(args, backend, args.run_id, say)


def _follow(args: argparse.Namespace, backend: "Backend", run_id: str, say: Say) -> int:
    from pipeline.kubeflow.client import submit, waiting

    def fetch() -> Any:
        with backend.explained():
            return backend.client.get_run(run_id)

    def stages_of(run: Any) -> frozenset[str]:
        stages = submit.stages_of(backend, run)
        if MODEL_PUSHED not in stages:
            raise UsageError(f"run {run_id} is none of this project: it has no task {MODEL_PUSHED}")
        return stages

    try:
        run, stages = waiting.follow(fetch, stages_of, say, pace=waiting.PACE, timeout=args.timeout)
        return _conclude(backend, run, stages, say)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"interrupted; {_goes_on(args, run_id)}") from None
    except WaitedTooLong as late:
        raise WaitedTooLong(f"{late}; {_goes_on(args, run_id)}") from None
    except NotFound:
        raise
    except ConnectionProblem as problem:
        raise ConnectionProblem(f"{problem}; {_goes_on(args, run_id)}") from None


def _conclude(backend: "Backend", run: Any, stages: Collection[str], say: Say) -> int:
    """Says how a run has ended and why, as far as its logs can be asked for it, and returns the exit code."""
    from pipeline.kubeflow.client import waiting

    outcome = waiting.verdict(run)
    asked: Collection[str] = ()
    match outcome:
        case waiting.Outcome.PUSHED:
            say("Pushed: the model is in the serving directory")
            asked = [MODEL_PUSHED]
        case waiting.Outcome.REJECTED:
            say("Refused, nothing was pushed")
            asked = _GATES
        case waiting.Outcome.UNKNOWN:
            say("The run succeeded; whether a model was pushed is unknown: this Kubeflow tells of no stages")
            say("  In the user interface model-pushed says it: succeeded, or skipped")
            asked = [*_GATES, MODEL_PUSHED]
        case waiting.Outcome.CANCELED:
            match waiting.has_pushed(run):
                case True:
                    say("Cancelled, but the model had been pushed")
                    asked = [MODEL_PUSHED]
                case False:
                    say("Cancelled, nothing was pushed")
                case None if not waiting.tells_of_tasks(run):
                    say(f"Cancelled ({waiting.UNTOLD})")
                    say(_LOOK)
                case None:
                    say("Cancelled; whether a model was pushed is in the Pusher's log")
                    asked = [PUSHER]
        case waiting.Outcome.FAILED:
            failed = waiting.failures(run, stages)
            for line in failed.values():
                say(line)
            match waiting.has_pushed(run):
                case True:
                    say("The model had been pushed")
                    asked = [*failed, MODEL_PUSHED]
                case False:
                    asked = [*failed]
                case None if not waiting.tells_of_tasks(run):
                    say(_LOOK)
                case None:
                    say("Whether a model was pushed is in the Pusher's log")
                    asked = dict.fromkeys([*failed, PUSHER])
    told: list[str] = []
    withheld = False
    for stage in asked:
        for node in waiting.nodes(run, stage):
            try:
                told += [f"  {stage}: {line}" for line in backend.told(run.run_id, node)]
            except Forbidden:
                withheld = True
            except ConnectionProblem:
                pass
    for line in told:
        say(line)
    if outcome is waiting.Outcome.REJECTED and not told:
        cached = "" if withheld else "; what the cache answered has no log here"
        say(f"  The reasons are on the Report stage's page{cached}")
    if withheld:
        say("  This Kubeflow hands out no logs; where it serves several users, none does from 2.15.0 on")
    if asked:
        say("From the Pods' logs, while they are there; without the grep, all of them:")
        say(f"  {backend.log_command(run.run_id, asked)}")
    return _EXIT_CODES[outcome.value]


def _recipe(args: argparse.Namespace, more: Sequence[str] = ()) -> Recipe:
    """The recipe, with the command line's options and then ``more`` on top of it."""
    overrides = list(args.set)
    if args.image is not None:
        overrides.append(f"kubeflow.image={json.dumps(args.image)}")
    if args.no_cache:
        # A run of an uploaded version takes no switch for this: it has to be in the version.
        overrides.append("kubeflow.cache=false")
    # --data goes before --set, but not before a run's own data_path.
    data = None if any(override.startswith("dataset.root=") for override in more) else args.data
    return load_recipe(args.recipe, data, [*overrides, *more], runs_here=False)


def _image(recipe: Recipe) -> str:
    if recipe.kubeflow.image is None:
        raise UsageError("kubeflow.image is missing; give --image IMAGE, or add it to the recipe")
    return recipe.kubeflow.image


def _compiled(args: argparse.Namespace, recipe: Recipe) -> "Package":
    image = _image(recipe)
    from pipeline.kubeflow.spec.compile import compile_pipeline

    return compile_pipeline(recipe, image=image, pipeline_root=args.pipeline_root)


def _name(package: "Package") -> str:
    return str(package.spec.pipeline_info.name)


def _connected(args: argparse.Namespace) -> "Backend":
    from pipeline.kubeflow.client.backend import connect
    from pipeline.kubeflow.client.transport import Access

    return connect(
        Access(
            host=args.host,
            namespace=args.namespace,
            token_file=args.token_file,
            cookies_file=args.cookies_file,
            ssl_ca_cert=args.ssl_ca_cert,
            verify_ssl=not args.no_verify_ssl,
        )
    )


def _goes_on(args: argparse.Namespace, run_id: str) -> str:
    return f"the run goes on, this follows it again:\n  {_resume(args, run_id)}"


def _resume(args: argparse.Namespace, run_id: str) -> str:
    return " ".join(filter(None, (options.COMMAND, "wait", run_id, options.connection_options(args))))


def _printing_to(stream: TextIO) -> Say:
    def say(line: str) -> None:
        # Nobody reads any more (``| head``): no reason to leave the run unwatched.
        with suppress(BrokenPipeError):
            print(line, file=stream, flush=True)

    return say


if __name__ == "__main__":
    sys.exit(main())
