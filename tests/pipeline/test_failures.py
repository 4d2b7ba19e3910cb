"""What is said of an exception."""

import argparse
import gzip
import io
import re
import shutil
import sys
import traceback
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from apache_beam.io.tfrecordio import _TFRecordUtil
from ml_metadata import errors

from components.errors import StageError
from pipeline.failures import exits_are_failures, explain_failure, is_data_loss


def raised_from(error: Exception, cause: Exception) -> Exception:
    try:
        raise error from cause
    except Exception as caught:
        return caught


def test_a_stage_error_behind_another_exception_is_found() -> None:
    error = raised_from(RuntimeError("executor failed"), StageError("the mask is missing; add it"))
    assert explain_failure(error) == "the mask is missing; add it"


def test_the_root_cause_is_said_in_place_of_its_wrapper() -> None:
    error = raised_from(RuntimeError("executor failed"), KeyError("width"))
    assert explain_failure(error) == "KeyError: 'width'"


def test_an_exception_raised_while_handling_another_speaks_for_itself() -> None:
    error = ValueError("no width given")
    error.__context__ = KeyError("width")
    assert explain_failure(error) == "ValueError: no width given"


def test_the_text_of_a_beam_worker_gives_its_last_exception() -> None:
    text = (
        "Error received from SDK harness for instruction 7: Traceback (most recent call last):\n"
        '  File "operations.py", line 3, in process\n'
        "zlib.error: not what is looked for\n\n"
        "The above exception was the direct cause of the following exception:\n\n"
        "Traceback (most recent call last):\n"
        '  File "stage.py", line 1, in process\n'
        "OSError: disk full [while running 'Write/Map']\n\n"
    )
    assert explain_failure(RuntimeError(text)) == "OSError: disk full"


def test_a_stage_error_in_the_text_of_a_beam_worker_is_found() -> None:
    text = (
        "Traceback (most recent call last):\n"
        "components.errors.StageError: two lines\nof advice [while running 'Read']\n\n"
    )
    assert explain_failure(RuntimeError(text)) == "two lines\nof advice"


def test_the_last_exception_of_a_group_is_said() -> None:
    members = [raised_from(KeyError("width"), ValueError()), raised_from(OSError("disk full"), ValueError())]
    try:
        raise ExceptionGroup("two workers", members)
    except ExceptionGroup as group:
        text = "instruction 7: " + "".join(traceback.format_exception(group))
    assert explain_failure(RuntimeError(text)) == "OSError: disk full"


FLINK = (
    "Pipeline job-1 failed in state FAILED: java.lang.RuntimeException: "
    "Error received from SDK harness for instruction 6: "
)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            f"{FLINK}Traceback (most recent call last):\n"
            '  File "sdk_worker.py", line 311, in _execute\n    response = task()\n               ^^^^^^\n'
            "ModuleNotFoundError: No module named 'components'\n",
            "ModuleNotFoundError: No module named 'components'",
        ),
        (
            f"{FLINK}Traceback (most recent call last):\n"
            '  File "common.py", line 1500, in process\n'
            "apache_beam.pvalue.Lost: where is\nit? [while running 'Read/Map(f)-ptransform-7']\n\n"
            "During handling of the above exception, another exception occurred:\n\n"
            "Traceback (most recent call last):\n"
            '  File "common.py", line 1501, in process\n'
            "google.protobuf.message.DecodeError: two\nlines [while running 'Read/Map(f)-ptransform-7']\n\n",
            "DecodeError: two",
        ),
        (
            "Pipeline job-1 failed in state FAILED: Traceback (most recent call last):\n"
            '  File "local_job_service.py", line 290, in _run_job\n'
            "RuntimeError: Traceback (most recent call last):\n"
            '  File "stage.py", line 1, in process\n'
            "StopIteration [while running 'Read']\n\n",
            "StopIteration",
        ),
        (
            "Pipeline job-1 failed in state FAILED: org.apache.flink.RestClientException: [Server error.\n"
            "\tat org.apache.flink.A.b(A.java:1)\n"
            "Caused by: java.util.concurrent.CompletionException: wrapped\n\t... 2 more\n"
            f"Caused by: {FLINK.partition('FAILED: ')[2]}Traceback (most recent call last):\n"
            "  File \"stage.py\", line 1, in process\nKeyError: 'width'\n\n"
            "\tat org.apache.beam.C.d(C.java:2)\n\t... 3 more\n",
            "KeyError: 'width'",
        ),
        (
            "Pipeline job-1 failed in state FAILED: org.apache.flink.RestClientException: [Server error.\n"
            "\tat org.apache.flink.A.b(A.java:1)\n"
            "Caused by: java.lang.IllegalStateException: no slots\n\t... 2 more\n",
            "RuntimeError: java.lang.IllegalStateException: no slots",
        ),
        (
            "Pipeline job-1 failed in state FAILED: java.net.ConnectException: refused",
            "RuntimeError: Pipeline job-1 failed in state FAILED: java.net.ConnectException: refused",
        ),
    ],
    ids=["first line", "chain", "nested", "java around it", "java alone", "one line"],
)
def test_what_a_job_service_says_of_a_failed_worker_gives_the_workers_exception(text: str, told: str) -> None:
    assert explain_failure(RuntimeError(text)) == told


