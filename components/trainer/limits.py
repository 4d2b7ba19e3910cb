"""The recipe's ``serving`` block, as far as the exported model itself holds to it."""

from pydantic import Field

from components.settings import Settings


class ServingLimits(Settings):
    """What a served model refuses, wherever it is served; a change exports the model anew."""

    max_pixels: int = Field(default=50_000_000, ge=1)
    """An image that claims more is refused before it is decoded; at least ``dataset.max_pixels``. Answering
    takes about 16 bytes a pixel. Images that together have more than this are answered one after the
    other, so the default stays under 1 GB for whatever is encoded in a request."""
    max_batch_size: int = Field(default=64, ge=32)
    """Images in one request, or in what a server makes of several. What the network computes grows with it
    as with ``training.batch_size``; the Evaluator sends 32."""
