"""Whether a server that is under load, given new versions and attacked all the time stays as it was.

    python -m benchmarks.soak [--minutes 60] [--clients 16] [--rate 10] [--push-seconds 60] [--growth 0.05]
                              [--seed 0] [--models DIRECTORY DIRECTORY]

The embedded server answers ``--clients`` clients on this machine, over gRPC and REST, which together make so
many requests a second; each has a connection of its own, and a new one after each push. A push puts one of
two models in turn, U-Nets of random weights unless SavedModels are named, where the server finds it, through
the product's own store, which keeps three versions. One request of four is hostile: garbage, cut and bombed
pictures, GIFs, wrong names, tensors and batches too large, JSON too deep, connections that say nothing, break
off or speak something else.

Each push prints a row: requests and their latencies, the version that answers, what the server has resident
(10^6 bytes), its open files and threads, the processor time it took a second, and the memory and open files
of this process, which are the clients'.

Ends with 1 if no good request was made; if one was not answered, or otherwise than by the same model before
anybody else was there (a pixel of 1,000 may differ: batches are summed in another order); if a hostile one
was answered, or with an error of the server's own; if a version pushed did not answer 30 s after the next one
was due, which waits for it; or if memory or open files grew: the median of the last three eighths of the rows
above that of the three eighths before them, by more than ``--growth``. The first quarter does not count.
"""

import argparse
import base64
import http.client
import io
import json
import random
import socket
import struct
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median
from typing import Any, Final, NamedTuple

import grpc
import numpy as np
import psutil
from PIL import Image

from benchmarks.large_pictures import export_model
from components.imaging.reading import InputSize
from components.model_store import publishing
from components.serving import MAX_MESSAGE_BYTES, messages
from components.serving.client import DEFAULT_SIGNATURE, SegmentationClient
from components.serving.messages import ModelSpec
from components.serving.process import ServerProcess
from components.serving.server.options import LOOPBACK, ServerOptions
from components.serving_check.hostile import rgb_png
from pipeline.command_line import command_parser

MODEL: Final = "soaked"
MODELS: Final = 2
KEPT_VERSIONS: Final = 3
HOSTILE_SHARE: Final = 0.25
MAX_PIXELS: Final = 1_000_000
BATCH: Final = 64
"""What the exported model takes; one more is refused."""
OVERSIZE: Final = bytes(65 * 1024**2)
BOMB: Final = rgb_png(60_000, 60_000, bytes(10_000))
"""Some 90 bytes that claim billions of pixels."""
SECONDS: Final = 30
"""What a request may take, and a version beyond the time until the next push."""
LOOK_SECONDS: Final = 0.1
WRONG_PIXELS: Final = 0.001
PICTURES: Final = 12
WINDOW: Final = 64
CLASSES: Final = 4
FILTERS: Final = 2


class Picture(NamedTuple):
    """A request's picture."""

    encoded: bytes
    pixels: np.ndarray
    """uint8 [height, width, 3]."""
    is_exact: bool
    """Whether the encoding keeps the pixels."""


class Row(NamedTuple):
    """What was seen until a push was followed by the next."""

    good: int
    hostile: int
    p50: float
    """Milliseconds that half of the good requests took at most …"""
    p99: float
    """… and 99 of 100."""
    version: int
    memory: float
    """The server's resident memory, 10^6 bytes."""
    files: int
    threads: int
    cores: float
    """Processor time a second."""
    client_memory: float
    client_files: int


