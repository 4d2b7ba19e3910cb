"""The recipe's ``serving`` block, of which the Trainer and the ServingCheck are given a part each."""

from typing import TypeVar

from pydantic import Field

from components.settings import Settings

_Part = TypeVar("_Part", bound=Settings)


class ServingLimits(Settings):
    """What a served model refuses, wherever it is served: built into the exported model by the Trainer, so
    that a change exports it anew.
    """

    max_pixels: int = Field(default=50_000_000, ge=1)
    """An image that claims more is refused before it is decoded; at least ``dataset.max_pixels``. Answering
    takes about 16 bytes a pixel. Images that together have more than this are answered one after the
    other, so the default stays under 1 GB for whatever is encoded in a request."""
    max_batch_size: int = Field(default=64, ge=32)
    """Images in one request, or in what TensorFlow Serving makes of several. What the network computes grows
    with it as with ``training.batch_size``; the Evaluator sends 32."""


class ServingCheckConfig(Settings):
    """How the candidate is tried behind a model server before it is pushed."""

    check_examples: int = Field(default=16, ge=1, le=1000)
    """Images of the test split that the server must answer with the very masks that the model's signature
    ``evaluate``, which the Evaluator calls, gives for them without a server."""
    max_latency_ms: float | None = Field(default=None, gt=0.0)
    """The most milliseconds that an image may take at the 99th percentile, one request at a time, the very
    first left out; null only records them."""
    max_memory_mb: float | None = Field(default=None, gt=0.0)
    """The most megabytes (10^6 bytes) that the server may ever have resident; null only records them."""


class ServingConfig(ServingCheckConfig, ServingLimits):
    """What a served model refuses, how it is tried, under which name it is served, how many versions stay."""

    model_name: str = Field(default="segmentation", pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$", max_length=128)
    """Directory under ``serving/`` and the name clients ask for: letters, digits, ``_``, ``.``, ``-``."""
    keep_versions: int = Field(default=3, ge=1)
    """Older versions are removed after a push; a server rolls back to one that is still there."""
    signing_key: str | None = Field(default=None, min_length=1)
    """File of the private key, PEM of the curve P-256, P-384 or P-521, that signs each version as it is
    pushed; null signs nothing. The cache compares the path, not the content: give a new key a new name. On
    Kubeflow it is a file of ``kubeflow.signing_secret``."""

    def part(self, kind: type[_Part]) -> _Part:
        """Returns what one stage is given, and so all that its cache depends on."""
        return kind(**self.model_dump(include=set(kind.model_fields)))
