"""Runs a recipe on this machine: a folder of images and masks goes in, a pushed model comes out.

    python -m pipeline.run_local                                             shapes, drawn on the spot
    python -m pipeline.run_local --recipe pets_unet --data DIR               a dataset
    python -m pipeline.run_local --recipe FILE.yaml --set training.epochs=5  your own recipe

Ends with 0 if a model was pushed, 3 if the gate or the serving check refused it, 1 if a stage failed, 2 if
the command, the recipe or the data path is wrong, 130 if it was interrupted.
"""

import argparse
import os
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from components.errors import StageError
from components.model_store import publishing, signing
from components.streams import end_process, open_missing_streams
from pipeline import interrupt
from pipeline.command_line import USAGE, add_overrides, command_parser, non_empty, non_empty_path
from pipeline.config import DEFAULT_RECIPE, Recipe, list_recipes, load_recipe
from pipeline.local.last_lines import last_lines
from pipeline.local.run import LocalRun, new_run_id
from pipeline.local.views import Ending, Line, Mode, Tone, view_for
from pipeline.local.workdir import WORKDIRS, WorkDir, WorkDirError, check_place
from pipeline.recipe_errors import RecipeError
from pipeline.terminal import complain, output_diverted, short_path, show

_MODES: dict[Mode, str] = {
    "quiet": "show only how it ends, and errors",
    "verbose": "show also what the stages write to the log",
    "json": "write what happens as one JSON object a line, the last one with the summary",
}
_EXIT_CODES = {"pushed": 0, "failed": 1, "rejected": 3}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    open_missing_streams()
    args = _parser().parse_args(argv)
    signals = interrupt.Interrupt()
    try:
        return _command(args, signals)
    except KeyboardInterrupt:
        complain("interrupted")
        return interrupt.EXIT_CODE


def _command(args: argparse.Namespace, signals: interrupt.Interrupt) -> int:
    if args.list_recipes:
        recipes = list_recipes()
        width = max(map(len, recipes))
        show("\n".join(f"{name:{width}}  {description}" for name, description in recipes.items()))
        return 0
    try:
        recipe = load_recipe(args.recipe, args.data, args.set)
        recipe.dataset.check_root()
        if recipe.serving.signing_key:
            # Now, and not after the training.
            signing.check_private_key(recipe.serving.signing_key)
    except (RecipeError, ValueError) as error:
        complain(error)
        return USAGE
    workdir = WorkDir(args.workdir or WORKDIRS / recipe.name)
    try:
        check_place(workdir.root, "choose another --workdir")
        # That there is none at all is said where it is needed.
        with suppress(FileNotFoundError):
            # The serving check loads a copy of the model from there.
            check_place(Path(tempfile.gettempdir()), "name another place for temporary files in TMPDIR")
        with workdir.locked():
            publishing.check_lock(workdir.serving(recipe.serving.model_name))
            with workdir.sound_metadata():
                return _run(recipe, workdir, args.mode, signals)
    except (WorkDirError, StageError) as error:
        complain(error)
        return USAGE


def _run(recipe: Recipe, workdir: WorkDir, mode: Mode, signals: interrupt.Interrupt) -> int:
    run_id = new_run_id()
    log = workdir.begin_log(run_id)
    with output_diverted(log) as stream, view_for(stream, mode, os.environ) as view:
        view.run_starts(recipe.name, short_path(workdir.root))
        try:
            ended = LocalRun(recipe, workdir, run_id, view, signals).run()
        except KeyboardInterrupt:
            line = Line("interrupted; run the same command again to go on from there", Tone.WARNING)
            view.run_ends(Ending(interrupt.EXIT_CODE, log, None, [line]))
            interrupt.leave(interrupt.EXIT_CODE, workdir.remove_temporary)
        code = interrupt.EXIT_CODE if ended.interrupted else _EXIT_CODES[ended.summary.outcome]
        lines = list(last_lines(ended, recipe, workdir, log))
        view.run_ends(Ending(code, log, ended.summary, lines))
        if ended.interrupted:
            # Beam's threads may still be at work, and the interpreter would wait for them.
            interrupt.leave(code, workdir.remove_temporary)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("pipeline.run_local", __doc__)
    parser.add_argument(
        "--recipe",
        type=non_empty,
        default=DEFAULT_RECIPE,
        metavar="NAME|FILE.yaml",
        help="default: %(default)s",
    )
    parser.add_argument(
        "--data",
        type=non_empty,
        metavar="DIR",
        help="the dataset's folder, or s3://BUCKET/FOLDER; replaces dataset.root",
    )
    parser.add_argument(
        "--workdir", type=non_empty_path, metavar="DIR", help="where all results go; default: runs/RECIPE"
    )
    add_overrides(parser)
    parser.add_argument("--list-recipes", action="store_true", help="show the recipes that have a name")
    shown = parser.add_mutually_exclusive_group()
    for mode, meaning in _MODES.items():
        shown.add_argument(
            f"--{mode}", dest="mode", action="store_const", const=mode, default="normal", help=meaning
        )
    return parser


if __name__ == "__main__":
    end_process(main())
