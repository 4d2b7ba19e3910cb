"""Scores a pushed model on a labelled folder with the metrics and thresholds of the gate; pushes nothing.

    python -m pipeline.evaluate --model my --recipe my.yaml --data DIR       the newest in runs/my/serving/my
    python -m pipeline.evaluate --model runs/my/serving/my/3 --recipe my.yaml --data DIR            a version

All pairs of the folder are scored, each at its mask's own size, but those files that the model learnt from:
what its own settings put into train or val, and what shares a group with these. Without --data that leaves
the test split of the recipe's folder. The recipe says how files and masks are read, and what the gate asks
for; its classes must be the model's.

Ends with 0 if the model would pass the gate, 3 if not, 1 if the evaluation failed, 2 if the command, the
recipe, the model or the data path is wrong or --output cannot be written to or has another evaluation at
work or somebody else's page, 130 if it was interrupted.
"""

import argparse
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from components.imports import OPTIONAL_TO_KERAS, quick_imports
from components.model_store import store
from components.model_store.description import (
    ExampleTraits,
    Mismatch,
    bands,
    bands_in_words,
    class_names,
    described,
    mismatch,
    pixel_limit,
    reads_upright,
    value_range,
)
from components.report.run_summary import RunSummary
from components.streams import end_process, open_missing_streams
from pipeline import interrupt
from pipeline.command_line import USAGE, add_overrides, command_parser, non_empty, non_empty_path
from pipeline.config import Recipe, load_recipe
from pipeline.evaluate.scratch import sole_evaluation
from pipeline.failures import exits_are_failures, explain_failure
from pipeline.local.last_lines import result_lines
from pipeline.local.views import Ending, Line, Tone, view_for
from pipeline.local.workdir import WORKDIRS, WorkDir, WorkDirError, check_place
from pipeline.recipe_errors import RecipeError
from pipeline.terminal import output_diverted, short_path

FAILED: Final = 1
REFUSED: Final = 3
_LOG: Final = "evaluation.log"

logger = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    open_missing_streams()
    args = _parser().parse_args(argv)
    signals = interrupt.Interrupt()
    log = args.output / _LOG
    with ExitStack() as held:
        try:
            recipe = load_recipe(args.recipe, args.data, args.set)
            recipe.dataset.check_root()
            model = find_model(args.model, WorkDir(WORKDIRS / recipe.name))
            check_place(model, "name the model by another path")
            check_model(model, recipe)
            check_place(args.output, "choose another --output")
            if recipe.dataset.root and os.path.realpath(args.output) == os.path.realpath(recipe.dataset.root):
                raise ValueError(f"--output {args.output} is the folder of the data; choose another")
            args.output.mkdir(parents=True, exist_ok=True)
            held.enter_context(sole_evaluation(log))
        except OSError as error:
            print(f"{error.filename}: {error.strerror}", file=sys.stderr)
            return USAGE
        except (RecipeError, ValueError, WorkDirError) as error:
            print(error, file=sys.stderr)
            return USAGE
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return interrupt.EXIT_CODE
        return _evaluate(recipe, model, args.output, log, signals)


def find_model(named: str, workdir: WorkDir) -> Path:
    """Returns the SavedModel that a name or a directory stands for, past links: they may be led elsewhere.

    Args:
        named: a model that is served from the work directory, whose newest version is meant; a version's
            directory, or the directory of versions.
        workdir: of the recipe.

    Raises:
        ValueError: there is none; one line says where it was looked for.
    """
    if "/" not in named and (served := store.newest(workdir.serving(named))):
        return served.path.resolve()
    # Not Path's, which raises over a user that there is not.
    path = Path(os.path.expanduser(named))
    if (path / store.MODEL_FILE).is_file():
        return path.resolve()
    if served := store.newest(path):
        return served.path.resolve()
    models = workdir.serving("")
    known = sorted(each.name for each in models.iterdir()) if models.is_dir() else []
    raise ValueError(
        f"--model {named}: no such model in {short_path(models)} ({', '.join(known) or 'it has none'}), "
        f"and no folder of that name that holds a {store.MODEL_FILE} or versions"
    )


def check_model(model: Path, recipe: Recipe) -> None:
    """Looks whether a model can be scored by a recipe.

    Raises:
        ValueError: it cannot; one line says why.
    """
    if what := store.damage(model):
        raise ValueError(what)
    dataset = recipe.dataset
    expected = ExampleTraits(
        list(dataset.label_set().names),
        dataset.exif == "upright",
        recipe.transform.bands,
        dataset.value_range,
        dataset.max_pixels,
    )
    if (found := mismatch(model, expected)) is not None:
        raise ValueError(_in_words(found, model, recipe.name, expected))