class Faults:
    """What went wrong, by kind; an example of each is printed as it comes."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def add(self, kind: str, example: object) -> None:
        with self._lock:
            self.counts[kind] += 1
            if self.counts[kind] == 1:
                print(f"{kind}: {example}", flush=True)


def draw(seed: int) -> Picture:
    """Soft blobs of some size, as PNG or JPEG."""
    rng = np.random.default_rng(seed)
    width, height = rng.integers(40, 160, 2).tolist()
    coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), np.uint8))
    picture = coarse.resize((width, height), Image.Resampling.BICUBIC)
    file = io.BytesIO()
    is_exact = seed % 2 == 0
    picture.save(file, "PNG" if is_exact else "JPEG")
    return Picture(file.getvalue(), np.asarray(picture), is_exact)


def class_ids(mask: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(mask)) as picture:
        return np.asarray(picture)


def is_same(answer: np.ndarray, expected: np.ndarray) -> bool:
    return answer.shape == expected.shape and float(np.mean(answer != expected)) <= WRONG_PIXELS


class NotRefusedError(Exception):
    """A hostile request had another end than it should have."""


class Attacker:
    """Hostile requests; each method sends one, and raises `NotRefusedError` where it is not refused."""

    def __init__(self, server: ServerProcess, picture: Picture, rng: random.Random):
        assert server.rest_port
        self._grpc, self._rest = (LOOPBACK, server.grpc_port), (LOOPBACK, server.rest_port)
        self._picture = picture
        self._rng = rng

    def choose(self) -> str:
        """Returns the name of one of the kinds, which is the method that sends it."""
        return self._rng.choice(sorted(name for name in vars(Attacker) if name[0] != "_" and "_" in name))

    def grpc_garbage(self) -> None:
        self._refused(self._predict([self._rng.randbytes(self._rng.randint(0, 20_000))]))

    def grpc_cut(self) -> None:
        encoded = self._picture.encoded
        self._refused(self._predict([encoded[: self._rng.randint(0, len(encoded) // 2)]]))

    def grpc_bomb(self) -> None:
        self._refused(self._predict([BOMB]))

    def grpc_gif(self) -> None:
        file = io.BytesIO()
        Image.fromarray(self._picture.pixels).save(file, "GIF")
        self._refused(self._predict([file.getvalue()]))

    def grpc_large_batch(self) -> None:
        self._refused(self._predict([self._picture.encoded] * (BATCH + 1)))

    def grpc_large_tensor(self) -> None:
        request = self._predict([b""])
        request.inputs["image_bytes"].tensor_shape.dim[0].size = 2**40
        self._refused(request)

    def grpc_model(self) -> None:
        self._refused(self._predict(spec=ModelSpec("nobody\n" * 100)), grpc.StatusCode.NOT_FOUND)

    def grpc_version(self) -> None:
        self._refused(self._predict(spec=ModelSpec(MODEL, 1)), grpc.StatusCode.NOT_FOUND)

    def grpc_signature(self) -> None:
        self._refused(self._predict(signature="\0" * 2000), grpc.StatusCode.FAILED_PRECONDITION)

    def grpc_input(self) -> None:
        self._refused(self._predict(name="picture"))

    def grpc_type(self) -> None:
        request = messages.predict_request(
            ModelSpec(MODEL), DEFAULT_SIGNATURE, {"image_bytes": np.full(3, np.nan, np.float32)}
        )
        self._refused(request)

    def grpc_no_message(self) -> None:
        # gRPC's own answer.
        self._refused(b"\xff" * self._rng.randint(1, 5000), grpc.StatusCode.INTERNAL)

    def grpc_oversize(self) -> None:
        self._refused(self._predict([OVERSIZE]), grpc.StatusCode.RESOURCE_EXHAUSTED)

    def grpc_gone(self) -> None:
        """A client that does not wait for its answer."""
        with self._channel() as predict:
            call = predict.future(self._predict().SerializeToString(), timeout=SECONDS)
            time.sleep(self._rng.uniform(0, 0.01))
            call.cancel()

    def rest_garbage(self) -> None:
        self._refused_rest(self._rng.randbytes(self._rng.randint(0, 20_000)))

    def rest_open_brackets(self) -> None:
        self._refused_rest(b"[" * 10 ** self._rng.randint(2, 6))

    def rest_deep(self) -> None:
        depth = self._rng.randint(10, 3000)
        self._refused_rest(b'{"instances": ' + b"[" * depth + b"]" * depth + b"}")

    def rest_deep_objects(self) -> None:
        depth = self._rng.randint(10, 3000)
        self._refused_rest(b'{"instances": [' + b'{"b64":' * depth + b"0" + b"}" * depth + b"]}")

    def rest_numbers(self) -> None:
        self._refused_rest(
            json.dumps({"signature_name": "serving_pixels", "instances": [[[[10**400, -1, 0.5]]]]}).encode()
        )

    def rest_bomb(self) -> None:
        encoded = base64.b64encode(BOMB).decode()
        self._refused_rest(json.dumps({"instances": [{"b64": encoded}]}).encode())

    def rest_model(self) -> None:
        self._refused_rest(b'{"instances": [""]}', path="/v1/models/..%2f..%2fetc:predict")

    def rest_method(self) -> None:
        self._refused_rest(b"", method="DELETE")

    def rest_path(self) -> None:
        self._refused_rest(b"", path="/" + "../" * 1000)

    def rest_chunks(self) -> None:
        self._refused_rest(b"", headers={"Transfer-Encoding": "chunked"})

    def raw_header(self) -> None:
        self._raw(self._rest, b"GET / HTTP/1.1\r\nName: " + b"x" * 100_000 + b"\r\n\r\n")

    def raw_length(self) -> None:
        """Claims a terabyte and sends a hundred bytes of it."""
        self._raw(self._rest, self._head(10**12) + b"x" * 100)

    def raw_rest(self) -> None:
        self._raw(self._rest, self._rng.randbytes(1000))

    def raw_grpc(self) -> None:
        self._raw(self._grpc, self._rng.randbytes(1000))

    def raw_http2(self) -> None:
        """What begins as gRPC does and goes on otherwise."""
        self._raw(self._grpc, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + self._rng.randbytes(1000))

    def raw_aborted(self) -> None:
        """Breaks off by a reset, in the middle of the body."""
        with socket.create_connection(self._rng.choice((self._grpc, self._rest)), SECONDS) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.sendall(self._head(1000) + b"x" * 10)

    def raw_stalled(self) -> None:
        """Says nothing for a while, and then goes."""
        with socket.create_connection(self._rng.choice((self._grpc, self._rest)), SECONDS) as connection:
            connection.sendall(self._head(1000)[: self._rng.randint(0, 40)])
            time.sleep(self._rng.uniform(0.5, 2))

    def _predict(
        self,
        pictures: Sequence[bytes] | None = None,
        *,
        spec: ModelSpec = ModelSpec(MODEL),  # noqa: B008  (frozen)
        signature: str = DEFAULT_SIGNATURE,
        name: str = "image_bytes",
    ) -> Any:
        pictures = [self._picture.encoded] if pictures is None else pictures
        return messages.predict_request(spec, signature, {name: np.array(list(pictures), object)})

    @contextmanager
    def _channel(self) -> Iterator[grpc.UnaryUnaryMultiCallable]:
        """A connection of its own: what breaks it, breaks it for nobody else."""
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1)]
        with grpc.insecure_channel("{}:{}".format(*self._grpc), options) as channel:
            yield channel.unary_unary(messages.PREDICT.path)

    def _refused(self, request: Any, code: grpc.StatusCode = grpc.StatusCode.INVALID_ARGUMENT) -> None:
        with self._channel() as predict:
            try:
                predict(request if isinstance(request, bytes) else request.SerializeToString(), SECONDS)
            except grpc.RpcError as error:
                # An oversized request may meet the end of its stream before it has been sent.
                if error.code() is not code:
                    raise NotRefusedError(f"{error.code()}, not {code}: {error.details()}") from None
            else:
                raise NotRefusedError("answered")

    def _refused_rest(
        self,
        body: bytes,
        *,
        method: str = "POST",
        path: str = f"/v1/models/{MODEL}:predict",
        headers: dict[str, str] | None = None,
    ) -> None:
        status, answer = ask_rest(self._rest, method, path, body, headers or {})
        if not (400 <= status < 500 or status == 501) or "error" not in json.loads(answer):
            raise NotRefusedError(f"status {status}: {answer[:200]!r}")

    def _raw(self, address: tuple[str, int], sent: bytes) -> None:
        """Sends bytes and reads until the server has enough of them."""
        with socket.create_connection(address, SECONDS) as connection, suppress(ConnectionError):
            connection.sendall(sent)
            answer = b""
            with suppress(OSError):
                connection.shutdown(socket.SHUT_WR)
            try:
                while received := connection.recv(1 << 16):
                    answer += received
            except TimeoutError:
                raise NotRefusedError(f"the connection is open after {SECONDS} s") from None
            if answer.startswith(b"HTTP/1.") and not answer.split(maxsplit=1)[1].startswith((b"4", b"501")):
                raise NotRefusedError(repr(answer[:200]))

    def _head(self, length: int) -> bytes:
        return f"POST /v1/models/{MODEL}:predict HTTP/1.1\r\nContent-Length: {length}\r\n\r\n".encode()


def ask_rest(
    address: tuple[str, int], method: str, path: str, body: bytes, headers: dict[str, str]
) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(*address, timeout=SECONDS)
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


class Client:
    """Asks, well or ill, until it is told to stop."""

    def __init__(
        self,
        number: int,
        server: ServerProcess,
        models: Mapping[int, int],
        pictures: Sequence[Picture],
        expected: Sequence[Sequence[np.ndarray]],
        faults: Faults,
        seed: int,
    ):
        self.milliseconds: list[float] = []
        self.attacks: Counter[str] = Counter()
        self.version = 0
        self._number = number
        self._server = server
        self._models = models
        self._pictures = pictures
        self._expected = expected
        self._faults = faults
        self._rng = random.Random(f"{seed} {number}")
        self._attacker = Attacker(server, pictures[0], self._rng)

    def work(self, pause: float, stopping: threading.Event) -> None:
        """Makes a request every ``pause`` seconds in the mean."""
        asked = self._connect()
        while not stopping.wait(self._rng.uniform(0, 2 * pause)):
            if self._rng.random() < HOSTILE_SHARE:
                kind = self._attacker.choose()
                self.attacks[kind] += 1
                try:
                    getattr(self._attacker, kind)()
                except Exception as error:
                    self._faults.add(f"hostile {kind}", repr(error))
                continue
            before = self.version
            began = time.perf_counter()
            try:
                self._ask_well(asked)
            except Exception as error:
                self._faults.add("good request", repr(error))
            self.milliseconds.append(1000 * (time.perf_counter() - began))
            if self.version != before:
                asked.close()
                asked = self._connect()
        asked.close()

    def _connect(self) -> SegmentationClient:
        # gRPC shares a connection between channels with the same options.
        most = MAX_MESSAGE_BYTES + self._number
        return SegmentationClient(
            self._server.target, MODEL, timeout=SECONDS, patience=0, max_message_bytes=most
        )

    def _ask_well(self, client: SegmentationClient) -> None:
        number = self._rng.randrange(len(self._pictures))
        picture = self._pictures[number]
        way = self._rng.randrange(3)
        models: Sequence[int] = range(MODELS)
        if way == 0:
            assert self._server.rest_port
            body = json.dumps({"instances": [{"b64": base64.b64encode(picture.encoded).decode()}]})
            status, answer = ask_rest(
                (LOOPBACK, self._server.rest_port), "POST", f"/v1/models/{MODEL}:predict", body.encode(), {}
            )
            if status != 200:
                raise RuntimeError(f"status {status}: {answer[:200]!r}")
            [row] = json.loads(answer)["predictions"]
            mask = class_ids(base64.b64decode(row["mask_bytes"]["b64"]))
        elif way == 1 and picture.is_exact:
            pixels = client.predict_pixels(picture.pixels[np.newaxis])
            mask, models = pixels.class_ids[0], [self._model(pixels.version)]
        else:
            [prediction] = client.predict([picture.encoded])
            mask, models = class_ids(prediction.mask_bytes), [self._model(prediction.version)]
        if not any(is_same(mask, self._expected[model][number]) for model in models):
            raise RuntimeError(f"picture {number} has another mask than at first")

    def _model(self, version: int) -> int:
        """Which of the models it is; REST does not say the version."""
        if version < self.version:
            raise RuntimeError(f"version {version} answers after version {self.version}")
        self.version = version
        return self._models[version]


def random_models(directory: Path, seed: int) -> list[Path]:
    """Exports U-Nets of random weights; returns their directories."""
    import keras

    models = [directory / str(number) for number in range(MODELS)]
    for number, model in enumerate(models):
        keras.utils.set_random_seed(seed + number)
        export_model(model, InputSize(WINDOW, WINDOW, "native"), CLASSES, FILTERS, MAX_PIXELS)
    return models


class Pusher:
    """Pushes the models in turn.

    Attributes:
        models: which one each version is.
    """

    def __init__(self, directories: Sequence[Path], base: Path):
        self.models: dict[int, int] = {}
        self._directories = directories
        self._base = base

    def push(self) -> int:
        """Makes the next model the newest version; returns its number."""
        model = len(self.models) % len(self._directories)
        version = publishing.publish(self._directories[model], self._base, {})
        # A server needs longer to load it than this takes.
        self.models[version] = model
        publishing.prune(self._base, KEPT_VERSIONS)
        return version


def first_answers(
    server: ServerProcess, pusher: Pusher, pictures: Sequence[Picture]
) -> list[list[np.ndarray]]:
    """Returns each model's masks, asked alone; the first is served already, the others are pushed."""
    answers: list[list[np.ndarray]] = []
    with SegmentationClient(server.target, MODEL, timeout=SECONDS) as client:
        while len(answers) < MODELS:
            version = pusher.push() if answers else None
            end = time.monotonic() + SECONDS
            while version and client.predict([pictures[0].encoded])[0].version != version:
                if time.monotonic() > end:
                    raise TimeoutError(f"version {version} is not served after {SECONDS} s")
                time.sleep(0.1)
            predictions = [client.predict([picture.encoded])[0] for picture in pictures]
            answers.append([class_ids(prediction.mask_bytes) for prediction in predictions])
    assert not all(map(is_same, *answers)), "the models cannot be told apart"
    return answers


