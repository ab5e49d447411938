"""A store moves to another Dues whole or not at all, and is in one of them at any moment."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import psycopg2
import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from dues.accounts.passwords import NOBODY
from dues.billing.audit import audit
from dues.failpoints import Armed, FailpointReached
from dues.ids import new_id
from dues.mailings.unsubscribing import Reader, write_token
from dues.moves.departure import InDoubt
from dues.moves.states import Overtaken
from dues.moves.wire import Lost, Refused, Wire
from dues.reports.files import file_store
from tests.billing.conftest import Club
from tests.contention import Contention
from tests.moves.conftest import ADDRESS, PAYMENT, End, add_gateway
from tests.payments.conftest import Work
from tests.servers import Mailbox

Document = dict[str, Any]
LISTS = "payments customers subscriptions invoices reports imports webhook-endpoints posts staff packages".split()


def shown(answer: TestResponse) -> Document:
    assert answer.json is not None
    found: Document = answer.json
    return found


def test_all_of_a_store_moves(club: Club, here: End, elsewhere: End) -> None:
    before = here.contents(club.store)
    assert [name for name, rows in before.items() if not rows] == [], "arrange a row of it in the fixture"
    reads = [f"{club.path}/{name}" for name in LISTS]
    answers = [club.client.get(path, headers=club.owner_auth).get_data() for path in reads]
    assert here.move(club.store, elsewhere) == ADDRESS

    assert elsewhere.contents(club.store) == before
    assert not any(here.contents(club.store).values())
    assert here.make.value("select count(*) from api_tokens where store_id is not null") == 0
    with elsewhere.app.app_context():
        assert audit() == []
        keys = elsewhere.make.rows("select file_key from reports union all select file_key from imports")
        assert [file_store().size(row.file_key) is not None for row in keys] == [True, True]
    with here.app.app_context():
        assert [file_store().size(row.file_key) for row in keys] == [None, None]
    # Whoever has an account there sees what was seen here.
    auth, client = elsewhere.make.auth(club.owner), elsewhere.app.test_client()
    there = [client.get(path, headers=auth).get_data() for path in reads]
    assert all(b'"data"' in answer for answer in answers)
    assert there == answers
    # And back again.
    assert elsewhere.move(club.store, here) == "http://127.0.0.1:8000"
    assert here.contents(club.store) == before
    assert shown(elsewhere.app.test_client().get(club.path))["address"] == "http://127.0.0.1:8000"
    headers = {**club.owner_auth, "Idempotency-Key": new_id().hex}
    assert club.client.post(f"{club.path}/payments", json=PAYMENT, headers=headers).status_code == 202
    club.work.drain()


def test_where_a_store_has_left_all_say_where_it_is(shop: Club, here: End, elsewhere: End) -> None:
    mine = "/v1/me/payments"
    assert shown(shop.client.get(mine, headers=shop.owner_auth))["data"]
    here.move(shop.store, elsewhere)
    post = {"json": PAYMENT, "headers": {**shop.owner_auth, "Idempotency-Key": "1"}}
    for answer in (
        shop.client.get(shop.path),
        shop.client.get(f"{shop.path}/payments", headers=shop.owner_auth),
        shop.client.post(f"{shop.path}/payments", **post),
    ):
        assert (answer.status_code, shown(answer)["code"], shown(answer)["address"]) == (421, "store_moved", ADDRESS)
    # Nothing of it is left in what spans stores.
    assert shown(shop.client.get(mine, headers=shop.owner_auth))["data"] == []
    with here.app.app_context():
        token = write_token(Reader(shop.store.id, shop.owner.id, new_id()))
    link = shop.client.get(f"/v1/unsubscribe?token={token}")
    assert (link.status_code, link.headers["Location"]) == (308, f"{ADDRESS}/v1/unsubscribe?token={token}")
    assert elsewhere.app.test_client().get(f"/v1/unsubscribe?token={token}").status_code == 200
    with pytest.raises(Refused, match=f"moved to {ADDRESS} already"):
        here.move(shop.store, elsewhere)
    assert here.make.value("select count(*) from pg_trigger where tgname like 'moving_%%'") == 0


def test_a_token_that_is_issued_as_its_store_leaves_goes_with_it(
    shop: Club, here: End, elsewhere: End, contention: Contention
) -> None:
    # As dues/accounts/tokens.py does, which keeps the store until the commit.
    issue = """
        with kept as (select id from stores where id = %(store_id)s for key share)
        insert into api_tokens(id, user_id, store_id, name, token_hash, scopes, expires_at)
        select %(id)s, %(user_id)s, kept.id, 'x', '\\x01', '{}', now() + interval '1 day' from kept
    """
    values = {"id": str(new_id()), "user_id": str(shop.owner.id), "store_id": str(shop.store.id)}
    with contention.held(issue, **values):
        (moved,) = contention.start(lambda: here.move(shop.store, elsewhere))
    assert moved.result() == ADDRESS
    assert here.make.value("select count(*) from api_tokens where store_id is not null") == 0


def test_people_are_known_by_their_ids_and_bring_no_password(shop: Club, here: End, elsewhere: End) -> None:
    known = elsewhere.make.user(id=shop.owner.id, email="olga@new.example", name="Olga There")
    new, stranger = here.make.user(), here.make.user()
    here.make.staff(shop.store, new)
    here.move(shop.store, elsewhere)
    find = "select * from users where id = %(id)s"
    (arrived,) = elsewhere.make.rows(find, {"id": new.id})
    assert (arrived.email, arrived.name) == (new.email, new.name)
    assert arrived.password_hash == NOBODY != new.password_hash
    assert elsewhere.make.rows(find, {"id": shop.owner.id}) == [known]
    assert elsewhere.make.rows(find, {"id": stranger.id}) == []
    assert elsewhere.make.value("select count(*) from api_tokens") == 0


def test_a_payment_that_waits_is_charged_once_where_its_store_is(
    shop: Club, here: End, elsewhere: End, client: FlaskClient, work: Work, mailbox: Mailbox
) -> None:
    headers = {**shop.owner_auth, "Idempotency-Key": "twice"}
    asked = client.post(f"{shop.path}/payments", json=PAYMENT, headers=headers)
    other = here.make.store(shop.owner)
    waiting = client.post(f"/v1/stores/{other.id}/payments", json=PAYMENT, headers={**headers, "Idempotency-Key": "o"})
    assert (asked.status_code, waiting.status_code) == (202, 202)
    here.move(shop.store, elsewhere)
    work.drain()
    amounts = "select kind, amount, outcome from sandbox_gateway.operations where key = %(key)s"
    assert here.make.rows(amounts, {"key": shown(asked)["id"]}) == []
    assert len(here.make.rows(amounts, {"key": shown(waiting)["id"]})) == 1
    there = elsewhere.app.test_client()
    auth = {**elsewhere.make.auth(shop.owner), "Idempotency-Key": "twice"}
    again = there.post(f"{shop.path}/payments", json=PAYMENT, headers=auth)
    assert (again.status_code, again.headers["Idempotency-Replayed"]) == (202, "true")
    assert shown(again)["id"] == shown(asked)["id"]
    Work(elsewhere.app, elsewhere.make).drain()
    assert len(elsewhere.make.rows(amounts, {"key": shown(asked)["id"]})) == 1
    assert shown(there.get(shown(asked)["links"]["self"], headers=auth))["status"] == "succeeded"


def test_nothing_is_written_for_a_store_while_it_is_copied_and_all_can_be_read(
    shop: Club, here: End, elsewhere: End, client: FlaskClient
) -> None:
    other, seen = here.make.store(shop.owner), list[object]()

    def pay(store_id: object) -> Any:
        headers = {**shop.owner_auth, "Idempotency-Key": new_id().hex}
        return client.post(f"/v1/stores/{store_id}/payments", json=PAYMENT, headers=headers)

    def during(line: str) -> None:
        if "takes no writes" not in line:
            return
        refused = pay(shop.store.id)
        seen.append((refused.status_code, refused.headers.get("Retry-After") is not None))
        seen.append(
            (pay(other.id).status_code, client.get(f"{shop.path}/payments", headers=shop.owner_auth).status_code)
        )
        post = here.make.value("select id from posts")
        for write in (
            "update packages set name = 'x' where store_id = %(store)s",
            "delete from store_staff where store_id = %(store)s",
            "insert into comments(post_id, id, author_id, body) values (%(post)s, gen_random_uuid(), %(owner)s, 'x')",
            "update jobs set cancel_requested_at = now() where store_id = %(store)s",
        ):
            with pytest.raises(psycopg2.Error) as error:
                here.make.rows(write, {"store": shop.store.id, "post": post, "owner": shop.owner.id})
            seen.append(error.value.pgcode)
        # Those who look after all stores' rows at once go on.
        here.make.rows("update jobs set due = true where store_id = %(store)s", {"store": shop.store.id})
        here.make.rows("update users set name = 'Renamed' where id = %(owner)s", {"owner": shop.owner.id})

    here.hear = during
    here.move(shop.store, elsewhere)
    assert seen == [(503, True), (202, 200), *["DU503"] * 4]


def clash(shop: Club, elsewhere: End) -> None:
    elsewhere.make.user(email=shop.owner.email)


def unbalanced(shop: Club, elsewhere: End) -> None:
    shop.make.rows("update payments set amount = amount + 1")


def running(shop: Club, elsewhere: End) -> None:
    shop.make.rows(
        "insert into jobs(id, kind, queue, args, store_id, run_at, max_attempts, timeout_s, status, lease_token,"
        " lease_until) values (gen_random_uuid(), 'payment.charge', 'critical', '{}', %(id)s, now(), 9, 60, 'running',"
        " gen_random_uuid(), now() + interval '1 hour')",
        {"id": shop.store.id},
    )


@pytest.mark.parametrize(
    ("arrange", "why"),
    [
        (lambda shop, there: there.make.store(slug=shop.store.slug), "the slug .* is taken here"),
        (lambda shop, there: there.make.store(id=shop.store.id), "the store is here already"),
        (clash, "1 people of the store have an account of another id here"),
        (unbalanced, "the books of the store are not clean: payment"),
        (running, "1 jobs of the store still run after"),
    ],
)
def test_a_store_that_cannot_arrive_goes_on_where_it_is(
    shop: Club, here: End, elsewhere: End, arrange: Callable[[Club, End], object], why: str
) -> None:
    arrange(shop, elsewhere)
    before, there = here.contents(shop.store), elsewhere.contents(shop.store)
    with pytest.raises(Refused, match=why):
        here.move(shop.store, elsewhere, longest_wait_s=0.05)
    assert here.contents(shop.store) == before
    assert here.is_untouched(shop.store)
    assert elsewhere.contents(shop.store) == there


def test_both_ends_have_the_same_keys(shop: Club, here: End, elsewhere: End, monkeypatch: pytest.MonkeyPatch) -> None:
    add_gateway(shop, shop.owner)
    for changes, why in (
        ({"secret_key": "another key, which is as long as it has to be"}, "SECRET_KEY is another one"),
        ({"secrets_keys": ""}, "encrypted with a key that is not among SECRETS_KEYS"),
    ):
        monkeypatch.setitem(elsewhere.app.extensions, "settings", elsewhere.servers.settings(**changes))
        assert why in here.refusal(shop.store, elsewhere)
        assert here.is_untouched(shop.store)


def test_a_table_that_nobody_knows_keeps_stores_where_they_are(shop: Club, here: End, elsewhere: End) -> None:
    here.make.rows("create table coupons(store_id uuid)")
    try:
        with pytest.raises(Refused, match="does not know how to move the rows of coupons"):
            here.move(shop.store, elsewhere)
    finally:
        here.make.rows("drop table coupons")


class Losing(Wire):
    """Breaks as one of these words is said, or heard."""

    def __init__(self, wire: Wire, words: Iterable[str]) -> None:
        super().__init__(wire._source, wire._sink)
        self._words = set(words)

    def tell(self, word: str, **facts: Any) -> None:
        if word in self._words:
            raise Lost("the wire is cut")
        super().tell(word, **facts)

    def hear(self, *words: str) -> dict[str, Any]:
        found = super().hear(*words)
        if self._words & set(words):
            raise Lost("the wire is cut")
        return found


def test_a_wire_that_is_cut_leaves_the_store_in_one_place(shop: Club, here: End, elsewhere: End) -> None:
    before, nothing = here.contents(shop.store), elsewhere.contents(shop.store)
    assert not any(nothing.values())
    for word in ("verified", "commit"):
        elsewhere.wrap = partial(Losing, words=[word])
        assert (word, bool(here.refusal(shop.store, elsewhere))) == (word, True)
        assert (word, here.is_untouched(shop.store)) == (word, True)
        assert (word, here.contents(shop.store), elsewhere.contents(shop.store)) == (word, before, nothing)
    elsewhere.wrap = partial(Losing, words=["arrived"])
    assert here.move(shop.store, elsewhere) == ADDRESS
    assert (here.contents(shop.store), elsewhere.contents(shop.store)) == (nothing, before)


@pytest.mark.parametrize(
    "line",
    [
        pytest.param("move.before_switch", marks=pytest.mark.slow),
        pytest.param("move.after_switch", marks=pytest.mark.slow),
        "move.after_commit",
        "move.before_removal",
    ],
)
def test_a_move_that_dies_is_finished_when_it_is_run_again(
    shop: Club, here: End, elsewhere: End, monkeypatch: pytest.MonkeyPatch, tmp_path: Any, line: str
) -> None:
    before = here.contents(shop.store)
    monkeypatch.setattr("dues.failpoints._armed", {line: Armed("raise", f"{tmp_path}/marker")})
    # A process that dies tidies nothing up.
    monkeypatch.setattr("dues.moves.departure._give_up", lambda *_: None)
    with pytest.raises(FailpointReached):
        here.move(shop.store, elsewhere)
    monkeypatch.undo()
    if line != "move.before_switch":
        # Neither here nor there, as far as anybody is told.
        answers = shop.client.get(shop.path), shop.client.get(f"{shop.path}/payments", headers=shop.owner_auth)
        assert [answer.status_code for answer in answers] == [503, 503]
    assert here.move(shop.store, elsewhere) == ADDRESS
    assert elsewhere.contents(shop.store) == before
    assert not any(here.contents(shop.store).values())


def test_whoever_was_taken_for_dead_leaves_the_move_of_another_alone(shop: Club, here: End, elsewhere: End) -> None:
    def overtake(line: str) -> None:
        if "books are clean" in line:
            here.make.rows("update store_moves set id = gen_random_uuid()")

    here.hear = overtake
    with pytest.raises(Overtaken):
        here.move(shop.store, elsewhere)
    assert here.make.value("select state from store_moves") == "copying"
    assert not here.is_untouched(shop.store)
    here.hear = lambda line: None
    assert here.move(shop.store, elsewhere) == ADDRESS


def test_a_store_in_doubt_is_shown_nowhere_until_the_other_end_is_asked(
    shop: Club, here: End, elsewhere: End, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere.wrap = partial(Losing, words=["arrived", "ask"])
    with pytest.raises(InDoubt, match="neither here nor there"):
        here.move(shop.store, elsewhere)
    assert shop.client.get(shop.path).status_code == 503
    elsewhere.wrap = lambda wire: wire
    assert here.move(shop.store, elsewhere) == ADDRESS
