"""Writes docs/recipe-reference.md: every key of a recipe with type, default and meaning, from the settings.

python -m docs.recipe_reference --output docs/recipe-reference.md
"""

import argparse
import ast
import functools
import inspect
import itertools
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core.core_schema import ModelSchema

from pipeline.config import Recipe

Schema = Mapping[str, Any]
"""A part of a JSON schema."""

_HEAD: Final = """\
# Recipe reference

All keys of a recipe. This page is generated from the settings' own code (`make docs` writes it anew), and a
test compares the two. What a run does with it: [how it works](how-it-works.md); a recipe to begin with:
[your own data](own-data.md).

- A recipe is a YAML file of these blocks; what it does not say has the default given here. Only `dataset`
  must be there.
- `--set KEY=VALUE` changes a key for one run, the value in YAML: `--set training.epochs=5`,
  `--set "augmentation.scale_crop=[0.7,1.6]"`, `--set evaluation.min_class_iou.person=0.4`. None is written
  `null`; an empty value, as of a shell variable that was never set, is refused.
- An unknown key, an impossible value, and keys that contradict each other end the command with status 2
  before anything starts; the message names the key, the value and what would be right.
- Relative paths count from the directory in which the command is typed.
"""
_TABLE: Final = ("| key | type | default | meaning |", "|---|---|---|---|")
_WORDS: Final = {"boolean": "true or false", "integer": "whole number", "number": "number", "string": "text"}
_BOUNDS: Final = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


def reference() -> str:
    """Returns the page, in Markdown."""
    schema = Recipe.model_json_schema(schema_generator=_WithMeanings)
    return "\n".join([_HEAD, *_Page(schema).sections()])


class _WithMeanings(GenerateJsonSchema):
    """Takes what stands under a key in the settings' code for its description.

    Pydantic would do so by itself (``use_attribute_docstrings``), each time that a class is made: with TFX's
    9,000 modules in memory, finding the code of all classes takes 2.4 s, in every stage's process.
    """

    def model_schema(self, schema: ModelSchema) -> JsonSchemaValue:
        block = super().model_schema(schema)
        for kind in schema["cls"].__mro__:
            for key, meaning in _meanings(kind):
                block["properties"].get(key, {}).setdefault("description", meaning)
        return block


@functools.cache
def _classes(module: str) -> dict[str, ast.ClassDef]:
    file = getattr(sys.modules[module], "__file__", None)
    body = ast.parse(Path(file).read_text(encoding="utf-8")).body if file else []
    return {definition.name: definition for definition in body if isinstance(definition, ast.ClassDef)}


def _meanings(kind: type) -> Iterator[tuple[str, str]]:
    """Yields the attributes of a class that a docstring follows; none of a class that a function has made."""
    definition = _classes(kind.__module__).get(kind.__name__)
    for attribute, text in itertools.pairwise(definition.body if definition else ()):
        match attribute, text:
            case ast.AnnAssign(target=ast.Name(id=key)), ast.Expr(value=ast.Constant(value=str(meaning))):
                yield key, inspect.cleandoc(meaning)


class _Page:
    """Walks a settings model's JSON schema, block by block."""

    def __init__(self, schema: Schema):
        self._whole = schema
        self._blocks: Schema = schema["$defs"]
        self._described: dict[str, str] = {}
        """Heading under which each block has been described."""

    def sections(self) -> Iterator[str]:
        yield from self._section("Top level", "", self._whole)

    def _section(self, heading: str, prefix: str, block: Schema) -> Iterator[str]:
        level = "##" if "." not in heading else "###"
        yield from (f"{level} {heading}", "", _prose(block["description"]), "", *_TABLE)
        inner = []
        for name, field in block["properties"].items():
            yield self._row(f"{prefix}{name}", field, name in block.get("required", ()))
            inner += [(f"{prefix}{name}{suffix}", of) for suffix, of in _inner_blocks(field)]
        yield ""
        for path, name in inner:
            if name in self._described:
                yield from (f"### {path}", "", f"The keys of {_link(self._described[name])}.", "")
            else:
                self._described[name] = path
                yield from self._section(path, f"{path}.", self._blocks[name])

    def _row(self, key: str, field: Schema, required: bool) -> str:
        inner = [(f"{key}{suffix}", name) for suffix, name in _inner_blocks(field)]
        described = [field, *(self._blocks[name] for _, name in inner)]
        meaning = next((part["description"] for part in described if "description" in part), "")
        meaning = _prose(meaning.split("\n\n")[0])
        default = "none" if required else f"`{_yaml(field.get('default', {}))}`"
        if "$ref" in field:
            default = ""  # of each of its keys
        for path, _ in inner:
            meaning = f"{meaning.removesuffix('.')}; see {_link(path)}"
        return f"| `{key}` | {_type(field)} | {default} | {meaning} |"


def _inner_blocks(field: Schema) -> Iterator[tuple[str, str]]:
    """Yields what follows the key on the way to a block inside a field, and the block's name."""
    if "$ref" in field:
        yield "", field["$ref"].rpartition("/")[2]
    for choice in (*field.get("anyOf", ()), *field.get("oneOf", ())):
        yield from _inner_blocks(choice)
    if isinstance(field.get("items"), dict):
        yield from ((f"[]{rest}", name) for rest, name in _inner_blocks(field["items"]))
    if isinstance(field.get("additionalProperties"), dict):
        yield from ((f".NAME{rest}", name) for rest, name in _inner_blocks(field["additionalProperties"]))


def _type(field: Schema) -> str:
    """Says in words what a value may be."""
    if "$ref" in field:
        return "block"
    if choices := field.get("anyOf") or field.get("oneOf"):
        return " or ".join(_type(choice) for choice in choices)
    if "const" in field:
        return f"`{_yaml(field['const'])}`"
    if "enum" in field:
        return ", ".join(f"`{_yaml(value)}`" for value in field["enum"])
    match field["type"]:
        case "null":
            return "`null`"
        case "array" if "prefixItems" in field:
            return f"list of {len(field['prefixItems'])}: {_type(field['prefixItems'][0])}"
        case "array":
            return f"list, each: {_type(field['items'])}"
        case "object":
            names = _type(field["propertyNames"]) if "propertyNames" in field else "any name"
            return f"for {names}: {_type(field['additionalProperties'])}"
        case kind:
            return f"{_WORDS[kind]}{_bounds(field)}"


def _bounds(field: Schema) -> str:
    if "minimum" in field and "maximum" in field:
        return f" {_yaml(field['minimum'])} … {_yaml(field['maximum'])}"
    bounds = [f"{sign} {_yaml(field[key])}" for key, sign in _BOUNDS.items() if key in field]
    return f" {', '.join(bounds)}" if bounds else ""


def _yaml(value: Any) -> str:
    """Writes a value as it would stand in a recipe, on one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_yaml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_yaml, value)) + "]"
    if isinstance(value, str):
        return value or '""'
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return json.dumps(value)


def _prose(docstring: str) -> str:
    """A docstring as one paragraph of Markdown that may stand in a table."""
    return " ".join(docstring.replace("``", "`").split()).replace("|", "\\|")


def _link(heading: str) -> str:
    return f"[{heading}](#{re.sub(r'[^a-z0-9_-]', '', heading.lower())})"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m docs.recipe_reference",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--output", type=Path, required=True, metavar="FILE.md")
    output: Path = parser.parse_args(argv).output
    try:
        output.write_text(reference(), encoding="utf-8")
    except OSError as error:
        print(f"{parser.prog}: --output {output}: {error.strerror}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
