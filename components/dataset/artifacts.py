"""The artifact that says where every input file went."""

from tfx.types.artifact import Artifact


class IngestionReportArtifact(Artifact):
    """Holds ``ingestion.json``: the examples of each split, and the files that became none."""

    TYPE_NAME = "IngestionReport"
