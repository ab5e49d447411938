"""Demo data: three stores, fifty people, a year of payments, memberships and posts, loaded once and in one transaction.

The same seed gives the same people, packages, amounts and outcomes; times are relative to the moment of loading.
`$DUES_HOME/demo.json` tells how to log in: `url`, `store_id`, and for `owner` and `member` their `email`, `password`
and `token`. Only a database that has no users, or has this data already, is changed.
"""

import argparse
import io
import json
import os
import random
import secrets
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import UUID

import click
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from dues.accounts.actor import SCOPES
from dues.accounts.models import Token, User
from dues.accounts.passwords import NOBODY, hash_password
from dues.accounts.tokens import hash_token, new_token
from dues.app import create_base
from dues.billing.books import open_books
from dues.clock import now
from dues.ids import new_id
from dues.packages.models import Package
from dues.payments.models import Payment
from dues.postgres import transaction
from dues.postgres.pool import UNBOUNDED
from dues.postgres.sessions import connect
from dues.reads.tags import touch
from dues.settings import settings
from dues.stores.models import Staff, Store
from local import folders
from local.demo_memberships import load_memberships
from local.demo_social import load_posts
from local.dice import Dice

SEED = 20261120
PAYMENTS = 20_000
PEOPLE = 50
OWNER, MEMBER = "owner@dues.example", "member@dues.example"

_CHUNK = 5_000
_YEAR = timedelta(days=365)
_FIRST_NAMES = (
    "Ada Ben Cleo Dario Elif Femi Greta Hugo Ines Jonas Kaya Luca Mina Noor Otto Paula Quinn Rosa Sami Tess Uri Vera "
    "Wim Xenia Yara Zeno"
).split()
_LAST_NAMES = "Albers Brandt Costa Dahl Evers Fischer Grant Haddad Ito Jensen Kuhn Lopez Moreau Novak".split()
# Name, currency, and packages by name, price and interval. The first store has the payments.
_STORES = (
    (
        "Northlight Climbing",
        "EUR",
        (
            ("Day pass", 15_00, "once"),
            ("Monthly", 49_00, "month"),
            ("Yearly", 490_00, "year"),
            ("Course", 120_00, "once"),
        ),
    ),
    ("Paper & Pine", "GBP", (("Zine club", 8_00, "month"), ("Patron", 96_00, "year"))),
    ("Tidepool Radio", "USD", (("Listener", 5_00, "month"), ("Friend of the station", 60_00, "year"))),
)
_STATUSES = {"succeeded": 88, "failed": 7, "refunded": 3, "partially_refunded": 2}
_COLUMNS = {
    "payments": "store_id, id, user_id, package_id, amount, currency, status, description, payment_method, gateway, "
    "gateway_ref, failure_code, refunded_amount, created_at, updated_at",
    "payment_events": "store_id, payment_id, id, to_status, reason, created_at",
    "refunds": "store_id, id, payment_id, amount, currency, reason, status, gateway_ref, created_at, updated_at",
    "sandbox_gateway.operations": "key, kind, amount, currency, method, outcome, reference, created_at",
}
_CUSTOMERS = text("""
    insert into customers(store_id, user_id, created_at, updated_at)
    select store_id, user_id, min(created_at), min(created_at) from payments where store_id = :store_id group by 1, 2
    on conflict do nothing
""")
Rows = dict[str, list[tuple[Any, ...]]]


def load(payments: int | None) -> UUID | None:
    """Load what is missing, all or nothing.

    `payments` is how many payments the first store should have; None means the usual number at the first loading, and
    no more payments later. Returns: that store's id; None if the database has other users.
    """
    with transaction() as session:
        # If two loaders run at the same time, the second one waits here, and then finds the data of the first.
        session.execute(text("select pg_advisory_xact_lock(hashtext('dues demo data'))"))
        session.connection().execution_options(**{UNBOUNDED: True})
        session.execute(text("set local statement_timeout = 0"))
        store_id = _first_store(session)
        filled: list[str] = []
        if store_id is None:
            if session.scalar(select(User.id).limit(1)):
                return None
            store_id = _load_world(session, Dice(now(), random.Random(SEED)))  # noqa: S311  (data, not secrets)
            payments = PAYMENTS if payments is None else payments
        have = session.scalar(select(func.count()).where(Payment.store_id == store_id)) or 0
        if payments is not None and payments > have:
            _load_payments(session, Dice(now(), random.Random(SEED + have)), store_id, payments - have)  # noqa: S311
            filled += ["users", "stores", "packages", *_COLUMNS]
        filled += load_posts(session, Dice(now(), random.Random(SEED)))  # noqa: S311
        filled += load_memberships(session, Dice(now(), random.Random(SEED)))  # noqa: S311
    if filled:
        # Not before: Citus looks at the tables on its other servers by other connections.
        with closing(connect(settings(), statement_timeout="0")) as connection, connection.cursor() as cursor:
            cursor.execute(f"analyze {', '.join(dict.fromkeys(filled))}")
    return store_id


