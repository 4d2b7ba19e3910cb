"""TensorFlow's protocol buffer messages without TensorFlow.

The generated modules of tensorflow and tensorflow-serving-api hold what a client needs, but importing one
of them imports TensorFlow: seconds and hundreds of megabytes for a few hundred bytes of message
descriptors. Those bytes stand in the generated files as a literal, so they are read from there, without
running the file, into a descriptor pool of their own. Nothing is copied into this project, the messages
are those of the version installed, and a process that imports TensorFlow as well, before or after, has no
second definition in the default pool.
"""

import ast
import importlib
import importlib.util
from functools import cache
from pathlib import Path

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.message import Message

_POOL = descriptor_pool.DescriptorPool()
_GENERATED = "_pb2"


@cache
def message_class(module: str, name: str) -> type[Message]:
    """Returns the class of a top-level message.

    Args:
        module: the generated module that declares it, such as ``tensorflow_serving.apis.predict_pb2``.
        name: the message's name, such as ``PredictRequest``.

    Raises:
        ImportError: the module is not installed, or is not what the protocol buffer compiler writes.
    """
    return message_factory.GetMessageClass(_file(module).message_types_by_name[name])


@cache
def enum_values(module: str, name: str) -> dict[str, int]:
    """Returns the names and numbers of a top-level enumeration; arguments and errors as above."""
    return {value.name: value.number for value in _file(module).enum_types_by_name[name].values}


@cache
def _file(module: str) -> FileDescriptor:
    """The module's file descriptor in the private pool, together with those that it imports."""
    if module.startswith("google.protobuf."):
        # Part of protobuf itself, and light.
        return _POOL.AddSerializedFile(importlib.import_module(module).DESCRIPTOR.serialized_pb)
    path = _source(module)
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module:
            for imported in node.names:
                if imported.name.endswith(_GENERATED):
                    _file(f"{node.module}.{imported.name}")
    return _POOL.AddSerializedFile(_serialized_descriptor(tree, path))


def _source(module: str) -> Path:
    package, *parts = module.split(".")
    # Asked for a top-level package, find_spec looks for it without importing it.
    spec = importlib.util.find_spec(package)
    for folder in (spec and spec.submodule_search_locations) or ():
        path = Path(folder, *parts).with_suffix(".py")
        if path.is_file():
            return path
    raise ModuleNotFoundError(f"{module} is not installed: is tensorflow-serving-api?", name=module)


def _serialized_descriptor(tree: ast.Module, path: Path) -> bytes:
    for node in ast.walk(tree):
        match node:
            case ast.Call(
                func=ast.Attribute(attr="AddSerializedFile"), args=[ast.Constant(bytes(serialized))]
            ):
                return serialized
    raise ImportError(f"{path} holds no serialized file descriptor", path=str(path))
