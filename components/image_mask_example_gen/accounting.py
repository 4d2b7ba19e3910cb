"""Says what became of the input, and stops when too much of it is damaged."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from components.errors import StageError
from components.image_mask_example_gen.report import Reason, Rejection

logger = logging.getLogger(__name__)

_SHOWN_REJECTIONS = 10


class UnusableDatasetError(StageError):
    """Too little of the dataset is left to go on with; the message shows some of the files, this all."""

    def __init__(self, message: str, rejected: Sequence[Rejection]):
        super().__init__(message)
        self.rejected_files = tuple(asdict(rejection) for rejection in rejected)
        """``file``, ``reason`` and ``found`` of each, as in ``ingestion.json``."""


def log_planned(pairs: Mapping[str, int], rejected: Sequence[Rejection]) -> None:
    """Says how many pairs go into each split, and what the dataset itself leaves out."""
    text = f"{sum(pairs.values())} pairs: " + ", ".join(f"{count} {split}" for split, count in pairs.items())
    unlisted = [item for item in rejected if item.reason is Reason.UNLISTED]
    if unlisted:
        names = ", ".join(item.file for item in unlisted[:3]) + (", …" if len(unlisted) > 3 else "")
        text += f"; {len(unlisted)} set aside, in no official list ({names})"
    logger.info(text)


def check_rejected(rejected: Sequence[Rejection], num_examples: int, allowed: float) -> None:
    """Logs every rejection in the run's log and the damage on the terminal.

    Raises:
      UnusableDatasetError: more is damaged than is allowed.
    """
    for item in rejected:
        logger.debug("rejected %s: %s. %s", item.file, item.reason, item.found)
    damaged = [item for item in rejected if item.reason is not Reason.UNLISTED]
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
