"""The commands: each does one thing with the client."""

import argparse
import getpass
import inspect
import os
import platform
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from dues_client import Dues, Model, Money
from dues_client._sync.groups import Groups
from dues_client.cli.config import Config
from dues_client.cli.forward import Forwarder, new_secret, tail
from dues_client.cli.output import Output
from dues_client.errors import NotFound, ResourceFailed, Unauthenticated
from dues_client.models import Event

_LAST = 10


class Usage(Exception):
    """The command was not given what it needs."""


class Refused(Exception):
    """What was asked for was done, but for what it is about."""


@dataclass
class Context:
    dues: Dues
    config: Config
    output: Output
    options: argparse.Namespace

    @property
    def store(self) -> str:
        store = self.options.store or os.environ.get("DUES_STORE") or self.config.store
        if not store:
            raise Usage("which store? Give --store, or set DUES_STORE")
        return str(store)


def log_in(context: Context) -> None:
    email = context.options.email or input("E-mail: ")
    password = getpass.getpass("Password: ") if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")
    dues = context.dues.with_options(token="")
    issued = dues.tokens.log_in(email=email, password=password)
    # One that says what it is for in the list of tokens, and may be revoked alone.
    mine = dues.with_options(token=issued.token)
    name = f"dues on {platform.node() or 'a computer'}"[:100]
    kept = mine.tokens.create(name=name, scopes=issued.scopes)  # type: ignore[arg-type]
    mine.tokens.revoke(issued.id)
    Config(context.dues.url, kept.token, kept.id, context.options.store or "").write()
    print(f"logged in at {context.dues.url}; the token ends on {kept.expires_at:%Y-%m-%d}")


def log_out(context: Context) -> None:
    if context.config.token_id:
        with suppress(NotFound, Unauthenticated):
            context.dues.tokens.revoke(context.config.token_id)
    Config(context.config.url).write()
    print("logged out")


def who_am_i(context: Context) -> None:
    me = context.dues.accounts.get_me()
    context.output.line(f"{me.name} <{me.email}> at {context.dues.url}", me.to_dict())


def _lists() -> dict[str, tuple[str, str]]:
    """What can be listed: its name -> the group and the method."""
    found = {}
    # Nothing is called yet: a client is needed for calls only.
    for group, operations in vars(Groups(None)).items():  # type: ignore[arg-type]
        for method in dir(operations):
            if method == "list":
                found[group.replace("_", "-")] = (group, method)
            elif method == "list_mine":
                found[f"my-{group}"] = (group, method)
            elif method.startswith("list_"):
                found[method[5:].replace("_", "-")] = (group, method)
    return found


def listable() -> str:
    return "WHAT is one of: " + ", ".join(sorted(_lists())) + "."


def _method(context: Context, what: str) -> Callable[..., Any]:
    lists = _lists()
    if what not in lists:
        raise Usage(f"{what} cannot be listed. {listable()}")
    group, method = lists[what]
    found: Callable[..., Any] = getattr(getattr(context.dues, group), method)
    return found


def list_rows(context: Context) -> None:
    method = _method(context, context.options.what)
    parameters = inspect.signature(method).parameters
    given = dict(_pairs(context.options.filters))
    given = {name.replace("[", "_").rstrip("]"): value for name, value in given.items()}
    if unknown := given.keys() - parameters.keys():
        raise Usage(f"{', '.join(sorted(unknown))}: not one of {', '.join(sorted(parameters))}")
    for name in ("fields", "include"):
        if name in given:
            given[name] = given[name].split(",")
    if "store_id" in parameters and parameters["store_id"].default is inspect.Parameter.empty:
        given.setdefault("store_id", context.store)
    if missing := [n for n, p in parameters.items() if p.default is inspect.Parameter.empty and n not in given]:
        raise Usage(f"this list needs {', '.join(f'{name}=…' for name in missing)}")
    limit = context.options.limit
    paged = method(**given)
    rows = iter(paged) if limit < 1 else iter(paged.to_list(limit=limit))
    context.output.rows(row.to_dict() for row in rows)


def _pairs(words: list[str]) -> Iterator[tuple[str, Any]]:
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise Usage(f"{word!r} is not name=value")
        yield name, value


def get_row(context: Context) -> None:
    what = context.options.what
    plural = what[:-1] + "ies" if what.endswith("y") else what + "s"
    method = getattr(getattr(context.dues, plural.replace("-", "_"), None), "get", None)
    if method is None:
        raise Usage(f"there is no {what} to get")
    ids = [name for name, p in inspect.signature(method).parameters.items() if p.default is inspect.Parameter.empty]
    if [name for name in ids[:-1] if name != "store_id"]:
        raise Usage(f"{what}: this needs {', '.join(ids)}")
    row: Model = method(*([context.store] if len(ids) > 1 else []), context.options.id)
    context.output.document(row.to_dict())


