"""What the serving check found, as it is kept in its artifact; imports neither TensorFlow nor TFX."""

from pathlib import Path

from components.settings import Settings

_FILE = "serving_check.json"


class Latency(Settings):
    """Of requests with one image, one after the other; milliseconds."""

    first: float
    """The very first request: what a warm-up leaves to it."""
    p50: float
    p99: float
    requests: int


class Memory(Settings):
    """Resident memory of the server's processes; megabytes of 10^6 bytes."""

    idle: float
    """Loaded and warm, before the first request."""
    peak: float
    """The most there ever was, loading included."""


class HostileAnswer(Settings):
    """What the server said to a request that it must refuse."""

    request: str
    code: str
    """Name of the gRPC status."""
    message: str


class ServingCheckReport(Settings):
    """All that was found and measured; null is what was not reached."""

    server: str
    """Which one was asked: ``embedded``, or ``tensorflow_model_server`` and its version."""
    reasons: tuple[str, ...] = ()
    """Why the model must not be pushed; empty where it may."""
    load_seconds: float | None = None
    """From the start of the server's process to the first moment it would have answered."""
    masks: int = 0
    """Masks found equal to those of the model's signature ``evaluate``, pixel by pixel."""
    same_bytes: int = 0
    """Of these, those whose PNGs are equal byte by byte."""
    latency_ms: Latency | None = None
    memory_mb: Memory | None = None
    hostile_requests: tuple[HostileAnswer, ...] = ()

    @property
    def blessed(self) -> bool:
        """Whether nothing speaks against a push."""
        return not self.reasons

    def save(self, directory: Path) -> None:
        """Writes the report into its artifact's directory."""
        (directory / _FILE).write_text(self.model_dump_json(indent=2) + "\n")


def load_report(directory: Path) -> ServingCheckReport | None:
    """Reads the report of an artifact's directory; None where the model was not checked."""
    path = directory / _FILE
    return ServingCheckReport.model_validate_json(path.read_text()) if path.exists() else None
