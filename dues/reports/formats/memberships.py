"""What a drawn revenue report says of memberships: for each month the monthly recurring revenue at its end, how many
members came and left, and the churn: the share of the MRR at the month's beginning that has left by its end."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from typing import Any
from zoneinfo import ZoneInfo

from dues.money import format_money

TITLES = ["Month", "Members", "New", "Left", "MRR", "Churn"]

# What of a month's figures moves the MRR.
_FLOWS = ("new_mrr", "churned_mrr", "reactivated_mrr", "upgraded_mrr", "downgraded_mrr")
# A currency in which there was none of these has no memberships.
_SIGNS = ("mrr", "active", "past_due", "new", "churned")


def memberships_of(figures: Iterable[Mapping[str, Any]], zone: ZoneInfo) -> dict[str, dict[str, Any]]:
    """What the template shows of each currency that has memberships: the last MRR, the churn of an average month, and
    a row for each month. `figures` are those of dues/billing/metrics.py."""
    shown = {}
    for currency, rows in groupby(sorted(figures, key=itemgetter("currency")), key=itemgetter("currency")):
        months = sorted(rows, key=itemgetter("start"))
        if any(month[sign] for month in months for sign in _SIGNS):
            shown[currency] = _shown(months, currency, zone)
    return shown


def _shown(months: list[Mapping[str, Any]], currency: str, zone: ZoneInfo) -> dict[str, Any]:
    begun = [(_at_the_beginning(month), -month["churned_mrr"]) for month in months]
    whole = sum(mrr for mrr, _ in begun)
    return {
        "titles": TITLES,
        "totals": [
            ["MRR", format_money(months[-1]["mrr"], currency)],
            ["Members", f"{_members(months[-1]):,}"],
            ["New", f"{sum(month['new'] for month in months):,}"],
            ["Churn a month", _percent(sum(lost for _, lost in begun), whole)],
        ],
        "rows": [_row(month, currency, zone, *parts) for month, parts in zip(months, begun, strict=True)],
    }


def _row(month: Mapping[str, Any], currency: str, zone: ZoneInfo, begun: int, lost: int) -> list[str]:
    start = datetime.fromisoformat(month["start"]).astimezone(zone)
    return [
        f"{start:%B %Y}",
        f"{_members(month):,}",
        f"{month['new']:,}",
        f"{month['churned']:,}",
        format_money(month["mrr"], currency).removesuffix(f" {currency}"),
        _percent(lost, begun),
    ]


def _at_the_beginning(month: Mapping[str, Any]) -> int:
    mrr: int = month["mrr"] - sum(month[flow] for flow in _FLOWS)
    return mrr


def _members(month: Mapping[str, Any]) -> int:
    members: int = month["active"] + month["past_due"]
    return members


def _percent(part: int, whole: int) -> str:
    """Nothing where there was nothing to lose."""
    return f"{100 * part / whole:.1f} %" if whole > 0 else ""
