"""Segments images with a served model.

    python -m pipeline.predict cat.jpg dog.png --server localhost:8500 --model pets --output masks
    python -m pipeline.predict photos --overlay --json masks/fractions.jsonl ...    a folder
    python -m pipeline.predict 'photos/**/*.jpg' ...                                a pattern, quoted
    find photos -name '*.jpg' | python -m pipeline.predict - ...                    names from standard input

Each image a.jpg gives a mask a.jpg.png below --output, in the folder that it has below the folder named
(or below the one that all images named have in common). A pixel's value is its class id; a palette shows
the classes in their colours; --values raw writes the label values of the data trained on instead. Masks
are those of the pictures as they are stored, or upright where the model applies EXIF orientations. What is
neither JPEG nor PNG (TIFF, WebP, JPEG 2000, Netpbm, BMP, GIF) is sent as PNG, as it was trained on.

Ends with 0 if all images were answered, 1 if some failed or no server answered, 2 if the command is wrong
(nothing is sent then), 130 if it was interrupted.
"""

import argparse
import math
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from components import serving
from components.errors import printable
from components.streams import open_missing_streams
from pipeline import interrupt
from pipeline.command_line import USAGE, command_parser, non_empty, non_empty_path
from pipeline.terminal import complain, leave_stdout, settle_stdout

if TYPE_CHECKING:
    from components.serving.client import SegmentationClient
    from pipeline.predict.image_files import Found