def _first_store(session: Session) -> UUID | None:
    found = select(Store.id).join(User, User.id == Store.owner_id).where(User.email == OWNER).order_by(Store.id)
    return session.scalar(found.limit(1))


def _load_world(session: Session, dice: Dice) -> UUID:
    """The people, the stores with their staff, and the packages. Returns: the first store's id."""
    opened = dice.moment - _YEAR
    people = [_person(dice, number) for number in range(PEOPLE)]
    session.add_all(people)
    session.flush()
    stores = []
    for number, (name, currency, packages) in enumerate(_STORES):
        opened += timedelta(minutes=1)
        slug = name.lower().replace(" & ", "-").replace(" ", "-")
        made = {"created_at": opened, "updated_at": opened}
        store = Store(id=dice.id(opened), owner_id=people[0].id, name=name, slug=slug, currency=currency, **made)
        session.add(store)
        session.flush()
        staff = {"owner": people[0], "manager": people[2 + 2 * number], "support": people[3 + 2 * number]}
        session.add_all(
            Staff(store_id=store.id, user_id=user.id, id=dice.id(opened), role=role, **made)
            for role, user in staff.items()
        )
        session.add_all(
            Package(
                store_id=store.id,
                id=dice.id(opened),
                name=package,
                description="",
                amount=amount,
                currency=currency,
                interval=interval,
                trial_days=0,
                **made,
            )
            for package, amount, interval in packages
        )
        touch("stores", *(f"store:{store.id}{part}" for part in ("", ":packages", ":customers")))
        stores.append(store)
    session.flush()
    return stores[0].id


def _person(dice: Dice, number: int) -> User:
    name = f"{_FIRST_NAMES[number % len(_FIRST_NAMES)]} {dice.rng.choice(_LAST_NAMES)}"
    email = {0: OWNER, 1: MEMBER}.get(number, f"{name.lower().replace(' ', '.')}.{number}@dues.example")
    joined = dice.moment - _YEAR - timedelta(days=PEOPLE - number)
    # Nobody can log in until `keep_log_ins()` sets the passwords of two users.
    made = {"created_at": joined, "updated_at": joined, "email_verified_at": joined}
    return User(id=dice.id(joined), email=email, name=name, password_hash=NOBODY, **made)


def _load_payments(session: Session, dice: Dice, store_id: UUID, count: int) -> None:
    """Add `count` payments to a store, spread over the year, by COPY in chunks."""
    packages = session.scalars(select(Package).where(Package.store_id == store_id).order_by(Package.id)).all()
    people = session.scalars(
        select(User.id).where(User.email.like("%@dues.example"), User.email != OWNER).order_by(User.id)
    ).all()
    payments = _payments(dice, count, packages, people)
    cursor = session.connection().connection.cursor()
    with click.progressbar(length=count, label=f"loading {count:,} demo payments") as bar:
        while chunk := list(islice(payments, _CHUNK)):
            for table in _COLUMNS:
                _copy(cursor, table, (row for rows in chunk for row in rows.get(table, ())))
            bar.update(len(chunk))
    cursor.close()
    open_books()
    session.execute(_CUSTOMERS, {"store_id": store_id})
    touch(f"store:{store_id}:payments", f"store:{store_id}:customers", *(f"user:{user_id}" for user_id in people))


def _payments(dice: Dice, count: int, packages: Sequence[Package], people: Sequence[UUID]) -> Iterator[Rows]:
    """The rows of each payment, oldest payment first."""
    step = _YEAR / count
    statuses = dice.rng.choices(list(_STATUSES), list(_STATUSES.values()), k=count)
    for number, status in enumerate(statuses):
        created = dice.moment - _YEAR + step * (number + dice.rng.random())
        yield _payment(dice, created, status, dice.rng.choice(packages), dice.rng.choice(people))


