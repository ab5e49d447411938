"""Log in, see what a store sells and what it has been paid, buy something, and know how it came out."""

import sys
from collections import Counter

from dues_client import Dues
from dues_client.errors import CardDeclined

store_id, email, password = sys.argv[1:4]

with Dues().log_in(email, password) as dues:
    totals = Counter[str]()
    for payment in dues.payments.list(store_id, status="succeeded", include=["package"]):
        totals[payment.package.name if payment.package else "other"] += payment.amount
    package = dues.packages.list(store_id).to_list(limit=1)[0]
    try:
        bought = dues.payments.create(store_id, package_id=package.id, payment_method="sandbox_ok").wait()
        print(f"{package.name}: {bought.money} {bought.status}; before that {dict(totals)}")
    except CardDeclined:
        print("another card, please")
