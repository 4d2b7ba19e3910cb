"""Where every input file went: reasons for rejections, and how many are too many."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum

from components.errors import StageError, printable, shortened

_SHOWN_REJECTIONS = 10
_LONGEST_FOUND = 1000

logger = logging.getLogger(__name__)


class Reason(StrEnum):
    """Why a file was set aside. The values stand in artifacts and summaries: keep them stable."""

    NOT_DECODABLE = "not decodable"
    TRUNCATED = "truncated"
    IMAGE_WITHOUT_MASK = "image without mask"
    MASK_WITHOUT_IMAGE = "mask without image"
    SIZES_DIFFER = "sizes differ"
    ORIENTATION_UNKNOWN = "orientation unknown"
    LABEL_OUTSIDE_CLASSES = "label outside the classes"
    EMPTY_FILE = "empty file"
    TOO_MANY_PIXELS = "too many pixels"
    LISTED_ONLY = "listed, but not there"
    NOT_READ = "format not read here"
    """The file may be whole; its suffix stands for a format such as HEIC."""
    UNLISTED = "unlisted"
    """The dataset itself leaves the file out."""

    @property
    def is_damage(self) -> bool:
        """Whether it counts against ``dataset.max_rejected_fraction``."""
        return self not in (Reason.NOT_READ, Reason.UNLISTED)


@dataclass(frozen=True)
class Rejection:
    """One file set aside; the other file of its pair goes with it.

    It is made to be read: whatever names and files hold, its texts are `printable`.
    """

    file: str
    """Path relative to the dataset's root, printable."""
    reason: Reason
    found: str
    """What was found, in words."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "file", printable(self.file))
        object.__setattr__(self, "found", printable(shortened(self.found, _LONGEST_FOUND)))


class UnusableDatasetError(StageError):
    """Too little of the dataset is left to go on with; the message shows some of the files, this all."""

    def __init__(self, message: str, rejected: Sequence[Rejection]):
        super().__init__(message)
        self.rejected_files = tuple(asdict(rejection) for rejection in rejected)
        """``file``, ``reason`` and ``found`` of each, as in ``ingestion.json``."""


def log_planned(
    pairs: Mapping[str, int], origins: Mapping[str, str], rejected: Sequence[Rejection], notes: Sequence[str]
) -> None:
    """Says how many pairs go into each split and why, what is left out undamaged, and the notes."""
    text = f"{sum(pairs.values())} pairs: " + ", ".join(f"{count} {split}" for split, count in pairs.items())
    for reason, why in ((Reason.UNLISTED, "in no declared split"), (Reason.NOT_READ, Reason.NOT_READ)):
        files = [item.file for item in rejected if item.reason is reason]
        if files:
            names = ", ".join(files[:3]) + (", …" if len(files) > 3 else "")
            text += f"; {len(files)} set aside, {why} ({names})"
    logger.info(text)
    if origins:
        logger.info("divided as the data says: %s", "; ".join(": ".join(item) for item in origins.items()))
    for note in notes:
        logger.info("%s", note)


def check_rejected(rejected: Sequence[Rejection], num_examples: int, allowed: float) -> None:
    """Logs every rejection in the run's log and the damage on the terminal.

    Raises:
      UnusableDatasetError: more is damaged than is allowed.
    """
    for item in rejected:
        logger.debug("rejected %s: %s. %s", item.file, item.reason, item.found)
    damaged = [item for item in rejected if item.reason.is_damage]
    if not damaged:
        return
    total = num_examples + len(damaged)
    reasons = Counter(item.reason for item in damaged)
    by_reason = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
    # Not multiplied: 29 is more than 0.29 * 100, which is 28.999999999999996.
    if len(damaged) / total <= allowed:
        logger.info(
            "%d of %d pairs rejected, %d examples written: %s", len(damaged), total, num_examples, by_reason
        )
        return
    shown = [f"  {item.file}: {item.reason}. {item.found}" for item in damaged[:_SHOWN_REJECTIONS]]
    if len(damaged) > len(shown):
        shown.append(f"  … and {len(damaged) - len(shown)} more")
    # Rounded up, so that the advice works when it is followed to the letter.
    enough = -(-len(damaged) * 1000 // total) / 1000
    remedy = (
        "So many point to the settings rather than to the files: look at the dataset part of the recipe."
        if enough > 0.5
        else "Mend or remove these files, or go on without them: "
        f"--set dataset.max_rejected_fraction={enough:g}"
    )
    heading = (
        f"{len(damaged)} of {total} pairs cannot be used ({len(damaged) / total:.1%}), more than "
        f"dataset.max_rejected_fraction={allowed:g} allows: {by_reason}."
    )
    raise UnusableDatasetError("\n".join([heading, *shown, remedy]), rejected)


def check_filled(
    pairs: Mapping[str, int], examples: Mapping[str, int], rejected: Sequence[Rejection]
) -> None:
    """Raises UnusableDatasetError if rejections have emptied a split."""
    for split, count in pairs.items():
        if count and not examples[split]:
            raise UnusableDatasetError(
                f"All {count} pairs of the split {split!r} were rejected; "
                "mend the files or change dataset.splits.",
                rejected,
            )