def _in_words(found: Mismatch, model: Path, recipe: str, expected: ExampleTraits) -> str:
    match found:
        case Mismatch.UNKNOWN_CLASSES:
            return f"{model} does not say what its classes are, so that no recipe can be held against it"
        case Mismatch.CLASSES:
            return (
                f"the classes differ: {model} has {', '.join(class_names(model) or ())}; recipe {recipe} has "
                f"{', '.join(expected.class_names or ())}. Names and order must agree: mend dataset.classes "
                "or dataset.label_values"
            )
        case Mismatch.EXIF:
            exif = "upright" if reads_upright(model) else "stored"
            return (
                f"{model} takes the pixels of an image with an EXIF orientation as {exif}, the recipe does "
                f"not: --set dataset.exif={exif}"
            )
        case Mismatch.BANDS:
            channels = described(model, "recipe", "transform", "channels") or 3
            return (
                f"{model} reads {bands_in_words(bands(model))} and recipe {recipe} "
                f"{bands_in_words(expected.bands)}: --set transform.channels='{channels}'"
            )
        case Mismatch.VALUE_RANGE:
            values = value_range(model)
            kept = "null" if values is None else f"'{list(values)}'"
            return (
                f"{model} and recipe {recipe} take other values of pictures of more than 8 bits for 0 and "
                f"255: --set dataset.value_range={kept}"
            )
        case Mismatch.MAX_PIXELS:
            limit = pixel_limit(model)
            return (
                f"{model} refuses images of more than {limit} pixels, and dataset.max_pixels lets in "
                f"{expected.largest}: --set dataset.max_pixels={limit}"
            )


def _evaluate(recipe: Recipe, model: Path, output: Path, log: Path, signals: interrupt.Interrupt) -> int:
    with output_diverted(log) as stream, view_for(stream, "normal", os.environ) as view:
        view.run_starts(recipe.name, short_path(output))
        try:
            # Seconds of imports, which nobody waits for who has mistyped something.
            with quick_imports(*OPTIONAL_TO_KERAS):
                from pipeline.evaluate.run import evaluate

            with exits_are_failures():
                summary = evaluate(recipe, model, output, view)
        except (Exception, KeyboardInterrupt) as error:
            view.stages_are_over()
            if signals.received:
                view.run_ends(Ending(interrupt.EXIT_CODE, log, None, [Line("interrupted", Tone.WARNING)]))
                # Beam's threads may still be at work, and the interpreter would wait for them.
                interrupt.leave(interrupt.EXIT_CODE)
            logger.exception("The evaluation did not finish")
            lines = [Line(f"Failed: {explain_failure(error)}", Tone.BAD), _place("Log:    ", log)]
            view.run_ends(Ending(FAILED, log, None, lines))
            return FAILED
        code = REFUSED if summary.reasons else 0
        view.run_ends(Ending(code, log, summary, list(_last_lines(summary, log))))
    return code


def _last_lines(summary: RunSummary, log: Path) -> Iterator[Line]:
    yield Line("")
    yield from map(Line, result_lines(summary))
    if summary.reasons:
        yield Line("The gate would refuse it:", Tone.BAD)
        yield from (Line(f"  {reason}") for reason in summary.reasons)
    else:
        yield Line("It would pass the gate", Tone.GOOD)
    yield Line("")
    yield _place("Report: ", Path(summary.report or ""))
    yield _place("Log:    ", log)


def _place(what: str, path: Path) -> Line:
    return Line(f"{what} {short_path(path.absolute())}", copied=True)


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("pipeline.evaluate", __doc__)
    parser.add_argument(
        "--model",
        required=True,
        type=non_empty,
        metavar="NAME|DIR",
        help="a model in runs/RECIPE/serving, a version's directory, or the directory of a model's versions",
    )
    parser.add_argument(
        "--recipe", required=True, type=non_empty, metavar="NAME|FILE.yaml", help="how to read the folder"
    )
    parser.add_argument(
        "--data", type=non_empty, metavar="DIR", help="the labelled folder; replaces dataset.root"
    )
    add_overrides(parser, "evaluation.min_mean_iou=0.7")
    parser.add_argument(
        "--output",
        type=non_empty_path,
        default=Path("evaluation"),
        metavar="DIR",
        help="where index.html, report.json, splits.csv and evaluation.log go; default: %(default)s",
    )
    return parser


if __name__ == "__main__":
    end_process(main())
