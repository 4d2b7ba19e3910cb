"""What the way over gRPC costs: the embedded server against calls of the same SavedModel in one process.

    python -m benchmarks.serving MODEL_BASE_PATH IMAGES [--clients 1 4 16 64] [--requests 200] [--rounds 3]
                                 [--soak 10000]

MODEL_BASE_PATH is a served model's directory, such as ``runs/pets_unet/serving/pets``; IMAGES a directory of
JPEG or PNG files. Both sides answer ``serving_default``, JPEG bytes in, PNG bytes out, for the same images in
turn, and take turns themselves, as often as ``--rounds`` says; each figure is the median round.

- ``in process``: one image after the other, and batches of 1 to 32, of which the best rate counts;
- ``N clients``: threads that each send one image, wait for the answer and send the next, to a server that
  batches; ``ratio`` is their rate over the best one in process;
- ``--soak``: so many requests from 16 clients, and the server's resident memory after each tenth of them.

The clients share the machine, so the server has less of it than the calls in one process have.
"""

import argparse
import threading
import time
from collections.abc import Callable, Sequence
from itertools import count, cycle, islice
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

import numpy as np
import psutil

from components.model_store import store
from components.serving.client import SegmentationClient
from components.serving.process import ServerProcess
from components.serving.server.options import ServerOptions

MODEL: Final = "model"
BATCHES: Final = (1, 2, 4, 8, 16, 32)
SOAK_CLIENTS: Final = 16


class Load(NamedTuple):
    """What some clients saw."""

    rate: float
    """Images a second, of all clients together."""
    p50: float
    """Milliseconds that half of the requests took at most …"""
    p99: float
    """… and 99 of 100."""


def load_in_process(path: Path) -> Callable[[Sequence[bytes]], dict[str, np.ndarray]]:
    """Returns a function that segments encoded images as the server does, without a server."""
    import tensorflow as tf

    # The module is kept by the function: it owns the variables.
    signature = tf.saved_model.load(str(path)).signatures["serving_default"]

    def segment(images: Sequence[bytes]) -> dict[str, np.ndarray]:
        answer = signature(image_bytes=tf.constant(list(images)))
        return {name: tensor.numpy() for name, tensor in answer.items()}

    return segment


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


def batch_rate(
    segment: Callable[[Sequence[bytes]], object], images: Sequence[bytes], size: int, requests: int
) -> float:
    """Returns images a second where each call has a batch of ``size``."""
    calls = max(1, requests // size)
    source = cycle(images)
    batches = [list(islice(source, size)) for _ in range(calls)]
    segment(batches[0])
    began = time.perf_counter()
    for batch in batches:
        segment(batch)
    return calls * size / (time.perf_counter() - began)


def median_load(loads: Sequence[Load]) -> Load:
    return Load(*(median(figures) for figures in zip(*loads, strict=True)))


def compare(args: argparse.Namespace, client: SegmentationClient, images: Sequence[bytes]) -> None:
    """Prints the table of rates and latencies."""
    newest = store.newest(args.model_base_path)
    assert newest is not None
    segment = load_in_process(newest.path)

    def ask(image: bytes) -> object:
        return client.predict([image])

    def alone(image: bytes) -> object:
        return segment([image])

    for call in (ask, alone):
        one_by_one(call, images, 1, len(images))
    singles: list[Load] = []
    batches: dict[int, list[float]] = {size: [] for size in BATCHES}
    served: dict[int, list[Load]] = {clients: [] for clients in args.clients}
    for _ in range(args.rounds):
        singles.append(one_by_one(alone, images, 1, args.requests))
        for size in BATCHES:
            batches[size].append(batch_rate(segment, images, size, args.requests))
        for clients in args.clients:
            served[clients].append(one_by_one(ask, images, clients, args.requests))

    best_size, best = max(
        ((size, median(rates)) for size, rates in batches.items()), key=lambda pair: pair[1]
    )
    direct = median_load(singles)
    print(f"{'':24} {'images/s':>9} {'ratio':>6} {'p50 ms':>8} {'p99 ms':>8}")
    print(f"{'in process, one by one':24} {direct.rate:9.1f} {'':6} {direct.p50:8.1f} {direct.p99:8.1f}")
    print(f"{f'in process, batches of {best_size}':24} {best:9.1f} {1:6.3f}")
    for clients, loads in served.items():
        load = median_load(loads)
        name = f"{clients} client{'s' if clients > 1 else ''}"
        print(f"{name:24} {load.rate:9.1f} {load.rate / best:6.3f} {load.p50:8.1f} {load.p99:8.1f}")
    if 1 in served:
        overhead = median_load(served[1]).p50 - direct.p50
        print(f"overhead at one client: {overhead:.2f} ms, {overhead / direct.p50:.1%} of the p50 in process")


def soak(client: SegmentationClient, images: Sequence[bytes], requests: int, pid: int) -> None:
    """Prints the server's memory while it answers ``requests``."""
    server = psutil.Process(pid)
    sizes = []
    for _ in range(10):
        one_by_one(lambda image: client.predict([image]), images, SOAK_CLIENTS, requests // 10)
        sizes.append(server.memory_info().rss / 2**20)
    listed = ", ".join(f"{size:.0f}" for size in sizes)
    print(f"resident memory after each {requests // 10} requests, MiB: {listed}")
    print(f"  last over first: {sizes[-1] / sizes[0]:.3f}")


def payload(client: SegmentationClient, images: Sequence[bytes]) -> None:
    """Prints what travels for an image; a message adds some hundred bytes of names."""
    masks = [client.predict([image])[0] for image in images]
    sent = sum(map(len, images)) / len(images)
    received = sum(len(mask.mask_bytes) + mask.class_fraction.nbytes for mask in masks) / len(images)
    print(f"an image on the way: {sent / 1024:.1f} KiB there, {received / 1024:.1f} KiB back")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model_base_path", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("--clients", type=int, nargs="+", default=(1, 4, 16, 64))
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--soak", type=int, default=0)
    args = parser.parse_args()
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
        grpc_max_threads=max(*args.clients, SOAK_CLIENTS),
    )
    with ServerProcess(options) as server, SegmentationClient(server.target, MODEL) as client:
        payload(client, images)
        compare(args, client, images)
        if args.soak:
            soak(client, images, args.soak, server.pid)


if __name__ == "__main__":
    main()
