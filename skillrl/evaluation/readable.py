"""Numbers as people read them."""

import math
from typing import Any


def percent(share: float | None) -> str:
    return "not measured" if share is None else f"{100 * share:.0f}\u00a0%"


def number(value: float | None) -> str:
    """Three significant digits, more only before the point; no exponent where one can do without."""
    if value is None:
        return "not measured"
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    size = math.floor(math.log10(abs(value)))
    return f"{value:,.{max(0, 2 - size)}f}" if -4 <= size < 9 else f"{value:.2e}"


def plain(value: Any) -> str:
    """Whatever stands in metrics.json."""
    return "does not apply" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
