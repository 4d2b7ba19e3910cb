"""Formats shares for people."""


def percent(share: float) -> str:
    """Returns it with more digits the nearer it is to none or all: ``97 %``, ``3.4 %``, ``0.02 %``.

    Only none is ``0 %``, and only all ``100 %``.
    """
    value = 100 * share
    if 99.5 <= value < 100:
        return f"{value:.1f} %" if value < 99.95 else "> 99.9 %"
    if value == 0 or value >= 9.95:
        return f"{value:.0f} %"
    return f"{value:.1f} %" if value >= 0.095 else ("< 0.01 %" if value < 0.005 else f"{value:.2f} %")
