"""The chart of a printed report: a bar for each month, what was refunded on top of what was kept."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

# As many names as there is room for below the bars.
_NAMES = 15


class Bar(NamedTuple):
    """Amounts in minor units."""

    name: str
    kept: int
    refunded: int


def chart(bars: Sequence[Bar], *, scale: int) -> dict[str, Any]:
    """What the template draws: heights as shares of the chart's. `scale` is how many minor units a whole one of the
    currency has."""
    ticks = find_ticks(max(bar.kept + bar.refunded for bar in bars) / scale)
    whole = ticks[-1] * scale
    named = math.ceil(len(bars) / _NAMES)
    return {
        "ticks": [[tick / ticks[-1], _short_number(tick)] for tick in ticks],
        "bars": [
            {
                "name": bar.name if i % named == 0 else "",
                "kept": max(bar.kept, 0) / whole,
                "refunded": max(bar.refunded, 0) / whole,
            }
            for i, bar in enumerate(bars)
        ],
    }


def find_ticks(largest: float) -> list[float]:
    """From 0, three to six round steps that reach `largest`."""
    if largest <= 0:
        return [0.0, 1.0]
    rough = largest / 5
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(magnitude * factor for factor in (1, 2, 2.5, 5, 10) if magnitude * factor >= rough)
    return [step * i for i in range(math.ceil(largest / step - 1e-9) + 1)]


def _short_number(number: float) -> str:
    for size, name in ((1e9, "bn"), (1e6, "m"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.4g} {name}"
    return f"{number:.4g}"
