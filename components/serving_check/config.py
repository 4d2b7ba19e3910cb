"""The recipe's ``serving`` block, as far as it says what a served model must do."""

from pydantic import Field

from components.settings import Settings


class ServingCheckConfig(Settings):
    """How the candidate is tried behind a model server before it is pushed."""

    check_examples: int = Field(default=16, ge=1, le=1000)
    """Images of the test split that the server must answer with the very masks that the model's signature
    ``evaluate``, which the Evaluator calls, gives for them without a server."""
    max_latency_ms: float | None = Field(default=None, gt=0.0)
    """The most milliseconds that an image may take at the 99th percentile, one request at a time; null only
    records them."""
    max_memory_mb: float | None = Field(default=None, gt=0.0)
    """The most megabytes (10^6 bytes) that the server may ever have resident; null only records them."""