def grown(values: Sequence[float], allowed: float) -> str:
    """Says by how much the medians of the last three eighths and those before differ, if by too much."""
    settled = values[len(values) // 4 :]
    before, after = median(settled[: len(settled) // 2 or 1]), median(settled[len(settled) // 2 :])
    return f"{before:g} -> {after:g}" if after > before * (1 + allowed) else ""


COLUMNS: Final = {
    "push": "5",
    "good": "6",
    "hostile": "7",
    "p50 ms": "7.1f",
    "p99 ms": "7.1f",
    "version": "11",
    "MB": "6.0f",
    "files": "5",
    "threads": "7",
    "cores": "5.2f",
    "clients' MB": "11.0f",
    "files ": "5",
}


def header() -> str:
    return " ".join(f"{name:>{style.partition('.')[0]}}" for name, style in COLUMNS.items())


def show(number: int, row: Row) -> str:
    values = zip((number, *row), COLUMNS.values(), strict=True)
    return " ".join(f"{value:{style}}" for value, style in values)


def soak(
    args: argparse.Namespace,
    server: ServerProcess,
    clients: Sequence[Client],
    push: Callable[[], int],
    faults: Faults,
) -> Iterator[Row]:
    """Has the clients work, and pushes; yields what was seen until each next push."""
    stopping = threading.Event()
    pause = args.clients / args.rate
    threads = [threading.Thread(target=client.work, args=(pause, stopping)) for client in clients]
    process, ours = psutil.Process(server.pid), psutil.Process()
    attacks, spent, ended = 0, sum(process.cpu_times()[:2]), time.monotonic()
    for thread in threads:
        thread.start()
    try:
        for _ in range(max(1, round(60 * args.minutes / args.push_seconds))):
            pushed, end = push(), time.monotonic() + args.push_seconds
            stopping.wait(args.push_seconds)
            while max(client.version for client in clients) < pushed and time.monotonic() < end + SECONDS:
                stopping.wait(LOOK_SECONDS)
            milliseconds = []
            for client in clients:
                taken, client.milliseconds = client.milliseconds, []
                milliseconds += taken
            before = attacks, spent, ended
            attacks = sum(client.attacks.total() for client in clients)
            spent, ended = sum(process.cpu_times()[:2]), time.monotonic()
            version = max(client.version for client in clients)
            if version < pushed:
                faults.add("push", f"version {pushed} did not answer in time")
            yield Row(
                len(milliseconds),
                attacks - before[0],
                float(np.percentile(milliseconds or [np.nan], 50)),
                float(np.percentile(milliseconds or [np.nan], 99)),
                version,
                process.memory_info().rss / 1e6,
                process.num_fds(),
                process.num_threads(),
                (spent - before[1]) / (ended - before[2]),
                ours.memory_info().rss / 1e6,
                ours.num_fds(),
            )
    finally:
        stopping.set()
        for thread in threads:
            thread.join()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = command_parser("benchmarks.soak", __doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--rate", type=float, default=10, help="requests a second of all clients together")
    parser.add_argument("--push-seconds", type=float, default=60)
    parser.add_argument("--growth", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--models", type=Path, nargs=MODELS)
    args = parser.parse_args(arguments)
    pictures = [draw(args.seed + number) for number in range(PICTURES)]
    faults, rows = Faults(), []
    with tempfile.TemporaryDirectory() as directory:
        base = Path(directory, "base")
        pusher = Pusher(args.models or random_models(Path(directory), args.seed), base)
        pusher.push()
        options = ServerOptions(
            port=0, rest_api_port=0, model_name=MODEL, model_base_path=str(base), enable_batching=True
        )
        with ServerProcess(options) as server:
            expected = first_answers(server, pusher, pictures)
            clients = [
                Client(number, server, pusher.models, pictures, expected, faults, args.seed)
                for number in range(args.clients)
            ]
            print(header(), flush=True)
            for row in soak(args, server, clients, pusher.push, faults):
                rows.append(row)
                print(show(len(rows), row), flush=True)
            attacks = sum((client.attacks for client in clients), Counter[str]())
    print("hostile requests:", ", ".join(f"{count} {name}" for name, count in sorted(attacks.items())))
    if not any(row.good for row in rows):
        faults.add("good request", "none was made; more --minutes or a higher --rate make some")
    for name, values in (
        ("memory", [row.memory for row in rows]),
        ("open files", [row.files for row in rows]),
    ):
        if said := grown(values, args.growth):
            faults.add("growth", f"{name} of the server, {said}")
    print("faults:", ", ".join(f"{count} {kind}" for kind, count in sorted(faults.counts.items())) or "none")
    return int(bool(faults.counts))


if __name__ == "__main__":
    sys.exit(main())
