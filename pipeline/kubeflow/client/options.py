"""The command line of ``python -m pipeline.run_kubeflow``."""

import argparse
import math
import os
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from pipeline.command_line import add_overrides, command_parser, non_empty, non_empty_path
from pipeline.config import DEFAULT_RECIPE
from pipeline.kubeflow.client.parameters import PARAMETER_KEYS

COMMAND = "python -m pipeline.run_kubeflow"
_PIPELINE_ROOT = re.compile(r"(s3|gs|minio)://[^/?#\s*\[\\]+(/[^?#\s*\[\\]*)?")
"""What Kubeflow's launcher reads and writes, and stages read: these take ``*``, ``[`` and a backslash for a
pattern."""
MAX_CONCURRENCY = range(1, 11)
"""What the backend accepts (its ``toModelJob``)."""

_CRON = re.compile(
    r"@(yearly|annually|monthly|weekly|daily|midnight|hourly)|@every [0-9][0-9.a-zµ]*"
    r"|[0-9*?/,-]+( [0-9*?/,-]+){3}( [0-9A-Za-z*?/,-]+){2}"
)
_Value = TypeVar("_Value")


@dataclass(frozen=True)
class Schedule:
    """The times of a recurring run, as Kubeflow writes them."""

    cron: str
    start: str | None = None
    """RFC 3339; None is now."""
    end: str | None = None
    """RFC 3339; None is never."""
    max_concurrency: int = 1
    """Runs that may be under way at once."""
    catchup: bool = False
    """Whether all times that were missed are made up for, and not only the latest."""


def parse(description: str | None, argv: list[str] | None) -> argparse.Namespace:
    """Returns the options, ``command`` and ``schedule`` among them; leaves the process if they are wrong."""
    parser = command_parser("pipeline.run_kubeflow", description)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, text: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=text, description=text, allow_abbrev=False)

    compile_ = add("compile", "write the pipeline as one package that Kubeflow runs")
    _add_pipeline(compile_)
    compile_.add_argument("--output", required=True, type=_package_file, metavar="FILE.yaml")

    submit = add("submit", "upload the pipeline, unless it is there, and start a run or a recurring run")
    _add_pipeline(submit)
    _add_run(submit)
    _add_schedule(submit)
    _add_connection(submit)
    submit.add_argument("--wait", action="store_true", help="follow the run to its end")
    _add_timeout(submit)

    wait = add("wait", "follow a run that was started before")
    wait.add_argument("run_id", type=non_empty, metavar="RUN_ID")
    _add_connection(wait)
    _add_timeout(wait)

    args = parser.parse_args(argv)
    if args.command == "submit":
        args.schedule = _schedule(submit, args)
        if args.timeout is not None and not args.wait:
            submit.error("--timeout goes with --wait")
    return args


def pipeline_options(args: argparse.Namespace) -> str:
    """Returns the options that decide on the pipeline, as typed again for another command."""
    return shlex.join(_given(args, "recipe", "data", "set", "image", "pipeline_root", "no_cache"))


def connection_options(args: argparse.Namespace) -> str:
    """Returns the options that lead to the backend, as typed again for another command."""
    names = ("host", "namespace", "token_file", "cookies_file", "ssl_ca_cert", "no_verify_ssl")
    return shlex.join(_given(args, *names))


def _given(args: argparse.Namespace, *names: str) -> Iterator[str]:
    for name in names:
        option, value = f"--{name.replace('_', '-')}", getattr(args, name)
        for one in value if isinstance(value, list) else [value]:
            if one is True:
                yield option
            elif one not in (None, False):
                yield from (option, str(one))


