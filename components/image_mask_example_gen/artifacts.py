"""The artifact that says where every input file went."""

from tfx.types.artifact import Artifact


class IngestionReportArtifact(Artifact):
    """Holds ``ingestion.json``; read it with ``report.load_ingestion_report``."""

    TYPE_NAME = "IngestionReport"
