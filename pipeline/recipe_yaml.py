"""YAML as its version 1.2 defines it: ``1e-3`` is a number, ``no`` is a word, and no key is given twice."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

_SCALARS = (
    ("tag:yaml.org,2002:null", r"~|null|Null|NULL|", "~nN\0"),
    ("tag:yaml.org,2002:bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("tag:yaml.org,2002:int", r"[-+]?(0|[1-9][0-9]*)", "-+0123456789"),
    (
        "tag:yaml.org,2002:float",
        r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*)([eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+",
        "-+.0123456789",
    ),
)
"""Tag, pattern and possible first characters of YAML 1.2's core schema, as far as recipes need it.

PyYAML follows YAML 1.1, where ``1e-3`` is a string, ``010`` is eight and ``no`` is false.
"""


class _RecipeLoader(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            problem = None
            if not isinstance(key, str):
                problem = f"key {key!r} is not a word; put it in quotes"
            elif key in seen:
                problem = f"key {key} is given twice; keep one"
            if problem:
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


_RecipeLoader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in _SCALARS:
    _characters = ["" if character == "\0" else character for character in _first]
    _RecipeLoader.add_implicit_resolver(_tag, re.compile(f"^(?:{_pattern})$"), _characters)


def load_yaml(text: str) -> Any:
    """Reads one YAML document.

    Raises:
        ValueError: what is wrong and where, on one line.
    """
    try:
        return yaml.load(text, _RecipeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ValueError(f"{where}{error.problem or error.context}") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None


def write_yaml(value: Any) -> str:
    """Writes a value on one line."""
    if isinstance(value, str):
        plain = re.fullmatch(r"[A-Za-z_/][\w./ -]*", value, re.ASCII) and value == value.strip()
        if plain and load_yaml(value) == value:
            return value
        quoted = "'" + value.replace("'", "''") + "'"
        # What cannot be printed needs JSON's escapes, which are YAML's, too.
        return quoted if value.isprintable() else json.dumps(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{write_yaml(key)}: {write_yaml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, Sequence):
        return "[" + ", ".join(map(write_yaml, value)) + "]"
    return json.dumps(value)
