"""The artifact that holds a run's page."""

from tfx.types.artifact import Artifact


class HtmlReport(Artifact):
    """Holds ``index.html``, one self-contained page, and ``report.json``, all that it shows."""

    TYPE_NAME = "HtmlReport"
