"""A compiled pipeline as it is handed to Kubeflow Pipelines: one file of two YAML documents."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml
from google.protobuf import json_format
from google.protobuf.message import Message
from kfp.pipeline_spec.pipeline_spec_pb2 import PipelineSpec, PlatformSpec

from components.dataset.contracts import write_whole

_LINE_WIDTH: Final = 150
_LOOKS_LIKE_A_NUMBER: Final = re.compile(r"[-+.]?[0-9][-+.0-9_eE]*")


@dataclass(frozen=True)
class Package:
    """A pipeline, and what its pods ask of Kubernetes."""

    spec: PipelineSpec
    platform: PlatformSpec

    def to_yaml(self) -> str:
        """Returns both documents; the same package gives the same text."""
        return "---\n".join(_dump(document) for document in (self.spec, self.platform))

    def write(self, path: Path) -> None:
        """Writes ``to_yaml()`` to a file, so that a reader sees the old one or the new one, never a half.

        Args:
            path: the file; folders that are missing are made.

        Raises:
            OSError: it cannot be written.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, self.to_yaml())


class _Dumper(yaml.SafeDumper):
    """Shows texts of several lines as such: schemas and JSON among a stage's parameters."""


def _represent_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    if "\n" in text:
        style = "|"
    elif _LOOKS_LIKE_A_NUMBER.fullmatch(text):
        # PyYAML takes 12e4 for a text and leaves it bare; the backend's YAML 1.2 takes it for a number.
        style = "'"
    else:
        style = None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style)


_Dumper.add_representer(str, _represent_text)


def _dump(document: Message) -> str:
    values: dict[str, Any] = json_format.MessageToDict(document)
    return yaml.dump(values, Dumper=_Dumper, sort_keys=True, width=_LINE_WIDTH, allow_unicode=True)
