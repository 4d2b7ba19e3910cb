"""``ingestion.json``: how many examples each split got and which files were set aside."""

from pathlib import Path

from components.image_mask_example_gen.rejections import Reason
from components.settings import Settings

REPORT_FILE = "ingestion.json"


class RejectedFile(Settings):
    """One entry of the rejected list."""

    file: str
    """Path relative to the dataset's root."""
    reason: Reason
    found: str


class IngestionReport(Settings):
    """Where every input file went."""

    examples: dict[str, int]
    """Number of examples of each split."""
    rejected: tuple[RejectedFile, ...]


def load_ingestion_report(uri: str) -> IngestionReport:
    """Reads the report from the local folder of an ``IngestionReport`` artifact."""
    return IngestionReport.model_validate_json((Path(uri) / REPORT_FILE).read_text(encoding="utf-8"))
