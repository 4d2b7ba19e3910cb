"""Tries a model behind a running server, over gRPC, as its clients will."""

import itertools
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import grpc
import numpy as np

from components.dataset.contracts import LABELS_FILE, HostileAnswer, Latency
from components.serving import MAX_MESSAGE_BYTES, messages
from components.serving.client import Prediction, SegmentationClient
from components.serving.connection import Connection
from components.serving.failures import ServingClientError
from components.serving.messages import ModelSpec
from components.serving_check.examples import CheckedExample, Examples, difference, wrong_share
from components.serving_check.hostile import HostileRequest, hostile_requests

_TIMEOUT: Final = 60.0
"""Seconds for one answer; a server that takes longer does not serve."""
_TIMED_REQUESTS: Final = 100
_TIMED_SECONDS: Final = 3.0
"""Whichever comes first ends the measurement, but each example is asked for once."""
_EXAMPLES_NAMED: Final = 3
_SIGNATURES: Final = ("serving_default", "serving_pixels", "evaluate", "labels")


@dataclass
class Findings:
    """What was found so far; a trial that breaks off leaves the rest as it is."""

    reasons: list[str] = field(default_factory=list)
    """Why the model must not be pushed."""
    masks: int = 0
    same_bytes: int = 0
    latency_ms: Latency | None = None
    hostile_requests: list[HostileAnswer] = field(default_factory=list)


def try_out(address: str, model_name: str, model_dir: Path, examples: Examples) -> Findings:
    """Asks a server for all that it must be able to do, until it gives no answer any more.

    Args:
        address: HOST:PORT of its gRPC API.
        model_name: the name under which it serves the model.
        model_dir: the model's SavedModel.
        examples: test images with the masks of the signature ``evaluate``.
    """
    findings = Findings()
    spec = ModelSpec(model_name)
    connection = Connection(
        address, timeout=_TIMEOUT, patience=0, tls=None, max_message_bytes=MAX_MESSAGE_BYTES
    )
    client = SegmentationClient(address, model_name, timeout=_TIMEOUT, patience=0)
    doing = "asked what it serves"
    try:
        description = json.loads((model_dir / LABELS_FILE).read_text())
        names = description["labels"]["names"]
        findings.reasons += _wrong_description(connection, client, spec, names)
        doing = "asked for one mask after the other"
        answers, findings.latency_ms = _ask_one_by_one(client, examples.singles)
        _compare(answers, examples.singles, findings)
        asked = list(zip(examples.singles, answers, strict=True))
        doing = f"asked for {len(examples.batch)} masks at once"
        answers = client.predict([example.image for example in examples.batch])
        _compare(answers, examples.batch, findings, where=f", in a batch of {len(examples.batch)},")
        asked += zip(examples.batch, answers, strict=True)
        findings.reasons += _first_wrong_share(asked, names)
        most = description["limits"]["max_batch_size"]
        for request in hostile_requests(spec, examples.singles[0].image, most):
            doing = f"it had got {request.what}"
            _provoke(connection, client, request, spec, examples.singles[0], findings)
    except ServingClientError as error:
        findings.reasons.append(f"the server did not answer when {doing}: {error}")
    finally:
        client.close()
        connection.close()
    return findings


def _wrong_description(
    connection: Connection, client: SegmentationClient, spec: ModelSpec, names: Sequence[str]
) -> Iterator[str]:
    """Yields what the server says of the model and should not."""
    response = connection.call(messages.GET_MODEL_METADATA, messages.metadata_request(spec), spec)
    missing = set(_SIGNATURES) - set(messages.read_metadata_response(response).signatures)
    if missing:
        yield f"the server knows no signature {', '.join(sorted(missing))}"
        return
    served = client.labels().names
    if served != tuple(names):
        yield f"the server names the classes {', '.join(served)}, not {', '.join(names)}"


def _ask_one_by_one(
    client: SegmentationClient, examples: Sequence[CheckedExample]
) -> tuple[list[Prediction], Latency]:
    """Returns an answer to each, and how long answers take when more rounds follow.

    The very first is told apart: of few requests it would be the 99th percentile.
    """
    answers: list[Prediction] = []
    milliseconds: list[float] = []
    started = time.monotonic()
    for example in itertools.cycle(examples):
        asked = time.perf_counter()
        [answer] = client.predict([example.image])
        milliseconds.append(1000 * (time.perf_counter() - asked))
        if len(answers) < len(examples):
            answers.append(answer)
        elif len(milliseconds) >= _TIMED_REQUESTS or time.monotonic() - started > _TIMED_SECONDS:
            break
    first, *others = milliseconds
    return answers, Latency(
        first=round(first, 2),
        p50=round(float(np.percentile(others, 50)), 2),
        p99=round(float(np.percentile(others, 99)), 2),
        requests=len(others),
    )


def _compare(
    answers: Sequence[Prediction], examples: Sequence[CheckedExample], findings: Findings, where: str = ""
) -> None:
    different = []
    for example, answer in zip(examples, answers, strict=True):
        what = difference(answer.mask_bytes, example.mask)
        if what:
            different.append(
                f"the served mask of {example.name}{where} is not what evaluate gives: it {what}"
            )
        else:
            findings.masks += 1
            findings.same_bytes += answer.mask_bytes == example.mask
    findings.reasons += different[:_EXAMPLES_NAMED]
    if len(different) > _EXAMPLES_NAMED:
        findings.reasons.append(f"{len(different) - _EXAMPLES_NAMED} more served masks differ{where}")


def _first_wrong_share(
    asked: Sequence[tuple[CheckedExample, Prediction]], names: Sequence[str]
) -> Iterator[str]:
    """Yields where an answer's shares are not those of its own mask: once, as one fault spoils many."""
    for example, answer in asked:
        what = wrong_share(answer.mask_bytes, answer.class_fraction, names)
        if what:
            yield f"the served class_fraction of {example.name} is not that of its own mask: it {what}"
            return


def _provoke(
    connection: Connection,
    client: SegmentationClient,
    request: HostileRequest,
    spec: ModelSpec,
    example: CheckedExample,
    findings: Findings,
) -> None:
    """Sends what must be refused, and then what must be answered."""
    try:
        connection.call(messages.PREDICT, request.message, spec)
    except ServingClientError as error:
        code, message = error.code, str(error)
    else:
        code, message = grpc.StatusCode.OK, ""
    findings.hostile_requests.append(HostileAnswer(request=request.what, code=code.name, message=message))
    if code not in request.codes:
        wanted = " or ".join(sorted(code.name for code in request.codes))
        findings.reasons.append(f"{request.what} is answered with {code.name}, not {wanted}")
    what = difference(client.predict([example.image])[0].mask_bytes, example.mask)
    if what:
        findings.reasons.append(f"after {request.what} the mask of {example.name} {what}")
