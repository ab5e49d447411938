"""For whom a batch is imported."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias
from uuid import UUID

import ujson

from dues.imports.rows import Kind, Refusal
from dues.payments.gateways import Chosen
from dues.postgres import fetch_row

# By the row's external id: the id of what there is now, or why there is nothing.
Outcomes: TypeAlias = Mapping[str, UUID | Refusal]

_KNOWN = """
    select coalesce(json_object_agg(external_id, json_build_array(row_id, encode(digest, 'hex'))), '{}')::text
    from external_ids where store_id = %(store_id)s and kind = %(kind)s
        and external_id in (select jsonb_array_elements_text(%(external_ids)s::jsonb))
"""


@dataclass(frozen=True, slots=True)
class Importer:
    """The store, as it is when a batch begins: `at` is its time, `currencies` those that it takes, `gateway` what
    charges in it. `actor_id` asked for the import."""

    store_id: UUID
    actor_id: UUID
    at: datetime
    timezone: str
    currencies: frozenset[str]
    test: bool
    gateway: Chosen


def known_rows(store_id: UUID, kind: Kind, external_ids: list[str]) -> dict[str, tuple[UUID, bytes]]:
    """What was imported under these names before: the rows' ids, and the digests of what was said of them."""
    values = {"store_id": store_id, "kind": kind, "external_ids": ujson.dumps(external_ids, ensure_ascii=False)}
    (found,) = fetch_row(_KNOWN, values) or ("{}",)
    return {
        external_id: (UUID(row_id), bytes.fromhex(digest))
        for external_id, (row_id, digest) in ujson.loads(found).items()
    }
