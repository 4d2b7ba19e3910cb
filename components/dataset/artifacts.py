"""The pipeline's own artifact types."""

from tfx.types.artifact import Artifact


class IngestionReportArtifact(Artifact):
    """Holds ``ingestion.json``: the examples of each split, and the files that became none."""

    TYPE_NAME = "IngestionReport"


class HtmlReport(Artifact):
    """Holds ``index.html``, one self-contained page, and ``report.json``, all that it shows."""

    TYPE_NAME = "HtmlReport"