def _payment(dice: Dice, created: datetime, status: str, package: Package, user_id: UUID) -> Rows:
    """The rows of one payment: the payment, its event, the gateway's record, and possibly a refund."""
    payment_id = dice.id(created)
    refunded = {"refunded": package.amount, "partially_refunded": package.amount // 2}.get(status, 0)
    changed = min(created + timedelta(days=dice.rng.uniform(1, 20)), dice.moment) if refunded else created
    failed = status == "failed"
    method, outcome = ("sandbox_declined", "declined") if failed else ("sandbox_ok", "succeeded")
    reference, price = f"sandbox_charge_{payment_id.hex}", (package.amount, package.currency)
    what = (package.store_id, payment_id, user_id, package.id, *price, status, package.name)
    how = (method, "sandbox", reference, "card_declined" if failed else None, refunded)
    rows: Rows = {
        "payments": [(*what, *how, created, changed)],
        "payment_events": [(package.store_id, payment_id, dice.id(changed), status, "demo data", changed)],
        "sandbox_gateway.operations": [(payment_id, "charge", *price, method, outcome, reference, created)],
    }
    if refunded:
        refund_id, given = dice.id(changed), (refunded, package.currency)
        reference, why = f"sandbox_refund_{refund_id.hex}", ("demo data", "succeeded")
        rows["refunds"] = [(package.store_id, refund_id, payment_id, *given, *why, reference, changed, changed)]
        rows["sandbox_gateway.operations"].append(
            (refund_id, "refund", *given, "refund", "succeeded", reference, changed)
        )
    return rows


def _copy(cursor: Any, table: str, rows: Iterable[tuple[Any, ...]]) -> None:
    """COPY rows whose texts contain no tab, line break or backslash."""
    lines = ("\t".join(r"\N" if value is None else str(value) for value in row) + "\n" for row in rows)
    cursor.copy_expert(f"copy {table}({_COLUMNS[table]}) from stdin", io.StringIO("".join(lines)))


def keep_log_ins(path: Path, store_id: UUID, url: str) -> None:
    """Write log-ins to `path`, unless the ones in it still work."""
    kept = folders.read_document(path)
    found: dict[str, Any] = {"url": url, "store_id": str(store_id)}
    for role, email in (("owner", OWNER), ("member", MEMBER)):
        # These are log-ins of another database.
        entry = kept.get(role, {}) if kept.get("store_id") == str(store_id) else {}
        password = entry.get("password") or secrets.token_urlsafe(12)
        password_hash = None if "password" in entry else hash_password(password)
        with transaction() as session:
            user = session.scalars(select(User).where(User.email == email)).one()
            if password_hash:
                user.password_hash = password_hash
                touch(f"user:{user.id}")
            token = entry.get("token", "")
            if not _is_valid(session, token):
                token = _issue(session, user)
        found[role] = {"email": email, "password": password, "token": token}
    folders.write_whole(path, json.dumps(found, indent=2) + "\n")


def _is_valid(session: Session, token: str) -> bool:
    """Whether there is such a token, not revoked and valid for at least another day."""
    tomorrow = now() + timedelta(days=1)
    valid = select(Token.id).where(
        Token.token_hash == hash_token(token), Token.revoked_at.is_(None), Token.expires_at > tomorrow
    )
    return session.scalar(valid) is not None


def _issue(session: Session, user: User) -> str:
    token = new_token()
    session.add(
        Token(
            id=new_id(),
            user_id=user.id,
            name="demo",
            scopes=list(SCOPES),
            token_hash=hash_token(token),
            expires_at=now() + _YEAR,
        )
    )
    touch(f"user:{user.id}:tokens")
    return token


def main(argv: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m local.demo", description="load the demo data, once")
    parser.add_argument("--payments", type=int, metavar="N", help=f"load payments until there are N ({PAYMENTS})")
    given = parser.parse_args(argv)
    with create_base().app_context():
        store_id = load(given.payments)
        if store_id is None:
            click.echo("the database has users of its own: no demo data loaded")
        else:
            keep_log_ins(Path(os.environ["DUES_HOME"]) / "demo.json", store_id, settings().public_url)


if __name__ == "__main__":
    main(sys.argv[1:])
