"""Coverage-guided fuzzing of all that reads other people's bytes: pictures, masks, lists, requests, answers.

    pip install atheris
    python -m benchmarks.fuzz [TARGET ...] [--seconds 600] [--corpus DIR]

Each target gets bytes and hands them to the project's own reader. Right is what the reader promises, an array
whose type, shape and values are checked (`fuzz_targets`), or the refusal that it documents. Anything else is
a finding: another exception, a crash, more than ``--slow`` seconds, more than ``--megabytes`` resident. It
ends the target, is said with its trace, and its bytes stay in the corpus, under ``crash-…``, ``timeout-…`` or
``oom-…``. The first inputs are drawn (`fuzz_inputs`), so that no corpus needs to be kept: without
``--corpus`` it is temporary, and stays only where something was found, which is said. Printed for each
target: executions, seconds, and the branches of Python code that were reached.

What is watched for new branches is the code of this project, Pillow and tifffile. The libraries below them,
libjpeg, libpng, libtiff, TensorFlow's kernels, are run, not watched. The tests run the same targets on
mutations drawn by a seed; those need no atheris.
"""

import argparse
import random
import re
import shutil
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.fuzz_inputs import LONGEST, mutated, with_checksums
from benchmarks.fuzz_targets import TARGETS
from pipeline.command_line import command_parser

_WATCHED: Final = ("PIL", "tifffile", "components", "pipeline.predict", "pipeline.init")


def main(argv: Sequence[str] | None = None) -> int:
    """Fuzzes the targets, one after the other; returns 1 where something was found."""
    parser = command_parser("benchmarks.fuzz", __doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)}; default: all")
    parser.add_argument("--seconds", type=int, default=600, help="for each target; default: %(default)s")
    parser.add_argument("--corpus", type=Path, help="folder of inputs and findings; default: a temporary one")
    parser.add_argument("--slow", type=int, default=10, help="seconds that one input may take")
    parser.add_argument("--megabytes", type=int, default=3000, help="that the process may have resident")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if unknown := [name for name in args.targets if name not in TARGETS]:
        parser.error(f"{unknown[0]!r} is no target; there are {', '.join(TARGETS)}")
    try:
        import atheris
    except ImportError:
        parser.error("atheris is not installed, which watches what an input reaches: pip install atheris")
    if args.here:
        _fuzz(atheris, args)
    corpus = args.corpus or Path(tempfile.mkdtemp(prefix="fuzz-corpus-"))
    clean = False
    try:
        found = [_fuzz_apart(name, corpus / name, args) for name in args.targets or TARGETS]
        clean = not any(found)
    finally:
        if not clean:
            print(f"inputs and findings are in {corpus}")
        elif not args.corpus:
            shutil.rmtree(corpus)
    return int(not clean)


def _fuzz_apart(name: str, corpus: Path, args: argparse.Namespace) -> bool:
    """Fuzzes a target in a process of its own, which a finding ends; returns whether there was one."""
    corpus.mkdir(parents=True, exist_ok=True)
    for seed in TARGETS[name].seeds():
        (corpus / f"seed-{zlib.crc32(seed):08x}").write_bytes(seed)
    limits = [f"--{option}={getattr(args, option)}" for option in ("seconds", "slow", "megabytes")]
    command = [sys.executable, "-m", "benchmarks.fuzz", name, "--here", f"--corpus={corpus}", *limits]
    done = subprocess.run(
        command, stderr=subprocess.STDOUT, stdout=subprocess.PIPE, text=True, errors="replace"
    )
    (corpus / "log").write_text(done.stdout)
    figures = dict(re.findall(r"stat::(\w+):\s+(\d+)", done.stdout))
    reached = re.findall(r"cov: (\d+)", done.stdout)[-1:] or ["?"]
    executions = figures.get("number_of_executed_units", "?")
    print(
        f"{name}: {executions} executions in {args.seconds} s, {reached[0]} branches, "
        f"{figures.get('peak_rss_mb', '?')} MB" + (f"; FOUND, see {corpus}/log" if done.returncode else ""),
        flush=True,
    )
    return bool(done.returncode)


def _fuzz(atheris: Any, args: argparse.Namespace) -> None:
    """Never returns: libFuzzer ends the process."""
    [name] = args.targets
    with atheris.instrument_imports(include=_WATCHED):
        # What a target imports as it runs is watched as well.
        target = TARGETS[name]
        for data in target.seeds():
            target.run(data)

    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        if seed % 2:
            return atheris.Mutate(data, max_size)
        return mutated(data, random.Random(seed))[:max_size]

    options = [
        f"-max_total_time={args.seconds}",
        f"-timeout={args.slow}",
        f"-rss_limit_mb={args.megabytes}",
        f"-max_len={LONGEST}",
        f"-artifact_prefix={args.corpus}/",
        "-print_final_stats=1",
        "-seed=1",
    ]
    atheris.Setup(
        [sys.argv[0], *options, str(args.corpus)],
        lambda data: target.run(with_checksums(data)),
        custom_mutator=mutate,
    )
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
