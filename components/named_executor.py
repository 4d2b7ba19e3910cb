"""Executors by their names: who composes a pipeline imports nothing that only its stages need."""

from typing import Any

from tfx.dsl.components.base import executor_spec
from tfx.utils import import_utils


class _ByName:
    """Takes the class's path where TFX's takes the class, which is imported when somebody asks for it."""

    _path: str

    @property
    def executor_class(self) -> Any:
        return import_utils.import_class_by_path(self._path)

    @executor_class.setter
    def executor_class(self, path: str) -> None:
        self._path = path

    def _set_class_path(self) -> None:
        self._class_path = self._path


class NamedExecutor(_ByName, executor_spec.ExecutorClassSpec):
    """An executor that works by itself.

    Args:
        executor_class: its module and name, with a dot between.
    """


class NamedBeamExecutor(_ByName, executor_spec.BeamExecutorSpec):
    """An executor that works with Beam.

    Args:
        executor_class: its module and name, with a dot between.
    """
