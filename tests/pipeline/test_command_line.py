"""``pipeline.command_line``: what all commands have in common."""

import argparse
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest


class Parsing(Exception):
    """Bears the parser that a command line was about to be given to."""


def options_of(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from options_of(below)
        else:
            yield action


@pytest.mark.parametrize(
    "module",
    [
        "evaluate.__main__",
        "init.__main__",
        "predict.__main__",
        "report",
        "run_kubeflow",
        "run_local",
        "runs",
        "verify",
    ],
)
def test_no_option_takes_an_empty_path_for_the_current_folder(
    module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def parse_args(parser: argparse.ArgumentParser, _argv: object) -> None:
        raise Parsing(parser)

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_args)
    with pytest.raises(Parsing) as reached:
        importlib.import_module(f"pipeline.{module}").main([])
    paths = [
        action
        for action in options_of(reached.value.args[0])
        if action.type is Path or re.search("DIR|FILE|IMAGE|RUN_A", str(action.metavar))
    ]
    assert paths
    for action in paths:
        assert callable(action.type), action
        with pytest.raises(argparse.ArgumentTypeError):
            action.type("")
