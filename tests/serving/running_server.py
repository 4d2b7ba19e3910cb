"""A real server in the test's own process, and what tests ask of it."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from PIL import Image

from components.serving.server.options import ServerOptions
from components.serving.server.server import ModelServer


@contextmanager
def running(base: Path, name: str = "pets", **flags: Any) -> Iterator[ModelServer]:
    """Serves ``base``, REST included, at free ports unless ``flags`` say which."""
    ours = {"port": 0, "rest_api_port": 0, "file_system_poll_wait_seconds": 0.1, "enable_model_warmup": False}
    options = ServerOptions(model_name=name, model_base_path=str(base), **(ours | flags))
    server = ModelServer(options, announce=lambda line: None)
    server.start()
    try:
        yield server
    finally:
        assert server.stop(grace=5)


@contextmanager
def channel_to(server: ModelServer) -> Iterator[grpc.Channel]:
    """An unsecured channel."""
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        yield channel


def image(height: int = 3, width: int = 5, seed: int = 0) -> np.ndarray:
    """Noise, uint8 [height, width, 3]."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def decoded(mask: bytes) -> np.ndarray:
    """A PNG's class ids."""
    return np.asarray(Image.open(io.BytesIO(mask)))
