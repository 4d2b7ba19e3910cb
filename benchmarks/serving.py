"""What the way over gRPC costs: the embedded server against calls of the same SavedModel in one process.

    python -m benchmarks.serving MODEL_BASE_PATH IMAGES [--clients 1 4 16 64] [--requests 200] [--rounds 3]

MODEL_BASE_PATH is a served model's directory, such as ``runs/pets_unet/serving/pets``; IMAGES a directory of
JPEG or PNG files. Both sides answer ``serving_default``, JPEG bytes in, PNG bytes out, for the same images in
turn, and take turns themselves, as often as ``--rounds`` says; each figure is the median round. How much
longer one client waits is the median of pairs: an image asked of the server, and the same one in process.

- ``network``: pixels of the network's own size, so that nothing is decoded or resized, where it has one;
- ``in process``: one image after the other, and batches of 1 to 32; a batch's ms are those of all of it;
- ``N clients``: threads that each send one image, wait for the answer and send the next, to a server that
  batches; ``ratio`` is a rate over the best of those batches.

The clients share the machine, so the server has less of it than the calls in one process have.
"""

import argparse
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import count, cycle, islice
from pathlib import Path
from statistics import median
from typing import Any, Final, NamedTuple

import numpy as np

from components.model_store import store
from components.model_store.description import input_size
from components.serving.client import SegmentationClient
from components.serving.process import ServerProcess
from components.serving.server.options import ServerOptions
from pipeline.command_line import command_parser

MODEL: Final = "model"
BATCHES: Final = (1, 2, 4, 8, 16, 32)
NETWORK: Final = "network"
ALONE: Final = "in process, one by one"
IN_BATCHES: Final = "in process, batches of "


class Load(NamedTuple):
    """What some clients saw."""

    rate: float
    """Images a second, of all clients together."""
    p50: float
    """Milliseconds that half of the requests took at most …"""
    p99: float
    """… and 99 of 100."""


class InProcess:
    """A SavedModel that answers as the server does, without a server."""

    def __init__(self, path: Path):
        import tensorflow as tf

        self._model = tf.saved_model.load(str(path))
        size = input_size(path)
        self._pixels = None if size is None else tf.zeros([1, size.height, size.width, 3], tf.uint8)

    def segment(self, images: Sequence[bytes]) -> dict[str, np.ndarray]:
        """Segments encoded images."""
        import tensorflow as tf

        return self._call("serving_default", image_bytes=tf.constant(list(images)))

    def network(self) -> dict[str, np.ndarray] | None:
        """Segments pixels that are of the network's size; None where the model does not say which that is."""
        return None if self._pixels is None else self._call("serving_pixels", images=self._pixels)

    def _call(self, signature: str, **inputs: Any) -> dict[str, np.ndarray]:
        answer = self._model.signatures[signature](**inputs)
        return {name: tensor.numpy() for name, tensor in answer.items()}


