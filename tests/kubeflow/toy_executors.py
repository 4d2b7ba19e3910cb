"""Executors that tell what they were given, and put out what the backend stumbles over."""

import ctypes
import subprocess
from pathlib import Path
from typing import Any

from tfx import types
from tfx.components.evaluator import executor as evaluator
from tfx.components.util import model_utils
from tfx.dsl.components.base import base_beam_executor, base_executor

from components.errors import StageError

Artifacts = dict[str, list[types.Artifact]]

seen: dict[str, Any] = {}


class Judge(base_executor.BaseExecutor):
    """Looks at a model, two verdicts and some Examples, and gives Examples, a report and a page."""

    def Do(self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: dict[str, Any]) -> None:
        seen.clear()
        seen["classes"] = {key: type(value[0]).__name__ for key, value in (input_dict | output_dict).items()}
        seen["uris"] = {key: value[0].uri for key, value in (input_dict | output_dict).items()}
        seen["exec_properties"] = exec_properties
        seen["blessed"] = model_utils.is_model_blessed(input_dict["blessing"][0])
        seen["validated"] = model_utils.is_infra_validated(input_dict["infra"][0])
        seen["span"] = input_dict["examples"][0].span
        seen["splits"] = input_dict["examples"][0].split_names
        seen["directories"] = [Path(value[0].uri).is_dir() for value in output_dict.values()]
        [examples], [report] = output_dict["out"], output_dict["report"]
        examples.span = 7
        examples.split_names = '["test"]'
        examples.set_string_custom_property("model", input_dict["model"][0].uri)
        examples.set_int_custom_property("count", 3)
        report.mlmd_artifact.custom_properties["nothing"].SetInParent()


class Verdict(evaluator.Executor):
    """Writes down what TFX's Evaluator does of the models that it compares."""

    def Do(self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: dict[str, Any]) -> None:
        [blessing] = output_dict["blessing"]
        for role in ("current", "baseline"):
            [model] = input_dict["model" if role == "current" else "baseline_model"]
            blessing.set_string_custom_property(f"{role}_model", model.uri)
            blessing.set_int_custom_property(f"{role}_model_id", model.id)


class Reader(base_executor.BaseExecutor):
    """Has one input, the dataset, and reads what its properties name."""

    def Do(self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: dict[str, Any]) -> None:
        seen.clear()
        seen["exec_properties"] = exec_properties


class Writer(base_executor.BaseExecutor):
    """Writes two files into its Examples, and nothing into its verdict."""

    def Do(self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: dict[str, Any]) -> None:
        folder = Path(output_dict["examples"][0].uri, "Split-test")
        folder.mkdir()
        for number in range(2):
            (folder / f"data_tfrecord-0000{number}-of-00002.gz").write_bytes(b"records")


class Stuck(base_executor.BaseExecutor):
    """Starts a process, and then waits in native code, which answers no signal, for what never comes."""

    def Do(self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: dict[str, Any]) -> None:
        child = subprocess.Popen(["sleep", "600"], start_new_session=True)
        print(f"stuck beside {child.pid}", flush=True)
        mutex = ctypes.create_string_buffer(64)
        while True:
            ctypes.CDLL(None).pthread_mutex_lock(mutex)


class Refusal(base_executor.BaseExecutor):
    """Fails as stages do."""

    def Do(self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: dict[str, Any]) -> None:
        raise StageError("the folder /data/pets is empty; put images into it")


class Beams(base_beam_executor.BaseBeamExecutor):
    """Makes a pipeline of Beam's, whose options are read as late as then."""

    def Do(self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: dict[str, Any]) -> None:
        self._make_beam_pipeline()