FAILED = 1
_NAMED = 5
"""Files passed over that are named."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    open_missing_streams()
    parser = _parser()
    args = parser.parse_args(argv)
    interrupt.Interrupt()
    # gRPC's C++ core would print to standard error what the client says better; it looks at this once,
    # when it is imported.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        # Neither --help nor a wrong option needs these imports.
        from pipeline.predict.image_files import SUFFIXES
        from pipeline.predict.result_files import Existing, ResultFiles
        from pipeline.predict.run import Values, predict_files

        client = _client(args)
        results = ResultFiles(args.output, args.overlay, args.json, Existing(args.existing))
        found = _images(args)
        images = results.still_to_do(found.images)
        args.output.mkdir(parents=True, exist_ok=True)
    except (ValueError, OSError) as error:
        reason = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else error
        complain(printable(f"{parser.prog}: {reason}"))
        return USAGE
    except KeyboardInterrupt:
        complain("interrupted; nothing was sent")
        return interrupt.EXIT_CODE
    if found.passed_over:
        first = ", ".join(map(str, found.passed_over[:_NAMED]))
        more = len(found.passed_over) - _NAMED
        and_more = f" and {more} more" if more > 0 else ""
        complain(printable(f"passed over: {first}{and_more}; images end in {SUFFIXES}"))
    try:
        answered = predict_files(
            client,
            images,
            results,
            values=Values.AS_SENT if args.raw else Values(args.values),
            concurrency=args.concurrency,
            batch_size=args.batch_size,
        )
        settle_stdout()
        return 0 if answered else FAILED
    except KeyboardInterrupt:
        complain("interrupted; the same command with --existing skip goes on from there")
        return interrupt.EXIT_CODE
    except BrokenPipeError:
        leave_stdout()
        return FAILED


def _client(args: argparse.Namespace) -> "SegmentationClient":
    from components.serving.client import SegmentationClient
    from components.serving.connection import Tls

    if args.tls_ca is None and (args.tls_cert or args.tls_key or args.tls_server_name):
        raise ValueError("--tls-cert, --tls-key and --tls-server-name go with --tls-ca, which turns TLS on")
    tls = Tls(args.tls_ca, args.tls_cert, args.tls_key, args.tls_server_name) if args.tls_ca else None
    return SegmentationClient(
        args.server,
        args.model,
        version=args.version,
        label=args.label,
        timeout=args.timeout,
        patience=args.patience,
        tls=tls,
        max_message_bytes=args.max_message_bytes,
    )


def _images(args: argparse.Namespace) -> "Found":
    from pipeline.predict.image_files import find_images

    arguments = [argument for argument in args.images if argument != "-"]
    listed = _names_on_stdin() if "-" in args.images else []
    found = find_images(arguments, listed, leave_out=args.output)
    if not found.images:
        raise ValueError("standard input names no image")
    return found


def _names_on_stdin() -> list[str]:
    """File names, one a line, or as ``find -print0`` ends them."""
    if sys.stdin is None:
        raise ValueError("standard input is closed")
    data = sys.stdin.buffer.read()
    names = data.split(b"\0") if b"\0" in data else data.splitlines()
    return [os.fsdecode(name) for name in names if name]


def _number(kind: type[int] | type[float], least: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not least <= value < math.inf:
            what = "a whole number" if kind is int else "a number"
            raise argparse.ArgumentTypeError(f"{text!r} is not {what} of at least {least:g}")
        return value

    return parse


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("pipeline.predict", __doc__)
    parser.add_argument(
        "images",
        nargs="+",
        type=non_empty,
        metavar="IMAGE",
        help="a file, a folder (searched through), a pattern, or - for file names on standard input",
    )
    model = parser.add_argument_group("model")
    model.add_argument(
        "--server", required=True, type=non_empty, metavar="HOST:PORT", help="the server's gRPC port"
    )
    model.add_argument(
        "--model", required=True, type=non_empty, metavar="NAME", help="the name under which it is served"
    )
    which = model.add_mutually_exclusive_group()
    which.add_argument("--version", type=_number(int, 1), metavar="N", help="default: the latest")
    which.add_argument("--label", type=non_empty, metavar="LABEL", help="a version's label, such as stable")
    results = parser.add_argument_group("results")
    results.add_argument(
        "--output", required=True, type=non_empty_path, metavar="DIR", help="folder for the masks"
    )
    results.add_argument(
        "--overlay", action="store_true", help="also write a.jpg.overlay.jpg: classes laid over the image"
    )
    held = results.add_mutually_exclusive_group()
    held.add_argument(
        "--values",
        choices=["ids", "raw"],
        default="ids",
        help="what a mask's pixels hold: class ids, shown in the classes' colours, or the label values of "
        "the data that the model was trained on, numbers or RGB; default: ids",
    )
    held.add_argument(
        "--raw", action="store_true", help="write masks as the server sends them: class ids without a palette"
    )
    results.add_argument(
        "--json",
        type=non_empty,
        metavar="FILE|-",
        help="write a JSON object a line for each image: its class fractions",
    )
    results.add_argument(
        "--existing",
        choices=["refuse", "skip", "replace"],
        default="refuse",
        help="what to do where results exist: refuse to run, skip those images, replace; default: refuse",
    )
    requests = parser.add_argument_group("requests")
    requests.add_argument(
        "--concurrency",
        type=_number(int, 1),
        default=serving.CONCURRENCY,
        metavar="N",
        help="requests under way at once; default: %(default)s",
    )
    requests.add_argument(
        "--batch-size",
        type=_number(int, 1),
        default=1,
        metavar="N",
        help="images in a request; default: %(default)s",
    )
    requests.add_argument(
        "--timeout",
        type=_number(float, 0.001),
        default=serving.TIMEOUT,
        metavar="S",
        help="seconds that a request may take, to which --patience is added; default: %(default)g",
    )
    requests.add_argument(
        "--patience",
        type=_number(float, 0),
        default=serving.PATIENCE,
        metavar="S",
        help="seconds more, in which a server that is away or overloaded is waited for and asked again; 0 "
        "does neither; default: %(default)g",
    )
    requests.add_argument(
        "--max-message-bytes",
        type=_number(int, 1),
        default=serving.MAX_MESSAGE_BYTES,
        metavar="N",
        help="largest request and largest answer; default: %(default)s",
    )
    tls = parser.add_argument_group("encryption, with PEM files")
    tls.add_argument(
        "--tls-ca", type=non_empty_path, metavar="FILE", help="who signed the server's certificate"
    )
    tls.add_argument(
        "--tls-cert", type=non_empty_path, metavar="FILE", help="the client's certificate, if asked for"
    )
    tls.add_argument("--tls-key", type=non_empty_path, metavar="FILE", help="its private key")
    tls.add_argument(
        "--tls-server-name",
        type=non_empty,
        metavar="NAME",
        help="the name in the server's certificate, if not HOST",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
