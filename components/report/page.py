"""The page: one file of HTML that asks the network for nothing."""

import os
import re
import shutil
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from components.dataset.contracts import SPLITS_FILE, TrainingHistory, larger_input, of_at_most, write_whole
from components.durations import duration
from components.report import confusions, formatting
from components.report.comparison import Comparison
from components.report.data import PAGE_FILE, ReportData

if TYPE_CHECKING:
    from tfx.types import Artifact

_SHOWN_REJECTIONS: Final = 200
_TEMPLATES: Final = Path(__file__).parent / "templates"


def render(data: ReportData) -> str:
    """Returns the page of a run, whatever the run reached."""
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            data=data,
            headline=formatting.headline(data),
            curves=_curves([("", data.history)]),
            shown_rejections=_SHOWN_REJECTIONS,
            splits_file=SPLITS_FILE,
            confusions=confusions.largest(data),
            never_predicted=confusions.never_predicted(data),
            only_predicted=confusions.only_predicted(data),
            recipe=yaml.safe_dump(data.recipe, sort_keys=False, allow_unicode=True),
        )
    )


def render_comparison(comparison: Comparison) -> str:
    """Returns the page that sets two runs side by side."""
    runs = [
        {
            "letter": letter,
            "data": run,
            "headline": formatting.headline(run),
            "title": f"{letter}: {run.summary.recipe} {run.summary.run_id}".rstrip(),
        }
        for letter, run in comparison.runs
    ]
    return (
        _environment()
        .get_template("comparison.html.j2")
        .render(
            pair=comparison,
            runs=runs,
            curves=_curves([(letter, run.history) for letter, run in comparison.runs]),
        )
    )


def write_page(data: ReportData, directory: Path, artifacts: Mapping[str, "Artifact"], *before: Path) -> Path:
    """Writes ``index.html``, with ``splits.csv`` beside it, and returns its path.

    Args:
        data: what the page shows.
        directory: where to.
        artifacts: those of the stages that are done, by output key.
        before: directories that get the same first.
    """
    rendered = render(data)
    for folder in (*before, directory):
        if "ingestion" in artifacts and (splits := Path(artifacts["ingestion"].uri, SPLITS_FILE)).exists():
            _write_both(folder, rendered, splits)
        else:
            write_whole(folder / PAGE_FILE, rendered)
            # Of the newest run there is one page, which has no such list.
            (folder / SPLITS_FILE).unlink(missing_ok=True)
    return directory / PAGE_FILE


def _write_both(folder: Path, rendered: str, splits: Path) -> None:
    """Replaces the page and then the list, each whole; what cannot be written leaves both of the earlier run.

    A process that is killed between the two leaves the earlier list beside the new page.
    """
    copy = folder / f".{SPLITS_FILE}.{os.getpid()}"
    try:
        shutil.copyfile(splits, copy)
        write_whole(folder / PAGE_FILE, rendered)
        copy.replace(folder / SPLITS_FILE)
    except BaseException:
        copy.unlink(missing_ok=True)
        raise


def _curves(trainings: Sequence[tuple[str, TrainingHistory | None]]) -> list[tuple[str, str]]:
    trained = [(run, training) for run, training in trainings if training]
    if not trained:
        return []
    # A second of import, which commands do not spend before they begin.
    from components.imaging.curves import TrainingCurves, curve_pictures

    return curve_pictures(
        [TrainingCurves(training.epochs, training.best_epoch, run) for run, training in trained]
    )


@cache
def _environment() -> Environment:
    # Strict: a name that is misspelt in a template is an error, not an empty place on the page.
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "figure": formatting.figure,
        "percent": formatting.percent,
        "whole_percent": formatting.whole_percent,
        "number": formatting.number,
        "duration": duration,
        "moment": formatting.moment,
        "sentence": formatting.sentence,
        "breakable": _breakable,
    }
    environment.globals |= {
        "asset": _asset,
        "change": formatting.change,
        "why_names": formatting.WHY_NAMES,
        "few_images": formatting.FEW_IMAGES,
        "of_at_most": of_at_most,
        "larger_input": larger_input,
    }
    return environment


def _breakable(key: str) -> Markup:
    """A key that may go on in the next line after each of its formatting."""
    return Markup(re.sub(r"([._])", r"\1<wbr>", str(escape(key))))


def _asset(name: str) -> str:
    """A file of ours that goes into the page as it is."""
    return (_TEMPLATES / name).read_text(encoding="utf-8")
