"""What is said of an exception."""

from components.errors import StageError
from pipeline.failures import explain_failure


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


def test_an_exception_without_words_gives_its_name() -> None:
    assert explain_failure(AssertionError()) == "AssertionError"
