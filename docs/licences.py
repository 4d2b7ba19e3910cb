"""Lists the licences of what is shipped, as the packages themselves give them, and names those that bind.

    python -m docs.licences [LOCK ...]        requirements/cpu.lock and requirements/signing.lock by default

Prints a Markdown table of the locked packages, read from what is installed. Ends with 1, and a line for each,
if a package is under a licence that would extend to this project (GPL, AGPL, SSPL; not LGPL, MPL) without
an exception or another one to choose, if it does not say, or if another version or none is installed.
"""

import argparse
import functools
import re
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import NamedTuple

_BINDING = re.compile(
    r"(?<!L)A?GPL|(?<!Lesser )(?<!Library )General Public License|SSPL|Server Side Public", re.I
)
_TITLE = re.compile(r"^.*\blicen[sc]e\b.*$", re.IGNORECASE | re.MULTILINE)
_PIN = re.compile(r"^([a-z0-9][^=\s]*)==(\S+)", re.MULTILINE)
_LONGEST = 80


class Package(NamedTuple):
    """A locked package."""

    name: str
    version: str
    licence: str
    """Empty where it does not say."""
    problem: str
    """Why it must not be shipped as it is; empty where it may."""


def packages(locks: Sequence[Path]) -> Iterator[Package]:
    """Yields the packages of all locks, each once, by name."""
    pins = dict(pin for lock in locks for pin in _PIN.findall(lock.read_text()))
    for name, version in sorted(pins.items()):
        try:
            installed = distribution(name)
        except PackageNotFoundError:
            yield Package(name, version, "", "is not installed: nobody can say")
            continue
        licence = licence_of(installed)
        other = (
            ""
            if installed.version == version
            else f"is locked as {version}, installed is {installed.version}"
        )
        yield Package(name, version, licence, other or problem_with(licence))


def licence_of(installed: Distribution) -> str:
    """Returns what a package says, empty if nothing.

    That is the SPDX expression, otherwise its classifiers, the free text, or the first line of the licence
    itself that has the word.
    """
    said = functools.partial(_said, installed)
    if expression := said("License-Expression"):
        return expression[0]
    classified = [
        classifier.rpartition(" :: ")[2]
        for classifier in said("Classifier")
        if classifier.startswith("License :: ") and not classifier.endswith(" :: OSI Approved")
    ]
    free = _beginning("".join(said("License")))
    return " AND ".join(classified) or ("" if free.upper() == "UNKNOWN" else free) or _text_of(installed)


def _text_of(installed: Distribution) -> str:
    names = _said(installed, "License-File")
    texts = (installed.read_text(place) for name in names for place in (f"licenses/{name}", name))
    lines = (_TITLE.search(text or "") for text in texts)
    return next((_beginning(line[0]) for line in lines if line), "")


def _said(installed: Distribution, key: str) -> list[str]:
    return installed.metadata.get_all(key) or []


def _beginning(text: str) -> str:
    return text.strip().partition("\n")[0].strip()[:_LONGEST]


def problem_with(licence: str) -> str:
    """Says why a package under a licence must not be shipped as it is; empty where it may."""
    if not licence:
        return "does not say its licence"
    # Where both are in one expression, parentheses decide what can be chosen: then nothing can.
    choices = licence.split(" OR ") if " AND " not in licence else [licence]
    if all(map(_binds, choices)):
        return f"is under {licence}, which would extend to this project"
    return ""


def _binds(licence: str) -> bool:
    return any(_BINDING.search(part) and " WITH " not in part for part in licence.split(" AND "))


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the table; returns 1 if a package must not be shipped."""
    parser = argparse.ArgumentParser(
        prog="python -m docs.licences",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    defaults = [Path("requirements", f"{name}.lock") for name in ("cpu", "signing")]
    parser.add_argument("locks", type=Path, nargs="*", default=defaults, metavar="LOCK")
    found = list(packages(parser.parse_args(arguments).locks))
    print("| Package | Version | Licence |\n|---|---|---|")
    for package in found:
        print(f"| {package.name} | {package.version} | {package.licence.replace('|', ' ') or '?'} |")
    for package in found:
        if package.problem:
            print(f"{package.name} {package.problem}", file=sys.stderr)
    return int(any(package.problem for package in found))


if __name__ == "__main__":
    sys.exit(main())
