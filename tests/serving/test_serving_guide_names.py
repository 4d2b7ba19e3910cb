"""What docs/serving.md names is there: flags, modules, headings, methods, and the numbers of the code."""

import json
import re
import subprocess
import sys
from functools import cache
from importlib.util import find_spec

import pytest
from documented import DOCS, REPOSITORY, python_commands

from components.saved_model import WARMUP_FILE
from components.serving import MAX_MESSAGE_BYTES, PATIENCE, TIMEOUT
from components.serving.backends import IMAGE
from components.serving.config import ServingLimits
from components.serving.server import batching, grpc_api, servable
from components.serving.server.options import argument_parser, read_options
from components.serving.server.server import DRAIN_SECONDS
from pipeline.config import Recipe

PAGE = DOCS / "serving.md"
GUIDE = PAGE.read_text()
_FLAGS_OF_TENSORFLOW_SERVING = {
    "name",  # --name=value, the form of all of them
    *(
        "enable_grpc_healthcheck_service",
        "ssl_config_file",
        "monitoring_config_file",
        "batching_parameters_file",
    ),
    *(
        "model_config_file",
        "model_config_file_poll_wait_seconds",
        "allow_version_labels_for_unavailable_models",
    ),
}


def test_every_serve_command_is_understood() -> None:
    parser = argument_parser("serve", "")
    serving = [options for module, *options in python_commands(PAGE) if module == "pipeline.serve"]
    assert len(serving) == 3
    for options in serving:
        assert read_options(*parser.parse_known_args(options)).flags()


@cache
def _help(module: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", module, "--help"], capture_output=True, text=True, check=True, cwd=REPOSITORY
    )
    return done.stdout


def test_every_flag_is_one_of_the_commands() -> None:
    flags = set(re.findall(r"(?<![\w-])--([a-z][\w-]*)", GUIDE)) - _FLAGS_OF_TENSORFLOW_SERVING
    known = set(re.findall(r"--([a-z][\w-]*)", _help("pipeline.serve") + _help("pipeline.predict")))
    assert len(flags) > 15 and flags <= known


def test_every_module_key_and_file_named_is_there() -> None:
    modules = set(re.findall(r"python -m ([\w.]+)", GUIDE))
    assert modules and all(find_spec(module) for module in modules)
    recipe = json.dumps(Recipe.model_json_schema())
    keys = re.findall(r"`(?:serving|transform)\.(\w+)`", GUIDE)
    assert keys and all(f'"{key}"' in recipe for key in keys)
    assert f"`{WARMUP_FILE}`" in GUIDE


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{:,} | recipe: `serving.max_pixels`", ServingLimits().max_pixels),
        ("{} | recipe: `serving.max_batch_size`", ServingLimits().max_batch_size),
        ("takes in memory, too | {} MiB |", servable.MAX_MESSAGE_BYTES >> 20),
        ("`SegmentationClient` | {} MiB |", MAX_MESSAGE_BYTES >> 20),
        ("over gRPC {:,} more may wait", grpc_api.MAX_WAITING),
        ("of at most {} images", batching.MAX_ROWS),
        ("nobody, and {:,} may wait", batching.MAX_WAITING),
        ("and `--patience` ({:g}) seconds together", PATIENCE),
        ("may take `--timeout` ({:g}) and", TIMEOUT),
        ("requests in flight have {:g} s", DRAIN_SECONDS),
    ],
)
def test_numbers_are_those_of_the_code(text: str, value: float) -> None:
    assert text.format(value) in GUIDE


def test_the_container_is_the_one_that_is_started() -> None:
    assert f"the container `{IMAGE}`" in GUIDE
