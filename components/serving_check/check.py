"""The check itself: starts a model server, tries the candidate, stops the server, and gives the verdict."""

import logging
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import psutil
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from components.dataset.contracts import Memory, ServingCheck
from components.memory import high_water_mark
from components.saved_model import WARMUP_FILE
from components.serving import MAX_MESSAGE_BYTES
from components.serving.backends import BINARY, Backend
from components.serving.config import ServingCheckConfig
from components.serving.process import ServerProcess, ServerProcessError
from components.serving.server import servable
from components.serving.server.options import ServerOptions
from components.serving_check.examples import with_expected_masks
from components.serving_check.trial import try_out

_MODEL_NAME: Final = "candidate"
_MEGABYTE: Final = 1e6
_WITHOUT_GPUS: Final = {"CUDA_VISIBLE_DEVICES": "-1"}
_VERSION_SECONDS: Final = 60
_REQUEST_BYTES: Final = {
    Backend.EMBEDDED: servable.MAX_MESSAGE_BYTES,
    # It takes more, the client does not send more.
    Backend.TENSORFLOW_MODEL_SERVER: MAX_MESSAGE_BYTES,
}
_NAMED: Final = 3
_WARMED_UP: Final = ("serving_default", "serving_pixels")

logger = logging.getLogger(__name__)


def found_backend() -> Backend:
    """Returns what checks here: tensorflow_model_server where that is on PATH, else the embedded server."""
    return Backend.TENSORFLOW_MODEL_SERVER if shutil.which(BINARY) else Backend.EMBEDDED


def found_server() -> str:
    """Returns the name of the `found_backend`, and which version where that is a program of its own."""
    if found_backend() is Backend.EMBEDDED:
        return Backend.EMBEDDED
    try:
        answer = subprocess.run(
            [BINARY, "--version"], capture_output=True, text=True, timeout=_VERSION_SECONDS, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        # Whether it serves is found out by the check itself.
        return f"{BINARY} of unknown version"
    # "TensorFlow ModelServer: VERSION", and a line about the library.
    return f"{BINARY} {answer.partition(chr(10))[0].rpartition(' ')[2]}"


def check_model(
    model_dir: Path, examples: Sequence[bytes], config: ServingCheckConfig, log: Path
) -> ServingCheck:
    """Serves a model as it will be served, and finds out whether it can be pushed.

    By the `found_backend`, and always on the CPU: a GPU's memory belongs to this process by now, and masks
    from two devices differ where classes nearly tie.

    Args:
        model_dir: the SavedModel.
        examples: serialised Examples of the test split, one at least.
        config: the thresholds.
        log: file for what the server prints.
    """
    backend, server_name = found_backend(), found_server()
    reasons = list(_missing_warmup_requests(model_dir))
    with tf.device("CPU:0"):
        expected = with_expected_masks(model_dir, examples, _REQUEST_BYTES[backend])
    if expected.too_large:
        first = ", ".join(name for name, _ in expected.too_large[:_NAMED])
        and_more = " …" if len(expected.too_large) > _NAMED else ""
        others_take = _REQUEST_BYTES[Backend.TENSORFLOW_MODEL_SERVER]
        would_fit = any(needed <= others_take for _, needed in expected.too_large)
        remedy = f"; {BINARY} on PATH takes larger ones" if would_fit else ""
        not_tried = (
            f"{len(expected.too_large)} of {len(examples)} test images do not fit into a request of "
            f"{_REQUEST_BYTES[backend]:,} bytes ({first}{and_more}){remedy}"
        )
        if not expected.singles:
            reasons.append(f"it could not be tried: {not_tried}")
            return ServingCheck(server=server_name, reasons=tuple(reasons), not_tried=len(expected.too_large))
        logger.warning("not tried: %s", not_tried)
    with tempfile.TemporaryDirectory(prefix="serving-check-") as base:
        Path(base, "1").symlink_to(model_dir.absolute(), target_is_directory=True)
        options = ServerOptions(
            port=0, model_name=_MODEL_NAME, model_base_path=base, file_system_poll_wait_seconds=0
        )
        server = ServerProcess(options, backend=backend, log=log, env=_WITHOUT_GPUS)
        started = time.monotonic()
        try:
            server.start()
        except ServerProcessError as error:
            logger.debug("%s", error)
            reasons.append(f"the server cannot serve it: {str(error).partition(';')[0]}")
            return ServingCheck(server=server_name, reasons=tuple(reasons), not_tried=len(expected.too_large))
        load_seconds = round(time.monotonic() - started, 2)
        try:
            findings = try_out(server.target, _MODEL_NAME, model_dir, expected)
            peak = peak_resident(server.pid)
            status = server.returncode
        finally:
            server.stop()
    if status is not None:
        findings.reasons.append(f"the server ended by itself, with status {status}")
    report = ServingCheck(
        server=server_name,
        load_seconds=load_seconds,
        masks=findings.masks,
        same_bytes=findings.same_bytes,
        not_tried=len(expected.too_large),
        latency_ms=findings.latency_ms,
        memory_mb=Memory(peak=round(peak / _MEGABYTE, 1)) if peak else None,
        hostile_requests=tuple(findings.hostile_requests),
    )
    reasons += [*findings.reasons, *_exceeded(report, config)]
    return report.model_copy(update={"reasons": tuple(reasons)})


def _missing_warmup_requests(model_dir: Path) -> Iterator[str]:
    """The server replays what is there before it calls the model available; nothing tells what is not."""
    path = model_dir / WARMUP_FILE
    records = tf.data.TFRecordDataset(str(path)).as_numpy_iterator() if path.is_file() else ()
    logs = map(prediction_log_pb2.PredictionLog.FromString, records)
    found = {log.predict_log.request.model_spec.signature_name for log in logs}
    for signature in _WARMED_UP:
        if signature not in found:
            yield f"the model has no warm-up request for {signature}: its first client would wait"


def _exceeded(report: ServingCheck, config: ServingCheckConfig) -> Iterator[str]:
    latency, memory = report.latency_ms, report.memory_mb
    if config.max_latency_ms is not None:
        if latency is None:
            yield "the server's latency could not be measured, so serving.max_latency_ms is not met"
        elif latency.p99 > config.max_latency_ms:
            yield (
                f"an image takes {latency.p99:g} ms at the 99th percentile of {latency.requests} requests, "
                f"over serving.max_latency_ms {config.max_latency_ms:g}"
            )
    if config.max_memory_mb is not None:
        if memory is None:
            yield "the server's memory could not be measured, so serving.max_memory_mb is not met"
        elif memory.peak > config.max_memory_mb:
            yield (
                f"the server had {memory.peak:g} MB resident, "
                f"over serving.max_memory_mb {config.max_memory_mb:g}"
            )


def peak_resident(pid: int) -> int:
    """Returns the most bytes that a process and its children ever had resident; 0 once it has ended.

    A child that has ended by now does not count. 0 also where the system keeps no such record.
    """
    try:
        family = _family(pid)
    except psutil.NoSuchProcess:
        return 0
    return sum(high_water_mark(Path("/proc", str(process.pid))) or 0 for process in family)


def _family(pid: int) -> list[psutil.Process]:
    parent = psutil.Process(pid)
    return [parent, *parent.children(recursive=True)]
