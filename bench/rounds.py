"""Interleaved rounds: every contestant is measured once in each round, so that a slow minute of the machine affects all
of them. The medians over the rounds are compared."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Figure:
    """A quantity measured in every round, in `unit`."""

    name: str
    unit: str
    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return median(self.values)

    def spread(self) -> str:
        return f"{show(min(self.values))} to {show(max(self.values))}"


@dataclass(frozen=True)
class Goal:
    """A ratio of two figures' medians, and its target: a minimum or, with `at_most`, a maximum."""

    what: str
    ratio: float
    wanted: float
    at_most: bool = False

    @property
    def met(self) -> bool:
        return self.ratio <= self.wanted if self.at_most else self.ratio >= self.wanted


def interleave(
    rounds: int, contestants: Mapping[str, Callable[[], float]], unit: str, warm_up: bool = True
) -> dict[str, Figure]:
    """Measure each contestant once per round; the order rotates from round to round."""
    names = list(contestants)
    values: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds + warm_up):
        rotated = names[number % len(names) :] + names[: number % len(names)]
        for name in rotated:
            value = contestants[name]()
            if number or not warm_up:
                values[name].append(value)
    return {name: Figure(name, unit, tuple(found)) for name, found in values.items()}


def show(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
