"""Configuration files in protocol buffer text format, with errors that name file, line and column."""

from pathlib import Path
from typing import TypeVar

import grpc
from google.protobuf import text_format
from google.protobuf.message import Message

from components.serving.server.errors import ServingError

_Message = TypeVar("_Message", bound=Message)


def read_text_proto(path: Path, message: _Message) -> _Message:
    """Fills ``message`` from the file and returns it.

    Raises:
        ServingError: INVALID_ARGUMENT, the file cannot be read or says something that ``message`` has no
            place for.
    """
    try:
        return text_format.Parse(path.read_text(encoding="utf-8"), message)
    except OSError as error:
        reason = f"cannot be read: {error.strerror}"
    except UnicodeDecodeError as error:
        reason = f"is not text: byte {error.start} is no UTF-8"
    except text_format.ParseError as error:
        # The parser's message starts with the line and the column.
        where, _, what = str(error).partition(" : ")
        raise ServingError(grpc.StatusCode.INVALID_ARGUMENT, f"{path}:{where}: {what}") from error
    raise ServingError(grpc.StatusCode.INVALID_ARGUMENT, f"{path} {reason}")