def test_a_stage_error_in_what_a_job_service_says_is_found() -> None:
    text = (
        f"{FLINK}Traceback (most recent call last):\n"
        '  File "stage.py", line 1, in process\n'
        "components.errors.StageError: two lines\nof advice [while running 'Read']\n"
        "\tat org.apache.beam.C.d(C.java:2)\n"
    )
    assert explain_failure(RuntimeError(text)) == "two lines\nof advice"


@pytest.mark.parametrize(
    ("leave", "told"),
    [
        (
            lambda: argparse.ArgumentParser().parse_args(["--pages=x"]),
            "Beam refuses beam.options; the log has its words",
        ),
        (lambda: sys.exit(3), "it asked for the end of the process, with status 3; the log says where"),
    ],
)
def test_what_would_end_the_process_is_a_failure(leave: Callable[[], Any], told: str) -> None:
    with pytest.raises(StageError) as raised, exits_are_failures():
        leave()
    assert explain_failure(raised.value) == told


def test_an_exception_without_words_gives_its_name() -> None:
    assert explain_failure(AssertionError()) == "AssertionError"


_FULL = "[Errno 28] No space left on device"


@pytest.mark.parametrize(
    ("error", "cause", "remedy"),
    [
        (
            OSError(28, "No space left on device"),
            f"OSError: {_FULL}",
            "a disk is full: make room; free now: ",
        ),
        (
            RuntimeError(f"Traceback (most recent call last):\n  File\nOSError: {_FULL}"),
            f"OSError: {_FULL}",
            "MB in /",
        ),
        (
            shutil.Error([("a", "b", f"{_FULL}: 'a' -> 'b'"), ("c", "d", _FULL)]),
            f"{_FULL}: 'a' -> 'b'",
            "room",
        ),
        (
            errors.InternalError(
                'Cannot create node for type_id: 1\nvalue: "x"\nError when executing query: '
                "database or disk is full query:  INSERT INTO `Context`(\n `id`) VALUES(11);"
            ),
            "InternalError: database or disk is full",
            "make room",
        ),
        (OSError(30, "Read-only file system", "/data"), "OSError: [Errno 30] Read-only", "make it writable"),
        (OSError(24, "Too many open files"), "OSError: [Errno 24] Too many open files", "ulimit -n"),
        (MemoryError(), "MemoryError", "fewer beam.workers"),
        (
            RuntimeError(
                "{{function_node __wrapped__S_/job:a/CPU:0}} /a/b; No space left on device [Op:S] name:"
            ),
            "RuntimeError: /a/b; No space left on device; a disk is full",
            "make room",
        ),
    ],
)
def test_where_the_machine_is_at_a_limit_what_helps_is_said(
    error: Exception, cause: str, remedy: str
) -> None:
    said = explain_failure(error, [Path("/")])
    assert said.startswith(cause) and remedy in said.partition("; ")[2] and "\n" not in said


def test_what_is_left_of_a_disk_is_said_of_the_first_place_on_it(tmp_path: Path) -> None:
    (tmp_path / "history").mkdir()
    said = explain_failure(OSError(28, "No space left on device"), [tmp_path, tmp_path / "history"])
    assert re.search(rf"free now: [\d,]+ MB in {tmp_path}(, |$)", said) and "history" not in said


def test_a_damaged_record_is_known_by_the_words_of_who_reads_it() -> None:
    record = bytes(8) + b"mask" + bytes(4)
    with pytest.raises(ValueError, match="Mismatch") as of_beam:
        _TFRecordUtil.read_record(io.BytesIO(record))
    with pytest.raises(zlib.error) as of_zlib:
        gzip.decompress(gzip.compress(b"record")[:-9] + bytes([255] * 9))
    for error in (of_beam.value, of_zlib.value, raised_from(RuntimeError("executor failed"), of_beam.value)):
        assert is_data_loss(error)
        assert is_data_loss(RuntimeError("".join(traceback.format_exception(error))))
    assert not is_data_loss(raised_from(RuntimeError("executor failed"), OSError(28, "No space left")))
