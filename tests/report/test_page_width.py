"""What a browser makes of a page's width; skipped where there is no Chromium."""

import re
import shutil
import subprocess
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


@pytest.mark.skipif(_CHROMIUM is None, reason="no Chromium here")
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
    page = tmp_path / "index.html"
    page.write_text(render(data).replace("</body>", f"{_MEASURE}</body>"))
    command = [str(_CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--window-size=1280,900"]
    done = subprocess.run(
        [*command, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    [found] = re.findall(r"<title>(cut: .*?)</title>", done.stdout)
    assert re.fullmatch(r"cut:  of [1-9]\d*", found)
