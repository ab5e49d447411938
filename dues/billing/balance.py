"""How an amount owed is split between a member's balance at a store and a charge."""

# The smallest amounts that gateways charge, in minor units. In other currencies they charge any amount.
MINIMUM_CHARGE = {
    "AED": 200, "AUD": 50, "BGN": 100, "BRL": 50, "CAD": 50, "CHF": 50, "CZK": 1500, "DKK": 250, "EUR": 50, "GBP": 30,
    "HKD": 400, "HUF": 17500, "INR": 50, "JPY": 50, "MXN": 1000, "MYR": 200, "NOK": 300, "NZD": 50, "PLN": 200,
    "RON": 200, "SEK": 300, "SGD": 50, "THB": 1000, "USD": 50,
}  # fmt: skip


def apply_balance(total: int, balance: int, currency: str) -> tuple[int, int]:
    """Split `total` into the part taken from a balance of `balance` and the part to charge, all in minor units. The two
    parts add up to `total`.

    A negative total is added to the balance. A negative balance is charged along with the total. An amount too small to
    be charged is taken from the balance, which may become negative; it is then owed with the next charge.
    """
    if total <= 0:
        return total, 0
    applied = min(balance, total)
    due = total - applied
    if due < MINIMUM_CHARGE.get(currency, 1):
        return total, 0
    return applied, due