def pay(context: Context) -> None:
    options = context.options
    order: dict[str, Any] = {"payment_method": options.method}
    if options.package and not options.amount:
        order["package_id"] = options.package
    elif options.amount and options.currency and not options.package:
        currency = options.currency.upper()
        order |= {"amount": _minor(options.amount, currency), "currency": currency}
        order["description"] = options.description or "dues pay"
    else:
        raise Usage("pay what? An amount with its currency, or --package")
    started = context.dues.payments.create(context.store, **order, idempotency_key=options.key)
    try:
        payment = started.wait(on_progress=context.output.progress)
    except ResourceFailed as failed:
        context.output.line(f"{failed.resource.to_dict()['id']}\tfailed\t{failed.code}", failed.resource.to_dict())
        raise
    context.output.line(f"{payment.id}\t{payment.status}\t{payment.money}", payment.to_dict())


def _minor(text: str, currency: str) -> int:
    try:
        amount = Decimal(text).scaleb(Money(0, currency).exponent)
    except InvalidOperation:
        raise Usage(f"{text!r} is no amount") from None
    if amount != amount.to_integral_value():
        raise Usage(f"{currency} has no fractions as small as in {text}")
    return int(amount)


def follow_job(context: Context) -> None:
    last = None
    for last in context.dues.jobs.follow(context.options.id):
        context.output.progress(last)
    job = last or context.dues.jobs.get(context.options.id)
    context.output.line(f"{job.id}\t{job.kind}\t{job.status}", job.to_dict())


def make_report(context: Context) -> None:
    options, now = context.options, datetime.now(timezone.utc)
    begin = _moment(options.begin) or now - timedelta(days=31)
    started = context.dues.reports.create(
        context.store, kind=options.kind, format=options.format, from_=begin, to=_moment(options.end) or now
    )
    report = started.wait(timeout=86_400, on_progress=context.output.progress)
    download = context.dues.reports.download(context.store, report.id)
    if options.output == "-":
        for piece in download:
            sys.stdout.buffer.write(piece)
        return
    path = download.save(options.output or f"{options.kind}-{report.id}.{options.format}")
    print(f"{path}\t{report.rows} rows\t{report.bytes} bytes")


def make_import(context: Context) -> None:
    options = context.options
    started = context.dues.imports.create(
        context.store,
        content=Path(options.file).read_bytes(),
        content_type="text/csv" if options.file.endswith(".csv") else "application/x-ndjson",
        kind=options.kind,
    )
    one = started.resource
    if options.wait:
        one = started.wait(timeout=86_400, on_progress=context.output.progress)
    told = f"{one.created} created\t{one.updated} updated\t{one.unchanged} unchanged\t{one.refused} refused"
    context.output.line(f"{one.id}\t{one.status}" + (f"\t{told}" if options.wait else ""), one.to_dict())
    if options.wait and one.refused:
        path = options.output or f"refused-{one.id}.csv"
        context.dues.imports.download(context.store, one.id).save(path)
        raise Refused(f"{one.refused} rows were refused, and {path} says why")


def _moment(text: str | None) -> datetime | None:
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        raise Usage(f"{text!r} is no day and no time: 2026-11-20, or 2026-11-20T14:39:00+00:00") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)


def _newest(context: Context) -> list[Event]:
    return context.dues.webhooks.list_events(context.store, sort="-seq").to_list(limit=_LAST)


def show_events(context: Context) -> None:
    after, follow = context.options.after, context.options.follow
    if after is None:
        newest = _newest(context)
        after = newest[-1].seq - 1 if newest else 0
    for event in tail(context.dues, context.store, after, follow=follow):
        data = event.to_dict()["data"]
        line = f"{event.seq}\t{event.timestamp:%Y-%m-%d %H:%M:%S}\t{event.type}\t{data.get('id', '')}"
        context.output.line(line, event.to_dict())


def listen(context: Context) -> None:
    after = context.options.after
    if after is None:
        newest = _newest(context)
        after = newest[0].seq if newest else 0
    secret = new_secret()
    print(f"signing with {secret}", flush=True)
    wanted = set(context.options.events.split(","))
    with Forwarder(context.options.forward, secret) as forwarder:
        for event in tail(context.dues, context.store, after, follow=True):
            if "*" in wanted or event.type in wanted:
                print(f"{event.seq}\t{event.type}\t{forwarder.send(event)}", flush=True)
