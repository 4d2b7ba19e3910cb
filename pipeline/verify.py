"""Checks the signatures of pushed versions, and keeps a directory of those that are right for a server.

    python -m pipeline.verify runs/shapes/serving/shapes --key signing.pub
    python -m pipeline.verify runs/shapes/serving/shapes --key signing.pub --to verified/shapes

The first looks at every version once. The second goes on until it is stopped: each version is copied, the
copy checked and put into the directory under its number, and it leaves with the version that it is of. What
is refused is said in one line, once, and does not get there. What the directory holds already is checked,
too, and removed if it is not right. What cannot be done, as with a full disk, is said once and tried again. A
server that watches that directory serves nothing unsigned, as long as nobody else writes to it.

Ends with 0 if every version is what was signed, or with --to after SIGTERM or Ctrl-C; with 1 if a version is
not, or there is none; and with 2 if the command, the key or a path is wrong.
"""

import argparse
import signal
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from components.model_store import signing
from components.model_store.follower import Follower, loaded_by_some_server
from components.streams import open_missing_streams
from pipeline.command_line import USAGE, command_parser, non_empty, non_empty_path
from pipeline.terminal import complain, settle_stdout, show

_REFUSED: Final = 1


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    open_missing_streams()
    args = _parser().parse_args(argv)
    try:
        signing.check_public_key(args.key)
        if not args.model_base_path.is_dir():
            raise signing.SigningError(
                f"{args.model_base_path} is no directory; name the one that holds the model's version "
                "directories, such as WORKDIR/serving/MODEL"
            )
        follower = Follower(args.model_base_path, args.to, args.key) if args.to else None
    except signing.SigningError as error:
        complain(error)
        return USAGE
    except OSError as error:
        complain(_unreadable(error, args.model_base_path))
        return USAGE
    if follower is None:
        return _check(args.model_base_path, args.key)
    _follow(follower, args.poll_seconds)
    return 0


def _check(base: Path, key: str) -> int:
    try:
        loaded, refused = loaded_by_some_server(base), 0
    except OSError as error:
        complain(_unreadable(error, base))
        return _REFUSED
    if not loaded:
        complain(f"no version under {base}")
        return _REFUSED
    for version in loaded:
        try:
            signing.verify(version, key)
        except signing.SigningError as error:
            refused += 1
            complain(error)
        except OSError as error:
            refused += 1
            complain(_unreadable(error, version))
        else:
            show(f"version {version.name} is what was signed")
    return _REFUSED if refused else 0


def _unreadable(error: OSError, place: Path) -> str:
    return f"{error.filename or place} cannot be read: {error.strerror or error}"


def _follow(follower: Follower, seconds: float) -> None:
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    said = ""
    while True:
        try:
            for line in follower.look():
                # Not by `show`, which gives up for good: a full disk has room again, and hears the next line.
                with suppress(OSError):
                    print(line, flush=True)
            trouble = ""
        except (signing.SigningError, OSError) as error:
            # A mount that is away, a full disk: what is in the target stays, and the next round may succeed.
            trouble = str(error)
        if trouble and trouble != said:
            complain(trouble)
        said = trouble
        if stopping.wait(seconds):
            settle_stdout()
            return


def _seconds(text: str) -> float:
    if (seconds := float(text)) <= 0:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return seconds


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("pipeline.verify", __doc__)
    parser.add_argument(
        "model_base_path", type=non_empty_path, help="directory that holds the model's versions"
    )
    parser.add_argument("--key", required=True, type=non_empty, metavar="FILE", help="the public key, PEM")
    parser.add_argument(
        "--to", type=non_empty_path, metavar="DIR", help="directory of the versions that are right"
    )
    parser.add_argument(
        "--poll_seconds", type=_seconds, default=10, metavar="SECONDS", help="default: %(default)s"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
