"""Thin structures at the resolution of the pictures, against pictures resized as a whole, in equal time.

    python -m benchmarks.resolution [--minutes 10] [--forms resized proposed] [--workdir DIR]
                                   [--set KEY=VALUE ...]

Draws 20 pictures for training and 20 for testing, 600 x 600 pixels of curves 1 to 3 px wide, and lets
``pipeline.init`` write a recipe for them. Each form of it is then trained for as long as ``--minutes`` says
and evaluated by ``pipeline.run_local``:

- ``resized``: pictures stretched to 256 x 256;
- ``proposed``: as ``init`` proposes by itself.

How many epochs fit is found out by training a few first. A line is printed as soon as it is measured:

- ``seen``: pictures or windows that were trained on, repeated ones included;
- ``trained``: minutes of these epochs, validation included;
- ``ceiling``: the Dice coefficient of the curves that a network would have which gives back the masks as it
  was shown them, at the pictures' own size;
- ``Dice``, ``IoU``: those that the network has, on the test pictures, likewise.
"""

import json
import math
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.thin_structures import draw_thin_structures
from components.dataset.contracts import HISTORY_FILE, TrainingHistory
from components.imaging.reading import InputSize
from components.report.run_summary import RunSummary
from pipeline.command_line import command_parser
from pipeline.config import load_recipe
from pipeline.local.workdir import WorkDir
from pipeline.recipe_errors import RecipeError

FORMS: Final = {
    "resized": (
        "transform.resize=stretch",
        "transform.height=256",
        "transform.width=256",
        "transform.scale=1.0",
        "transform.overlap=0.5",
        "training.windows_per_epoch=null",
        "training.foreground_windows=0.33",
        # As it proposes for so few whole pictures.
        "training.batch_size=2",
    ),
    "proposed": (),
}
"""Changes of the recipe that ``init`` writes."""
THIN: Final = "curve"
_EPOCHS_TO_TIME: Final = 3
"""The first of them compiles, and counts nowhere."""
_LINE: Final = "{:10} {:26} {:>7} {:>8} {:>8} {:>6} {:>6}"


class FormError(Exception):
    """A form that cannot be measured; the message says why."""


class Row(NamedTuple):
    """What was measured of a form."""

    size: InputSize
    seen: int
    minutes: float
    ceiling: float
    dice: float
    iou: float


def measure(recipe_file: Path, overrides: Sequence[str], minutes: float, folder: Path) -> Row:
    """Trains and evaluates a form of the recipe.

    Args:
        recipe_file: what ``init`` wrote.
        overrides: ``KEY=VALUE`` each, the form.
        minutes: for which it is trained.
        folder: the runs' work directory.

    Raises:
        FormError: a run failed.
        RecipeError: it makes no recipe.
    """
    recipe = load_recipe(str(recipe_file), None, overrides)
    workdir = WorkDir(folder)
    command = [sys.executable, "-m", "pipeline.run_local", "--recipe", str(recipe_file), "--json"]
    command += ["--workdir", str(folder), *(part for change in overrides for part in ("--set", change))]
    epoch = time_an_epoch(command)
    epochs = max(1, round(60 * minutes / epoch.seconds))
    done = subprocess.run(
        [*command, "--set", f"training.epochs={epochs}"], stdout=subprocess.PIPE, text=True, check=False
    )
    if not done.stdout:
        raise FormError(f"the run ended with {done.returncode}")
    summary = RunSummary.model_validate(json.loads(done.stdout.splitlines()[-1])["summary"])
    if summary.metrics is None or summary.examples is None:
        raise FormError("; ".join(summary.reasons))
    histories = workdir.artifacts.glob(f"Trainer/model_run/*/{HISTORY_FILE}")
    history = TrainingHistory.load(max(histories, key=lambda file: file.stat().st_mtime))
    iou = summary.metrics.iou[THIN]
    size, batch_size = recipe.transform.input_size, recipe.training.batch_size
    # Pictures are seen once an epoch; windows fill every batch.
    seen = epoch.steps * batch_size if size.method == "native" else summary.examples["train"]
    return Row(
        size,
        len(history.epochs) * seen,
        sum(measured["seconds"] or 0.0 for measured in history.epochs) / 60,
        dice(summary.ceiling.iou[THIN] if summary.ceiling else None),
        dice(iou),
        math.nan if iou is None else iou,
    )


class Epoch(NamedTuple):
    """What an epoch takes."""

    seconds: float
    steps: int


def time_an_epoch(command: Sequence[str]) -> Epoch:
    """Begins to train, and stops as soon as it is known what an epoch takes."""
    ends: list[float] = []
    with subprocess.Popen([*command, "--set", "training.epochs=1000"], stdout=subprocess.PIPE) as run:
        assert run.stdout is not None
        for line in run.stdout:
            event = json.loads(line)
            if event["event"] == "finished":
                raise FormError("; ".join(event["summary"]["reasons"]))
            # That of a first step comes before the epoch's.
            if event["event"] == "progress" and event["step"] == event["steps"]:
                ends.append(time.perf_counter())
            if len(ends) == _EPOCHS_TO_TIME:
                run.send_signal(signal.SIGINT)
                run.communicate()
                return Epoch((ends[-1] - ends[0]) / (len(ends) - 1), event["steps"])
    raise FormError(f"the run ended with {run.returncode}")


def dice(iou: float | None) -> float:
    """Returns the Dice coefficient that goes with an IoU; NaN of what was not measured."""
    return math.nan if iou is None else 2 * iou / (1 + iou)


def main(argv: Sequence[str] | None = None) -> int:
    parser = command_parser("benchmarks.resolution", __doc__)
    parser.add_argument("--minutes", type=float, default=10, help="of training, each; default: %(default)s")
    parser.add_argument("--forms", nargs="+", default=list(FORMS), choices=FORMS)
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="KEY=VALUE")
    parser.add_argument("--pictures", type=int, default=20, help="of each split; default: %(default)s")
    parser.add_argument("--side", type=int, default=600, metavar="PIXELS", help="default: %(default)s")
    parser.add_argument("--workdir", type=Path, metavar="DIR", help="where data, recipe and runs stay")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.workdir or Path(temporary)
        draw_thin_structures(folder / "data", train=args.pictures, test=args.pictures, side=args.side)
        recipe_file = folder / "thin.yaml"
        data = [f"--{kind}={folder / 'data'}" for kind in ("images", "masks")]
        init = [sys.executable, "-m", "pipeline.init", *data, f"--classes=background,{THIN}", "--force"]
        subprocess.run([*init, "--output", recipe_file], stdout=subprocess.DEVNULL, check=True)
        print(_LINE.format("form", "input", "seen", "trained", "ceiling", "Dice", "IoU"), flush=True)
        complete = True
        for form in args.forms:
            try:
                row = measure(recipe_file, [*FORMS[form], *args.overrides], args.minutes, folder / form)
            except (FormError, RecipeError) as error:
                print(f"{form:10} not measured: {'; '.join(str(error).splitlines())}", flush=True)
                complete = False
                continue
            shown = f"{row.size.method} {row.size.width} x {row.size.height}"
            if row.size.scale != 1:
                shown += f" of {row.size.scale:g}"
            figures = (f"{figure:.3f}" for figure in (row.ceiling, row.dice, row.iou))
            print(_LINE.format(form, shown, row.seen, f"{row.minutes:.1f}", *figures), flush=True)
    return 0 if complete else 1


if __name__ == "__main__":
    sys.exit(main())
