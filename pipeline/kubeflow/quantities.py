"""Kubernetes' quantities, ``500m`` or ``8Gi``, as numbers."""

import re
from typing import Final

_QUANTITY: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)([a-zA-Z]*)")
_FACTORS: Final = {
    **{"": 1.0, "m": 1e-3},
    **{"k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18},
    **{"Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50, "Ei": 2.0**60},
}


def parse_quantity(text: str) -> float:
    """Returns the number of cores or bytes.

    Raises:
        ValueError: it is no quantity.
    """
    match = _QUANTITY.fullmatch(text)
    if match is None or match[2] not in _FACTORS:
        raise ValueError("not a quantity of Kubernetes; write it as '500m', '2' or '8Gi'")
    return float(match[1]) * _FACTORS[match[2]]
