"""Makes rows for tests straight in the tables, so that a test arranges its world without the code it tests.

Each method returns the row as an object with the table's columns. What a test does not care about has a default.
"""

import itertools
import json
import secrets
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from hashlib import sha256
from types import SimpleNamespace as Row
from typing import Any

from argon2 import PasswordHasher
from psycopg2.extras import Json

from dues.accounts.actor import SCOPES
from dues.ids import new_id
from tests.servers import Direct

# Nothing is ever sent there.
_URL = "http://127.0.0.1:9/hooks"
PASSWORD = "correct horse battery staple"


class Factory:
    """Makes rows, each committed at once."""

    def __init__(self, direct: Direct) -> None:
        self._direct = direct
        self._numbers = itertools.count(1)

    def user(self, *, password: str = PASSWORD, **columns: Any) -> Row:
        number = next(self._numbers)
        defaults = {
            "id": new_id(),
            "email": f"user{number}@example.com",
            "name": f"User {number}",
            "password_hash": hashed(password),
            "email_verified_at": datetime.now(UTC),
        }
        return self.insert("users", defaults | columns)

    def address(self, user: Row, **columns: Any) -> Row:
        defaults = {
            "user_id": user.id,
            "id": new_id(),
            "label": "Home",
            "line1": "1 High Street",
            "city": "Leeds",
            "country": "GB",
        }
        return self.insert("addresses", defaults | columns)

    def token(
        self,
        user: Row,
        *scopes: str,
        store: Row | None = None,
        expires_in: timedelta = timedelta(days=1),
        **columns: Any,
    ) -> str:
        """A token of `user` (with no scopes named: all of them), as the client sends it."""
        token = f"dues_{secrets.token_urlsafe(32)}"
        defaults = {
            "id": new_id(),
            "user_id": user.id,
            "store_id": store.id if store else None,
            "name": "test",
            "token_hash": sha256(token.encode()).digest(),
            "scopes": list(scopes or SCOPES),
            "expires_at": datetime.now(UTC) + expires_in,
        }
        self.insert("api_tokens", defaults | columns)
        return token

    def auth(self, user: Row, *scopes: str, **columns: Any) -> dict[str, str]:
        """Headers with a new token of `user`."""
        return {"Authorization": f"Bearer {self.token(user, *scopes, **columns)}"}

    def code(self, user: Row, purpose: str, *, expires_in: timedelta = timedelta(hours=1), **columns: Any) -> str:
        """A code as a mail to the user's address would have it."""
        code = secrets.token_urlsafe(32)
        defaults = {
            "id": new_id(),
            "user_id": user.id,
            "purpose": purpose,
            "email": user.email,
            "code_hash": sha256(code.encode()).digest(),
            "expires_at": datetime.now(UTC) + expires_in,
        }
        self.insert("account_codes", defaults | columns)
        return code

    def store(self, owner: Row | None = None, **columns: Any) -> Row:
        """A store with its owner on the staff. The clock of a test store shows the present time."""
        owner = owner or self.user()
        number = next(self._numbers)
        defaults = {
            "id": new_id(),
            "owner_id": owner.id,
            "name": f"Store {number}",
            "slug": f"store-{number}",
            "currency": "EUR",
        }
        store = self.insert("stores", defaults | columns)
        if store.test:
            self.insert("store_clocks", {"store_id": store.id, "moment": datetime.now(UTC)})
        self.staff(store, owner, role="owner")
        return store

    def staff(self, store: Row, user: Row | None = None, *, role: str = "support", **columns: Any) -> Row:
        """A member of the staff: a new user unless one is given."""
        user = user or self.user()
        return self.insert(
            "store_staff", {"store_id": store.id, "user_id": user.id, "id": new_id(), "role": role} | columns
        )

    def package(self, store: Row, **columns: Any) -> Row:
        defaults = {
            "store_id": store.id,
            "id": new_id(),
            "name": f"Package {next(self._numbers)}",
            "amount": 1500,
            "currency": store.currency,
            "interval": "month",
        }
        return self.insert("packages", defaults | columns)

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
        with self._direct.cursor() as cursor:
            if not noted:
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
            if not noted:
                cursor.execute("alter table payments enable trigger payments_sync_note")
            cursor.execute("analyze payments")

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

    def endpoint(self, store: Row, **columns: Any) -> Row:
        """A webhook endpoint that is told of all events."""
        self.rows(
            "insert into event_streams(store_id, listened) values (%(id)s, true)"
            " on conflict (store_id) do update set listened = true",
            {"id": store.id},
        )
        secret = f"whsec_{b64encode(secrets.token_bytes(32)).decode()}"
        defaults = {"store_id": store.id, "id": new_id(), "url": _URL, "events": ["*"], "secret": secret}
        return self.insert("webhook_endpoints", defaults | columns)

    def event(self, store: Row, **columns: Any) -> Row:
        """The store's next event; no job goes with it."""
        seq = self.value(
            "insert into event_streams as s (store_id, last_seq) values (%(id)s, 1)"
            " on conflict (store_id) do update set last_seq = s.last_seq + 1 returning last_seq",
            {"id": store.id},
        )
        defaults = {"store_id": store.id, "seq": seq, "id": new_id(), "type": "package.created", "data": {"id": "1"}}
        return self.insert("events", defaults | {"created_at": datetime.now(UTC)} | columns)

    def delivery(self, endpoint: Row, event: Row, **columns: Any) -> Row:
        """A delivery that has succeeded. No job goes with it."""
        defaults = {
            "store_id": endpoint.store_id,
            "id": new_id(),
            "endpoint_id": endpoint.id,
            "seq": event.seq,
            "event_id": event.id,
            "event_type": event.type,
            "status": "succeeded",
            "asked_by": new_id(),
            "job_id": new_id(),
        }
        return self.insert("webhook_deliveries", defaults | columns)

    def post(self, author: Row, *, store: Row | None = None, status: str = "published", **columns: Any) -> Row:
        """A post, public and published unless said otherwise; `package_ids` in `columns` are its tiers."""
        post_id = new_id()
        defaults = {
            "id": post_id,
            "feed_id": post_id,
            "author_id": author.id,
            "store_id": store.id if store else None,
            "title": "New wall",
            "body": "Something new",
            "privacy": "public",
            "status": status,
            "published_at": datetime.now(UTC) if status == "published" else None,
        }
        package_ids = list(map(str, columns.pop("package_ids", ())))
        post = self.insert("posts", defaults | columns)
        self.rows("insert into post_stats(post_id) values (%(id)s)", {"id": post.id})
        if package_ids:
            values = {"id": post.id, "packages": package_ids, "published": status == "published"}
            self.rows("update posts set package_ids = %(packages)s::uuid[] where id = %(id)s", values)
            self.rows(
                "insert into post_packages select store_id, unnest(package_ids), feed_id, id, author_id from posts"
                " where id = %(id)s and %(published)s",
                values,
            )
        return post

    def comment(self, post: Row, author: Row | None = None, **columns: Any) -> Row:
        author = author or self.user()
        defaults = {"post_id": post.id, "id": new_id(), "author_id": author.id, "body": "Well said"}
        comment = self.insert("comments", defaults | columns)
        self.rows("update post_stats set comments = comments + 1 where post_id = %(id)s", {"id": post.id})
        return comment

    def like(self, post: Row, user: Row) -> Row:
        like = self.insert("likes", {"post_id": post.id, "user_id": user.id, "id": new_id()})
        self.rows("update post_stats set likes = likes + 1 where post_id = %(id)s", {"id": post.id})
        return like

    def follow(self, follower: Row, followed: Row) -> Row:
        """`follower` follows `followed`."""
        follow = self.insert("follows", {"follower_id": follower.id, "followed_id": followed.id, "id": new_id()})
        for name, user in (("following", follower), ("followers", followed)):
            self.rows(
                f"insert into follow_stats as s (user_id, {name}) values (%(id)s, 1)"
                f" on conflict (user_id) do update set {name} = s.{name} + 1",
                {"id": user.id},
            )
        return follow

    def block(self, blocker: Row, blocked: Row) -> Row:
        return self.insert("blocks", {"blocker_id": blocker.id, "blocked_id": blocked.id, "id": new_id()})

    def insert(self, table: str, columns: dict[str, Any]) -> Row:
        """One row of any table. Returns: all of its columns, those that the database filled in too."""
        names = ", ".join(f'"{name}"' for name in columns)
        values = {name: Json(value) if isinstance(value, dict) else value for name, value in columns.items()}
        places = ", ".join(f"%({name})s" for name in columns)
        return self.rows(f"insert into {table}({names}) values ({places}) returning *", values)[0]

    def insert_many(self, table: str, rows: list[dict[str, Any]]) -> None:
        """Rows of one table with the same columns, by one statement."""
        names = ", ".join(f'"{name}"' for name in rows[0])
        self.rows(
            f"insert into {table}({names}) select {names} from json_populate_recordset(null::{table}, %(rows)s)",
            {"rows": Json(rows, dumps=partial(json.dumps, default=str))},
        )

    def rows(self, sql: str, parameters: dict[str, Any] | None = None) -> list[Row]:
        """What a statement returns: for a test that looks into the tables."""
        with self._direct.cursor() as cursor:
            cursor.execute(sql, parameters)
            return [Row(**row) for row in cursor.fetchall()] if cursor.description else []

    def value(self, sql: str, parameters: dict[str, Any] | None = None) -> Any:
        """The one value a statement returns."""
        with self._direct.cursor() as cursor:
            cursor.execute(sql, parameters)
            row = cursor.fetchone()
            assert row is not None
            return next(iter(row.values()))


@cache
def hashed(password: str) -> str:
    """As accounts store it; cheap to verify, because tests are not what it protects."""
    return PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(password)
