"""The rows of a batch, each known to its store by an external id: new ones are made, those that have changed since are
changed, and the same again changes nothing. Part of the caller's transaction.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import ujson

from dues.imports.context import Importer, Outcomes, known_rows
from dues.imports.customers import create_customers, update_customer
from dues.imports.packages import create_packages, update_package
from dues.imports.rows import Kind, Parsed, Refusal
from dues.imports.subscriptions import create_subscriptions, update_subscription
from dues.postgres import run_later
from dues.postgres.constraints import take_turns

_REMEMBER = """
    insert into external_ids(store_id, kind, external_id, row_id, digest)
    select %(store_id)s, %(kind)s, r.external_id, r.row_id, decode(r.digest, 'hex')
    from jsonb_to_recordset(%(rows)s::jsonb) as r(external_id text, row_id uuid, digest text)
    on conflict (store_id, kind, external_id) do update set digest = excluded.digest
"""


@dataclass(frozen=True)
class _Writer:
    create: Callable[[Importer, Sequence[Any]], Outcomes]
    update: Callable[[Importer, UUID, Any], Refusal | None]


_WRITERS: dict[Kind, _Writer] = {
    "customers": _Writer(create_customers, update_customer),
    "packages": _Writer(create_packages, update_package),
    "subscriptions": _Writer(create_subscriptions, update_subscription),
}


@dataclass
class Applied:
    """What became of the rows of a batch."""

    created: int = 0
    updated: int = 0
    unchanged: int = 0
    refused: list[tuple[Parsed, Refusal]] = field(default_factory=list)


def apply(store: Importer, kind: Kind, batch: Sequence[Parsed]) -> Applied:
    """Write a batch, of which no two rows have the same external id."""
    applied = Applied(refused=[(parsed, parsed.row) for parsed in batch if isinstance(parsed.row, Refusal)])
    rows = {parsed.external_id: parsed for parsed in batch if not isinstance(parsed.row, Refusal)}
    if not rows:
        return applied
    take_turns("external_ids", f"{store.store_id} {kind}")
    known, writer = known_rows(store.store_id, kind, list(rows)), _WRITERS[kind]
    outcomes: dict[str, UUID | Refusal] = {}
    if new := [parsed.row for name, parsed in rows.items() if name not in known]:
        outcomes |= writer.create(store, new)
    for name, (row_id, digest) in known.items():
        if digest == rows[name].digest:
            applied.unchanged += 1
        else:
            outcomes[name] = writer.update(store, row_id, rows[name].row) or row_id
    remembered = []
    for name, outcome in outcomes.items():
        if isinstance(outcome, Refusal):
            applied.refused.append((rows[name], outcome))
            continue
        applied.created += name not in known
        applied.updated += name in known
        remembered.append({"external_id": name, "row_id": str(outcome), "digest": rows[name].digest.hex()})
    if remembered:
        text = ujson.dumps(remembered, ensure_ascii=False)
        run_later(_REMEMBER, {"store_id": store.store_id, "kind": kind, "rows": text})
    return applied