def one_by_one(call: Callable[[bytes], object], images: Sequence[bytes], clients: int, requests: int) -> Load:
    """Has ``clients`` threads make ``requests`` calls together, each one call at a time."""
    tickets = count()
    milliseconds: list[float] = []
    failures: list[Exception] = []

    def work() -> None:
        # next() on a counter is atomic, and so is append().
        while (ticket := next(tickets)) < requests and not failures:
            began = time.perf_counter()
            try:
                call(images[ticket % len(images)])
            except Exception as error:
                failures.append(error)
            milliseconds.append(1000 * (time.perf_counter() - began))

    threads = [threading.Thread(target=work) for _ in range(clients)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - began
    if failures:
        raise failures[0]
    return Load(requests / seconds, *(float(np.percentile(milliseconds, share)) for share in (50, 99)))


def in_batches(
    segment: Callable[[Sequence[bytes]], object], images: Sequence[bytes], size: int, requests: int
) -> Load:
    """Has about ``requests`` images segmented by calls with a batch of ``size`` each."""
    source = cycle(images)
    batches = [list(islice(source, size)) for _ in range(max(1, requests // size))]
    segment(batches[0])
    turns = iter(batches)
    load = one_by_one(lambda _: segment(next(turns)), images, 1, len(batches))
    return load._replace(rate=load.rate * size)


def compare(args: argparse.Namespace, client: SegmentationClient, images: Sequence[bytes]) -> None:
    """Prints the table of rates and latencies; where a row fails, what there is of it."""
    newest = store.newest(args.model_base_path)
    assert newest is not None
    model = InProcess(newest.path)

    def ask(image: bytes) -> object:
        return client.predict([image])

    def alone(image: bytes) -> object:
        return model.segment([image])

    for call in (ask, alone):
        one_by_one(call, images, 1, len(images))
    rows: dict[str, Callable[[], Load]] = {}
    if model.network() is not None:
        rows[NETWORK] = partial(one_by_one, lambda _: model.network(), images, 1, args.requests)
    rows[ALONE] = partial(one_by_one, alone, images, 1, args.requests)
    for size in BATCHES:
        rows[f"{IN_BATCHES}{size}"] = partial(in_batches, model.segment, images, size, args.requests)
    for clients in args.clients:
        rows[_clients(clients)] = partial(one_by_one, ask, images, clients, args.requests)
    measured: dict[str, list[Load]] = defaultdict(list)
    pairs: list[tuple[float, float]] = []
    try:
        for _ in range(args.rounds):
            for name, row in rows.items():
                measured[name].append(row())
            pairs += in_pairs(ask, alone, images, args.requests)
    finally:
        print_table({name: median_load(loads) for name, loads in measured.items()})
    longer = median(asked - called for asked, called in pairs)
    share = longer / median(called for _, called in pairs)
    print(f"one client waits {longer:.2f} ms longer, {share:.1%}, the median of {len(pairs)} pairs")


def in_pairs(
    ask: Callable[[bytes], object], alone: Callable[[bytes], object], images: Sequence[bytes], requests: int
) -> list[tuple[float, float]]:
    """Returns the milliseconds of calls of ``ask`` and, side by side, of ``alone`` with the same image."""
    taken = []
    for number, image in enumerate(islice(cycle(images), requests)):
        # Whoever comes first finds what the other one has left in the caches.
        calls = (ask, alone) if number % 2 == 0 else (alone, ask)
        milliseconds = {}
        for call in calls:
            began = time.perf_counter()
            call(image)
            milliseconds[call] = 1000 * (time.perf_counter() - began)
        taken.append((milliseconds[ask], milliseconds[alone]))
    return taken


def _clients(number: int) -> str:
    return f"{number} client{'s' if number > 1 else ''}"


def median_load(loads: Sequence[Load]) -> Load:
    return Load(*(median(figures) for figures in zip(*loads, strict=True)))


def print_table(loads: Mapping[str, Load]) -> None:
    """Prints all rows, and what they say of the aims."""
    best = max((load.rate for name, load in loads.items() if name.startswith(IN_BATCHES)), default=None)
    print(f"{'':24} {'images/s':>9} {'ratio':>6} {'p50 ms':>8} {'p99 ms':>8}")
    for name, load in loads.items():
        ratio = "" if best is None else f"{load.rate / best:.2f}"
        print(f"{name:24} {load.rate:9.1f} {ratio:>6} {load.p50:8.1f} {load.p99:8.1f}")
    if NETWORK in loads and ALONE in loads:
        print(f"a picture in process takes {loads[ALONE].p50 / loads[NETWORK].p50:.2f} × the network's time")


def payload(client: SegmentationClient, images: Sequence[bytes]) -> None:
    """Prints what travels for an image; a message adds some hundred bytes of names."""
    masks = [client.predict([image])[0] for image in images]
    sent = sum(map(len, images)) / len(images)
    received = sum(len(mask.mask_bytes) + mask.class_fraction.nbytes for mask in masks) / len(images)
    print(f"an image on the way: {sent / 1024:.1f} KiB there, {received / 1024:.1f} KiB back")


def main(argv: Sequence[str] | None = None) -> None:
    parser = command_parser("benchmarks.serving", __doc__)
    parser.add_argument("model_base_path", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("--clients", type=int, nargs="+", default=(1, 4, 16, 64))
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args(argv)
    files = sorted(
        path for path in args.images.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png")
    )
    if store.newest(args.model_base_path) is None or not files:
        parser.error(f"no version under {args.model_base_path}, or no images under {args.images}")
    images = [path.read_bytes() for path in files[:32]]
    options = ServerOptions(
        port=0,
        model_name=MODEL,
        model_base_path=str(args.model_base_path),
        enable_batching=True,
        # Every request of a batch occupies a thread while it waits.
        grpc_max_threads=max(args.clients),
    )
    with ServerProcess(options) as server, SegmentationClient(server.target, MODEL) as client:
        payload(client, images)
        compare(args, client, images)


if __name__ == "__main__":
    main()
