"""The part of CEL that trigger conditions need (``expression/expression.go``).

Paths into the ExecutorInput, literals, comparisons, ``&&``, ``||``, ``!`` and parentheses. As in CEL, a whole
number and a double cannot be compared: all numbers of artifacts are doubles, so ``== 1`` is an error and
``== 1.0`` is right.
"""

import operator
import re
from collections.abc import Callable
from typing import Any, Final

from google.protobuf import struct_pb2
from kfp.pipeline_spec import pipeline_spec_pb2

_TOKEN: Final = re.compile(
    r"\s*(?:(?P<number>\d+(?:\.\d+)?)|(?P<string>'[^']*')|(?P<name>[A-Za-z_]\w*)|"
    r"(?P<symbol>&&|\|\||==|!=|<=|>=|[<>!()\[\].]))"
)
_COMPARISONS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
    "<=": operator.le,
    ">=": operator.ge,
}


class ExpressionError(Exception):
    """The expression is not of this part of CEL, or has no value."""


def condition_holds(condition: str, executor_input: pipeline_spec_pb2.ExecutorInput) -> bool:
    """Evaluates a trigger condition.

    Raises:
        ExpressionError: as the driver would fail.
    """
    parser = _Parser(condition, executor_input)
    value = parser.disjunction()
    if parser.tokens or not isinstance(value, bool):
        raise ExpressionError(f"{condition!r} is no condition")
    return value


class _Parser:
    def __init__(self, text: str, root: pipeline_spec_pb2.ExecutorInput):
        self.tokens: list[tuple[str, str]] = []
        self._root = root
        position = 0
        while position < len(text.rstrip()):
            match = _TOKEN.match(text, position)
            if match is None or match.lastgroup is None:
                raise ExpressionError(f"{text!r}: unknown at {text[position:]!r}")
            self.tokens.append((match.lastgroup, match[match.lastgroup]))
            position = match.end()

    def disjunction(self) -> Any:
        value = self._conjunction()
        while self._take("||"):
            right = self._conjunction()
            value = value or right
        return value

    def _conjunction(self) -> Any:
        value = self._comparison()
        while self._take("&&"):
            right = self._comparison()
            value = value and right
        return value

    def _comparison(self) -> Any:
        left = self._unary()
        if self.tokens and self.tokens[0][1] in _COMPARISONS:
            compare = _COMPARISONS[self.tokens.pop(0)[1]]
            right = self._unary()
            if type(left) is not type(right):
                raise ExpressionError(f"no such overload: {left!r} and {right!r}")
            return compare(left, right)
        return left

    def _unary(self) -> Any:
        if self._take("!"):
            return not self._unary()
        if self._take("("):
            value = self.disjunction()
            self._expect(")")
            return value
        if not self.tokens:
            raise ExpressionError("the expression ends too early")
        kind, text = self.tokens.pop(0)
        if kind == "number":
            return float(text) if "." in text else int(text)
        if kind == "string":
            return text[1:-1]
        if text in ("true", "false"):
            return text == "true"
        return self._path(text)

    def _path(self, name: str) -> Any:
        value: Any = getattr(self._root, name)
        while True:
            if self._take("."):
                value = getattr(value, self.tokens.pop(0)[1])
            elif self._take("["):
                _, key = self.tokens.pop(0)
                self._expect("]")
                value = _item(value, key)
            else:
                return value

    def _take(self, symbol: str) -> bool:
        if self.tokens and self.tokens[0] == ("symbol", symbol):
            self.tokens.pop(0)
            return True
        return False

    def _expect(self, symbol: str) -> None:
        if not self._take(symbol):
            raise ExpressionError(f"{symbol} is missing")


def _item(container: Any, key: str) -> Any:
    if isinstance(container, struct_pb2.Struct):
        # Python's own access to a Struct invents nothing, and gives numbers as doubles.
        container = dict(container.items())
    index = key[1:-1] if key.startswith("'") else int(key)
    if isinstance(index, str) and index not in container:
        raise ExpressionError(f"no such key: {index}")
    return container[index]