def _add_pipeline(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("pipeline")
    group.add_argument(
        "--recipe",
        type=non_empty,
        default=DEFAULT_RECIPE,
        metavar="NAME|FILE.yaml",
        help="default: %(default)s",
    )
    group.add_argument(
        "--data",
        type=non_empty,
        metavar="DIR|URI",
        help="where the stages' containers find the dataset, or s3://BUCKET/FOLDER; replaces dataset.root",
    )
    add_overrides(group)
    group.add_argument(
        "--image", type=non_empty, help="container image of all stages; default: the recipe's kubeflow.image"
    )
    group.add_argument(
        "--pipeline-root",
        required=True,
        type=_uri,
        metavar="URI",
        help="where the stages' results go, such as s3://BUCKET/pipelines; also gs:// and minio://",
    )
    group.add_argument("--no-cache", action="store_true", help="take no stage's answer from an earlier run")


def _add_run(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("run")
    group.add_argument("--experiment", type=non_empty, metavar="NAME", help="default: the recipe's name")
    group.add_argument(
        "--param",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a value for this run, the pipeline stays as it is: "
        f"{', '.join(PARAMETER_KEYS)}; may be repeated",
    )


def _add_schedule(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("recurring run")
    group.add_argument(
        "--cron",
        type=_parsed(_parse_cron),
        metavar="EXPR",
        help="start a run whenever this says: 'SECOND MINUTE HOUR DAY MONTH WEEKDAY' or @daily, in the "
        "backend's time zone",
    )
    group.add_argument("--cron-name", type=non_empty, metavar="NAME", help="default: the recipe's name")
    group.add_argument(
        "--max-concurrency",
        type=int,
        choices=MAX_CONCURRENCY,
        metavar="N",
        help=f"runs under way at once, {MAX_CONCURRENCY[0]} to {MAX_CONCURRENCY[-1]}; default: 1",
    )
    group.add_argument(
        "--start", type=_parsed(_parse_time), metavar="TIME", help="2030-01-31T06:00:00Z; default: now"
    )
    group.add_argument(
        "--end", type=_parsed(_parse_time), metavar="TIME", help="no run begins later; default: never"
    )
    group.add_argument(
        "--catchup", action="store_true", help="make up for times that were missed; default: only the latest"
    )


def _add_connection(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "connection",
        "What is not given here is taken from kfp's own configuration: its environment variables "
        "(KF_PIPELINES_ENDPOINT, KF_PIPELINES_SA_TOKEN_PATH, ...), ~/.config/kfp/context.json, the service "
        "account's token in a pod, kubectl's context.",
    )
    group.add_argument(
        "--host", type=non_empty, metavar="URL", help="such as https://kubeflow.example.org/pipeline"
    )
    group.add_argument(
        "--namespace", type=non_empty, metavar="N", help="your profile's, where Kubeflow serves several users"
    )
    who = group.add_mutually_exclusive_group()
    who.add_argument(
        "--token-file",
        type=non_empty_path,
        metavar="FILE",
        help="a bearer token, read again for each request",
    )
    who.add_argument(
        "--cookies-file", type=non_empty_path, metavar="FILE", help="cookies on one line: NAME=VALUE; ..."
    )
    group.add_argument(
        "--ssl-ca-cert",
        type=non_empty_path,
        metavar="FILE",
        help="PEM file of who signed the server's certificate",
    )
    group.add_argument("--no-verify-ssl", action="store_true", help="take any certificate")


def _add_timeout(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--timeout", type=_seconds, metavar="S", help="seconds to wait; the run then goes on by itself"
    )


def _schedule(parser: argparse.ArgumentParser, args: argparse.Namespace) -> Schedule | None:
    if args.cron is None:
        for name in ("cron_name", "max_concurrency", "start", "end", "catchup"):
            if getattr(args, name):
                parser.error(f"--{name.replace('_', '-')} goes with --cron")
        return None
    if args.wait:
        parser.error("--wait follows one run, and --cron starts many; leave one of them out")
    if args.start and args.end and datetime.fromisoformat(args.start) >= datetime.fromisoformat(args.end):
        parser.error(f"no run would ever begin: --start {args.start} is not before --end {args.end}")
    if args.end and datetime.fromisoformat(args.end) <= datetime.now(UTC):
        parser.error(f"no run would ever begin: --end {args.end} is past")
    return Schedule(args.cron, args.start, args.end, args.max_concurrency or 1, args.catchup)


def _parsed(parse_text: Callable[[str], _Value]) -> Callable[[str], _Value]:
    def convert(text: str) -> _Value:
        try:
            return parse_text(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{text!r} {error}") from None

    return convert


def _parse_cron(text: str) -> str:
    """Returns a cron expression as the backend reads it, or raises ValueError.

    The backend's parser (robfig/cron, version 1) counts from seconds. It would take the five fields of a
    crontab as well, but read them as second, minute, hour, day and month.
    """
    fields = text.split()
    if len(fields) == 5 and not text.startswith("@"):
        raise ValueError(f"has no seconds; Kubeflow's begin with them: '0 {' '.join(fields)}'")
    if not _CRON.fullmatch(" ".join(fields)):
        raise ValueError(
            "should have six fields, second minute hour day month weekday, or be such as @daily or @every 12h"
        )
    return " ".join(fields)


def _parse_time(text: str) -> str:
    """Returns a moment in RFC 3339, or raises ValueError."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise ValueError("should be a time with its zone, such as 2030-01-31T06:00:00Z")
    return moment.isoformat().replace("+00:00", "Z")


def _uri(text: str) -> str:
    # The backend would take what follows a ? for settings of the bucket.
    if _PIPELINE_ROOT.fullmatch(text) is None:
        raise argparse.ArgumentTypeError(
            f"{text!r} should name a bucket of an object store, and a folder in it: s3://BUCKET/PATH, "
            "gs://BUCKET/PATH or minio://BUCKET/PATH, without * ? [ and \\"
        )
    return text.rstrip("/")


def _package_file(text: str) -> Path:
    path = non_empty_path(text)
    if path.suffix != ".yaml" or os.path.isdir(path):
        raise argparse.ArgumentTypeError(f"{text!r} should be a file that ends in .yaml")
    return path


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return value
