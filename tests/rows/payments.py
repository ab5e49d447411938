"""Makes rows for tests of what is bought and paid: subscriptions, payments, invoices and their documents."""

from datetime import UTC, datetime, timedelta
from hashlib import sha256
from types import SimpleNamespace as Row
from typing import Any

from dues.ids import new_id
from tests.rows.people import PeopleRows

_IS_NOTING = "select exists (select from pg_trigger where tgname = 'payments_sync_note')"


class PaymentRows(PeopleRows):
    """What customers buy and pay."""

    def payment(self, store: Row, user: Row | None = None, *, package: Row | None = None, **columns: Any) -> Row:
        """A payment, succeeded unless said otherwise, for `package` where one is given. No job goes with it."""
        user = user or self.user()
        defaults = {
            "store_id": store.id,
            "id": new_id(),
            "user_id": user.id,
            "package_id": package.id if package else None,
            "amount": package.amount if package else 1500,
            "currency": package.currency if package else store.currency,
            "status": "succeeded",
            "payment_method": "sandbox_ok",
            "gateway": "sandbox",
        }
        return self.insert("payments", defaults | columns)

    def payments(
        self,
        store: Row,
        count: int,
        *,
        users: list[Row],
        packages: list[Row] | None = None,
        noted: bool = True,
    ) -> None:
        """Many payments at once, a second apart and ending now, users and packages taking turns; then ANALYZE. To have
        each `noted` as a change that clients pull takes most of the time."""
        # Where Citus is, nothing is noted.
        is_paused = not noted and self.value(_IS_NOTING)
        with self._direct.cursor() as cursor:
            if is_paused:
                cursor.execute("alter table payments disable trigger payments_sync_note")
            cursor.execute(
                """
                insert into payments(store_id, id, user_id, package_id, amount, currency, status, payment_method,
                    gateway, created_at, updated_at)
                select %(store)s,
                    (lpad(to_hex((extract(epoch from at) * 1000)::bigint), 12, '0')
                        || '7' || left(random, 3) || '8' || right(random, 15))::uuid,
                    (%(users)s::uuid[])[1 + n %% cardinality(%(users)s::uuid[])],
                    (%(packages)s::uuid[])[1 + n %% greatest(cardinality(%(packages)s::uuid[]), 1)],
                    1000 + n %% 90, %(currency)s,
                    (array['succeeded', 'succeeded', 'succeeded', 'failed', 'refunded'])[1 + n %% 5],
                    'sandbox_ok', 'sandbox', at, at
                from generate_series(1, %(count)s) n,
                    lateral (select now() - (%(count)s - n) * interval '1 s' as at, md5(n::text) as random) t
                """,
                {
                    "store": store.id,
                    "users": [user.id for user in users],
                    "packages": [package.id for package in packages or []],
                    "currency": store.currency,
                    "count": count,
                },
            )
            if is_paused:
                cursor.execute("alter table payments enable trigger payments_sync_note")
            cursor.execute("analyze payments")

    def payment_method(self, user: Row, token: str = "sandbox_ok", **columns: Any) -> Row:
        """A stored card of the sandbox; not the default unless said so."""
        method_id = new_id()
        defaults = {
            "user_id": user.id,
            "id": method_id,
            "gateway": "sandbox",
            "gateway_customer": "sandbox",
            "gateway_ref": f"{token}@{method_id}",
            "brand": "visa",
            "last4": "4242",
            "exp_month": 12,
            "exp_year": 2099,
        }
        return self.insert("payment_methods", defaults | columns)

    def customer(self, store: Row, user: Row) -> None:
        """Make somebody a customer of a store, if they are not yet."""
        self.rows(
            "insert into customers(store_id, user_id, created_at, updated_at)"
            " values (%(store)s, %(user)s, now(), now()) on conflict do nothing",
            {"store": store.id, "user": user.id},
        )

    def subscription(self, store: Row, user: Row | None = None, *, package: Row | None = None, **columns: Any) -> Row:
        """An active subscription that is paid for a month from now on; no invoice goes with it."""
        user, package = user or self.user(), package or self.package(store)
        self.customer(store, user)
        now = datetime.now(UTC)
        defaults = {
            "store_id": store.id,
            "id": new_id(),
            "user_id": user.id,
            "status": "active",
            "package_id": package.id,
            "amount": package.amount,
            "currency": package.currency,
            "interval": package.interval,
            "interval_count": package.interval_count,
            "anchor_at": now,
            "timezone": store.timezone,
            "trial_days": 0,
            "trial_refused": False,
            "period_number": 0,
            "current_period_start": now,
            "current_period_end": now + timedelta(days=30),
            "cancel_at_period_end": False,
            "has_access": True,
            "access_until": now + timedelta(days=30),
            "next_action_at": now + timedelta(days=30),
            "test": store.test,
            "version": 1,
            "created_at": now,
            "updated_at": now,
        }
        return self.insert("subscriptions", defaults | columns)

    def invoice(self, store: Row, user: Row | None = None, **columns: Any) -> Row:
        """A draft of an invoice of 15.00 with one line, unless said otherwise."""
        user, now = user or self.user(), datetime.now(UTC)
        self.customer(store, user)
        final = {"seller": {"name": store.name}, "buyer": {"name": user.name}, "issued_at": now}
        defaults = {
            "store_id": store.id,
            "id": new_id(),
            "user_id": user.id,
            "kind": "payment",
            "status": "draft",
            "currency": store.currency,
            "subtotal": 1500,
            "tax": 0,
            "total": 1500,
            "balance_applied": 0,
            "amount_due": 1500,
            "version": 1,
            "created_at": now,
            "updated_at": now,
        }
        found = self.insert(
            "invoices", defaults | (final if columns.get("status", "draft") != "draft" else {}) | columns
        )
        line = {"store_id": store.id, "invoice_id": found.id, "position": 1, "description": "Tea", "quantity": 1}
        self.insert("invoice_lines", line | {"amount": found.subtotal})
        return found

    def credit_note(self, invoice: Row, **columns: Any) -> Row:
        """A credit note that is issued, without a number."""
        now = datetime.now(UTC)
        defaults = {
            "store_id": invoice.store_id,
            "id": new_id(),
            "invoice_id": invoice.id,
            "user_id": invoice.user_id,
            "status": "issued",
            "currency": invoice.currency,
            "subtotal": 100,
            "tax": 0,
            "total": 100,
            "reason": "",
            "issued_at": now,
            "version": 1,
            "created_at": now,
            "updated_at": now,
        }
        return self.insert("credit_notes", defaults | columns)

    def refund(self, payment: Row, **columns: Any) -> Row:
        defaults = {
            "store_id": payment.store_id,
            "id": new_id(),
            "payment_id": payment.id,
            "amount": payment.amount,
            "currency": payment.currency,
            "status": "succeeded",
        }
        return self.insert("refunds", defaults | columns)

    def document(self, store: Row, user: Row, **columns: Any) -> Row:
        """An issued receipt with its file, of a payment where one is given."""
        document_id = new_id()
        file = b"%PDF-1.7 of a test"
        defaults = {
            "store_id": store.id,
            "id": document_id,
            "kind": "receipt",
            "subject_id": document_id,
            "number": f"T-{document_id}",
            "user_id": user.id,
            "data": {
                "number": f"T-{document_id}",
                "seller": {"name": store.name},
                "payer": {"name": user.name, "email": user.email},
                "amount": 1500,
                "currency": "EUR",
                "description": "Tea",
                "paid_at": "2026-11-20T14:39:00Z",
            },
            "content": file,
            "sha256": sha256(file).hexdigest(),
            "bytes": len(file),
        }
        return self.insert("documents", defaults | columns)
