"""Looks at images and masks and writes a first recipe for them, and a picture to check it by eye.

    python -m pipeline.init --images photos --masks labels --output my.yaml
    python -m pipeline.init --images DIR --masks DIR --output my.yaml --classes background,road,car
    python -m pipeline.init --layout oxford_iiit_pet --data DIR --output my.yaml    a known dataset
    python -m pipeline.init --data DIR --output my.yaml    the same, found out by what lies there

Files are paired by name, as the ingestion will pair them; 0001_mask.png is the mask of 0001.jpg. All names
and headers are read, and the pixels of a sample of the masks. The recipe runs as it is:
python -m pipeline.run_local --recipe my.yaml

Ends with 0 if the recipe is written, 2 if the command or the data is wrong; one line says why. 130 if it was
interrupted.
"""

import argparse
import os
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from components.bucket import is_remote
from components.errors import StageError
from components.image_mask_example_gen.layouts import DATASETS
from components.streams import open_missing_streams
from pipeline import interrupt
from pipeline.command_line import USAGE, command_parser, non_empty, non_empty_path
from pipeline.init import InitError, already_there
from pipeline.terminal import complain, output_diverted, show

_RECIPE_SUFFIXES: Final = (".yaml", ".yml")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    started = time.monotonic()
    parser = _parser()
    args = parser.parse_args(argv)
    try:
        preview = _check(args)
        # Half a second of imports that neither --help nor a wrong command needs.
        from pipeline.init.run import look_at_folders, look_at_layout, write_recipe

        # Libraries in C write what they think of a file, or of the machine, past everything to the terminal.
        with output_diverted(Path(os.devnull)):
            if args.data is None:
                dataset = look_at_folders(args.images, args.masks, args.classes)
            else:
                from pipeline.init.known_layouts import Known, recognise_root

                known = Known(args.layout, args.data) if args.layout else recognise_root(args.data)
                dataset = look_at_layout(known.layout, known.root, args.classes)
        command = f"{parser.prog} {shlex.join(sys.argv[1:] if argv is None else argv)}"
        report = write_recipe(dataset, args.output, preview, command, started, force=args.force)
    except (InitError, StageError) as error:
        complain(f"{parser.prog}: {error}")
        return USAGE
    except MemoryError as error:
        # As a rule it says what was read.
        limit = "; ".join(
            filter(None, (str(error), "memory is at its end, or what one process may have of it"))
        )
        complain(f"{parser.prog}: {limit}")
        return USAGE
    except KeyboardInterrupt:
        complain("interrupted, nothing was written")
        return interrupt.EXIT_CODE
    except OSError as error:
        # Of a write that fails, Python does not say the file.
        complain(f"{parser.prog}: {error.filename or args.output}: {error.strerror}")
        return USAGE
    show("\n".join(report))
    return 0


def _check(args: argparse.Namespace) -> Path:
    """Returns where the preview goes."""
    folders = args.images is not None or args.masks is not None
    known = args.layout is not None or args.data is not None
    if folders == known:
        raise InitError("give --images DIR and --masks DIR, or --layout NAME and --data DIR")
    if folders and (args.images is None or args.masks is None):
        raise InitError(f"--{'images' if args.images is None else 'masks'} DIR is missing")
    if known and args.data is None:
        raise InitError("--layout NAME needs --data DIR")
    for option in ("images", "masks", "data"):
        # As a path it has lost one of its slashes.
        named = str(getattr(args, option)).replace(":/", "://", 1)
        if is_remote(named):
            raise InitError(
                f"--{option}: {named} is in a bucket, and a first recipe is made from files; copy some "
                "hundred pairs, and name the bucket when the recipe runs: --data s3://BUCKET/FOLDER"
            )
    if args.output.suffix not in _RECIPE_SUFFIXES:
        raise InitError(f"--output: {args.output} must end in .yaml, as every recipe's file")
    preview: Path = args.preview or args.output.with_name("preview.png")
    if preview.suffix.lower() != ".png":
        raise InitError(f"--preview: {preview} must end in .png")
    for option, path in (("--output", args.output), ("--preview", preview)):
        if path.is_dir() or not path.parent.is_dir():
            problem = "is a folder" if path.is_dir() else f"has no folder {path.parent} to lie in"
            raise InitError(f"{option}: {path} {problem}")
        if path.exists() and not args.force:
            raise already_there(option, path)
    return preview


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("pipeline.init", __doc__)
    parser.add_argument("--images", type=non_empty_path, metavar="DIR", help="folder of the images")
    parser.add_argument(
        "--masks", type=non_empty_path, metavar="DIR", help="folder of the masks; may be the same"
    )
    parser.add_argument("--layout", choices=DATASETS, help="a known dataset, as its download unpacks")
    parser.add_argument("--data", type=non_empty_path, metavar="DIR", help="the known dataset's folder")
    parser.add_argument(
        "--output", type=non_empty_path, required=True, metavar="FILE.yaml", help="the recipe to write"
    )
    parser.add_argument(
        "--classes",
        type=non_empty,
        metavar="A,B,...|FILE",
        help="class names in the order of the masks' values, or a file with a name a line, with its value "
        "(7 road, or road,7) or colour (road,128,64,128) or without",
    )
    parser.add_argument(
        "--preview", type=non_empty_path, metavar="FILE.png", help="default: preview.png beside the recipe"
    )
    parser.add_argument("--force", action="store_true", help="replace existing files")
    return parser


if __name__ == "__main__":
    # First: a pipe for signals would get the descriptor of a stream that is missing.
    open_missing_streams()
    interrupt.Interrupt()
    sys.exit(main())
