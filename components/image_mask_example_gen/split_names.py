"""Which split the name of a folder or file tells: ``train``, ``val``, ``test`` or ``trainval``."""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

SPELLINGS: Final = {
    "trainval": "trainval",
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing", "tst", "eval", "evaluation", "holdout"), "test"),
}
_NNUNET: Final = {"Tr": "train", "Ts": "test"}
"""Ends of nnU-Net's imagesTr and labelsTs."""
_KINDS: Final = (
    *("image", "img", "pic", "picture", "photo", "mask", "label", "lbl", "annot", "annotation", "anno"),
    *("gt", "groundtruth", "seg", "segmentation", "set", "data", "dataset"),
)
"""What split folders hold, written together with the split's name: ``trainannot``, ``masksval``."""
_BEFORE: Final = "|".join(
    [r"(?<![a-z])", *(f"(?<={kind}{plural})" for kind in _KINDS for plural in ("", "s"))]
)
_WORD: Final = re.compile(
    rf"(?:{_BEFORE})({'|'.join(sorted(SPELLINGS, key=len, reverse=True))})"
    rf"(?=$|[^a-z]|(?:{'|'.join(_KINDS)})s?(?![a-z])|(?-i:(?<=[a-z])[A-Z](?![A-Za-z])))",
    re.IGNORECASE,
)
_CAMEL: Final = re.compile(rf"(?<=[a-z])({'|'.join(_NNUNET)})$")


@lru_cache(4096)
def split_name(name: str) -> tuple[str, str, str] | None:
    """Looks for a split in the name of a folder or file.

    Returns:
        The split, how it is spelt, and the name with ``{}`` in its place: (``val``, ``valid``, ``{}annot``).
    """
    match = _WORD.search(name) or _CAMEL.search(name)
    if match is None:
        return None
    split = _NNUNET.get(match[1]) or SPELLINGS[match[1].lower()]
    return split, match[1], f"{name[: match.start()]}{{}}{name[match.end() :]}"


def innermost_split(parts: Sequence[str]) -> str | None:
    """Returns the split that the last telling part of a path tells."""
    return next((found[0] for part in reversed(parts) if (found := split_name(part))), None)
