"""The directory's answer to the gateway: who is calling, and which cell has the store. One statement, which is read
through the cache that is never stale. Where it is not kept a replica is asked that is known to have seen enough, or the
primary. Tokens expire by the primary's clock on both, and that one does not hold is for the primary to say."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple
from uuid import UUID

import ujson

from dues.accounts.tokens import hash_token
from dues.cells.assertion import LONGEST, pack
from dues.cells.places import place_tag
from dues.ids import parse_id
from dues.reads.freshness import Computed
from dues.reads.serve import Row
from dues.reads.tags import token_tag

_ADDRESS = """
    select json_build_object('id', a.id, 'label', a.label, 'line1', a.line1, 'line2', a.line2, 'city', a.city,
        'region', a.region, 'postal_code', a.postal_code, 'country', a.country, 'company', a.company,
        'tax_id', a.tax_id, 'version', a.version)
    from addresses a where a.user_id = u.id and a.is_default
"""
_PERSON = """
    'id', u.id, 'email', u.email, 'email_normal', u.email_normal, 'name', u.name,
    'email_verified_at', u.email_verified_at, 'deleted_at', u.deleted_at, 'version', u.version,
    'created_at', u.created_at
"""
# An account as cells are told of it.
PERSON = f"json_build_object({_PERSON}, 'address', ({_ADDRESS}))"
_QUESTION = f"""
select (select json_build_object('token', json_build_object('id', t.id, 'scopes', t.scopes, 'store_id', t.store_id,
                                     'expires_at', t.expires_at), 'person', {PERSON},
                   'other', (select json_build_object({_PERSON}) from users u
                             where u.id = %(other)s and u.deleted_at is null))::text
        from api_tokens t join users u on u.id = t.user_id and u.deleted_at is null
        where t.token_hash = %(token_hash)s and t.revoked_at is null and t.expires_at > now()),
    (select cell from store_places where store_id = %(store_id)s),
    pg_current_snapshot()::text,
    (select extract(epoch from t.expires_at - now())::float8 from api_tokens t where t.token_hash = %(token_hash)s)
"""
_FOUND_STORES = "catalog:write"
_STORE = re.compile(r"/v1/(?:stores|gateways/stripe)/([0-9a-f-]{36})(?:/.*)?")
_STAFF = re.compile(r"/v1/stores/[0-9a-f-]{36}/staff/([0-9a-f-]{36})")
_JOB = re.compile(r"/v1/jobs/([0-9a-f-]{36})(?:/events)?")


class Asked(NamedTuple):
    """What a request's path names: a store, or a job, whose store has to be found; `founds` a store. `other`: a user
    whom a store may not have met. None of it: it is for the directory itself."""

    store_id: UUID | None = None
    job_id: UUID | None = None
    other: UUID | None = None
    founds: bool = False


def asked_of(method: str, path: str) -> Asked:
    if found := _STORE.fullmatch(path):
        staff = _STAFF.fullmatch(path) if method == "PUT" else None
        return Asked(parse_id(found[1]), other=parse_id(staff[1]) if staff else None)
    if found := _JOB.fullmatch(path):
        return Asked(job_id=parse_id(found[1]))
    return Asked(founds=method == "POST" and path == "/v1/stores")


class Answer(NamedTuple):
    """cell: empty for the directory. facts: as an assertion has them, empty where there is no token, or none that
    holds. user_id: of the caller, who `may_found` stores."""

    cell: str
    facts: str = ""
    user_id: UUID | None = None
    may_found: bool = False


class Question:
    """Who has a token, and where a store is: as a ReadPlan of dues/reads has it."""

    follows = False

    def __init__(self, token: str | None, store_id: UUID | None, other: UUID | None = None) -> None:
        self._token_hash = hash_token(token) if token else None
        self._store_id, self._other = store_id, other
        self.key = f"cells 1 {self._token_hash.hex() if self._token_hash else ''} {store_id} {other}"
        tags = [token_tag(self._token_hash)] if self._token_hash else []
        tags += [place_tag(store_id)] if store_id else []
        tags += [f"user:{other}"] if other else []
        self.tags = tuple(tags)

    def statement(self) -> tuple[str, Mapping[str, object]]:
        ids = {"store_id": self._store_id and str(self._store_id), "other": self._other and str(self._other)}
        return _QUESTION, {"token_hash": self._token_hash, **ids}

    def computed(self, row: Row) -> Computed:
        assert row
        text, cell, snapshot, life_s = row
        found = ujson.loads(text) if text else None
        document = {"cell": cell or "", "facts": "", "user_id": None, "may_found": False}
        if found:
            scopes, bound_to = found["token"]["scopes"], found["token"]["store_id"]
            document |= {
                "facts": _packed(found, text),
                "user_id": found["person"]["id"],
                "may_found": _FOUND_STORES in scopes and bound_to is None,
            }
        # Of a token that does not hold nothing is kept.
        life_s = 0.0 if self._token_hash and not found else life_s
        return Computed(ujson.dumps(document, escape_forward_slashes=False).encode(), snapshot, life_s)


def _packed(found: dict[str, Any], text: str) -> str:
    """The facts as an assertion has them. A line of a header has an end: what does not fit is not told of there."""
    if len(facts := pack(text.encode())) <= LONGEST:
        return facts
    del found["person"]["address"]
    return pack(ujson.dumps(found, ensure_ascii=False, escape_forward_slashes=False).encode())


def read_answer(payload: bytes) -> Answer:
    """What `computed()` has made."""
    found = ujson.loads(payload)
    return Answer(found["cell"], found["facts"], found["user_id"] and UUID(found["user_id"]), found["may_found"])
