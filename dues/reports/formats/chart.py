"""The chart of a printed report: a bar for each month, what was refunded on top of what was kept."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from dues.pdf.page import ACCENT, ACCENT_LIGHT, GREY, LEFT, RIGHT, RULE, Pages

_AXIS = 52.0  # room for the figures beside the chart
_HEAD, _FOOT = 18.0, 16.0  # for the legend and the names of months
_LABEL = 34.0


class Bar(NamedTuple):
    """Amounts in minor units."""

    name: str
    kept: int
    refunded: int


def draw_bars(pages: Pages, bars: Sequence[Bar], *, height: float, scale: int) -> None:
    """Draw below the pen, and move it there. `scale` is how many minor units a whole one of the currency has."""
    ticks = find_ticks(max(bar.kept + bar.refunded for bar in bars) / scale)
    top, floor = pages.y - _HEAD, pages.y - height + _FOOT
    per_unit = (top - floor) / (ticks[-1] * scale)
    _draw_legend(pages)
    for tick in ticks:
        y = floor + tick * scale * per_unit
        pages.line(LEFT + _AXIS, RIGHT, y, RULE)
        pages.text(LEFT + _AXIS - 6, y - 2.5, _short_number(tick), size=7.5, color=GREY, align="right")
    step = (RIGHT - LEFT - _AXIS) / len(bars)
    width = min(step * 0.68, 40)
    named = math.ceil(_LABEL / step)
    for i, bar in enumerate(bars):
        center = LEFT + _AXIS + (i + 0.5) * step
        kept, refunded = bar.kept * per_unit, bar.refunded * per_unit
        pages.box(center - width / 2, floor, width, kept, ACCENT)
        pages.box(center - width / 2, floor + kept, width, refunded, ACCENT_LIGHT)
        if i % named == 0:
            pages.text(center, floor - 11, bar.name, size=7.5, color=GREY, align="center")
    pages.y -= height


def _draw_legend(pages: Pages) -> None:
    for x, color, name in ((RIGHT - 104, ACCENT, "Net"), (RIGHT - 62, ACCENT_LIGHT, "Refunded")):
        pages.box(x, pages.y - 7, 8, 8, color)
        pages.text(x + 12, pages.y - 6, name, size=8, color=GREY)


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
