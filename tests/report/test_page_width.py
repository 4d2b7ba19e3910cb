"""What a browser makes of a page: its width, and its script; skipped where there is no Chromium."""

import re
import shutil
import subprocess
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from known_run import known_run, known_summary

from components.dataset.contracts import Ceiling, Metrics
from components.imaging.palette import default_palette
from components.report.data import ReportedClass
from components.report.page import render

_CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
_MEASURE = """<script>addEventListener("load", () => {
const tables = [...document.querySelectorAll(".scroll:not(.matrix-frame)")];
const cut = tables.filter(each => each.scrollWidth > each.clientWidth + 1);
const names = cut.map(each => each.querySelector("caption").textContent);
if (document.documentElement.scrollWidth > innerWidth) names.push("the page");
document.title = "cut: " + names.join("; ") + " of " + tables.length;
});</script>"""
_ASK = """<script>
document.title = [...document.querySelectorAll(".matrix td")].map(cell => {
  cell.dispatchEvent(new Event("pointerenter"));
  return document.querySelector(".matrix-probe").textContent;
}).join("; ");
</script>"""


pytestmark = pytest.mark.skipif(_CHROMIUM is None, reason="no Chromium here")


def opened(folder: Path, html: str, script: str) -> str:
    """Returns the title that the page has once the script has run behind its own."""
    page = folder / "index.html"
    page.write_text(html.replace("</body>", f"{script}</body>"))
    command = [str(_CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--window-size=1280,900"]
    done = subprocess.run(
        [*command, f"--user-data-dir={folder / 'profile'}", "--dump-dom", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    [title] = re.findall(r"<title>(.*?)</title>", done.stdout)
    return unescape(title)


@pytest.mark.parametrize("classes", [3, 11, 20, 60])
def test_no_table_is_cut_at_1280_pixels(tmp_path: Path, classes: int) -> None:
    names = [f"class with a name {number}" for number in range(classes)]
    confusion = np.random.default_rng(0).integers(1, 9_000_000, (classes, classes))
    metrics = Metrics(iou=dict.fromkeys(names, 0.5), examples=40, mean_iou=0.5)
    ceiling = Ceiling(mean_iou=0.7, iou=dict.fromkeys(names, 0.7))
    data = known_run(known_summary(metrics=metrics, ceiling=ceiling)).model_copy(
        update={
            "classes": tuple(
                ReportedClass(name=name, color=color)
                for name, color in zip(names, default_palette(classes), strict=True)
            ),
            "confusion": tuple(map(tuple, confusion.tolist())),
            "statistics": None,
            "gallery": (),
        }
    )
    assert re.fullmatch(r"cut:  of [1-9]\d*", opened(tmp_path, render(data), _MEASURE))


def test_the_matrix_tells_all_and_none_from_what_is_nearly_so(tmp_path: Path) -> None:
    data = known_run(confusion=((999_960, 40, 0), (1, 6, 0), (0, 0, 7)))
    said = opened(tmp_path, render(data), _ASK)
    assert re.findall(r": (.*?) \(", said) == [
        *("> 99.99 %", "< 0.01 %", "0 %"),
        *("14.29 %", "85.71 %", "0 %"),
        *("0 %", "0 %", "100 %"),
    ]
