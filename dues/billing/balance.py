"""How much of what is owed comes from a member's balance at a store, and how much is charged."""

# The least that gateways charge, in minor units; in other currencies they charge any amount.
MINIMUM_CHARGE = {
    "AED": 200, "AUD": 50, "BGN": 100, "BRL": 50, "CAD": 50, "CHF": 50, "CZK": 1500, "DKK": 250, "EUR": 50, "GBP": 30,
    "HKD": 400, "HUF": 17500, "INR": 50, "JPY": 50, "MXN": 1000, "MYR": 200, "NOK": 300, "NZD": 50, "PLN": 200,
    "RON": 200, "SEK": 300, "SGD": 50, "THB": 1000, "USD": 50,
}  # fmt: skip


def apply_balance(total: int, balance: int, currency: str) -> tuple[int, int]:
    """What of `total` comes from a balance of `balance` minor units, and what is due; the two add up to the total.

    A total below zero goes to the balance. A balance below zero is owed with it. What is too little to be charged is
    taken from the balance, which it may bring below zero, and is owed with the next charge.
    """
    if total <= 0:
        return total, 0
    applied = min(balance, total)
    due = total - applied
    if due < MINIMUM_CHARGE.get(currency, 1):
        return total, 0
    return applied, due
