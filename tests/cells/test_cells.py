"""What clients see of cells under one name, through the gateway."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest

from dues.cells import places
from dues.cells.calls import call_cell
from dues.ids import new_id
from dues.mailings.unsubscribing import NO_MAILING, Reader, write_token
from dues.postgres import transaction
from dues.webhooks.signing import signature
from tests.cells.conftest import MAIL_SECRET, Client, Name, ask, under_one_name
from tests.servers import wait_until

PACKAGE = {"name": "Gold", "amount": 1200, "currency": "EUR", "interval": "month"}


def test_stores_in_both_cells_are_served_under_one_name(name: Name):
    ada, bob = name.client_of("a"), name.client_of("b")
    for store in (ada.store, bob.store):
        for client in (ada, bob):
            answer = client.pay(store)
            assert answer.status == 202, answer
            name.cells[store.cell].work()
            job = client.ask("GET", answer.headers["location"])
            assert (job.status, job.body["status"]) == (200, "succeeded")
            found = client.ask("GET", f"{store.path}/payments/{answer.body['id']}")
            assert (found.status, found.body["status"]) == (200, "succeeded")
        assert name.cells[store.cell].make.value("select count(*) from payments") == 2
        assert name.ask("GET", store.path).status == 200
        assert name.ask("GET", f"{store.path}/payments").status == 401
    assert name.directory.make.value("select count(*) from payments") == 0


def test_a_revoked_token_opens_nothing_in_any_cell(name: Name):
    ada, bob = name.client_of("a"), name.client_of("b")
    stores = (ada.store, bob.store)
    other = Client(name, ada.id, ada.email, *_log_in(name, ada))
    assert [other.ask("GET", f"{store.path}/payments").status for store in stores] == [200, 200]
    assert ada.ask("DELETE", f"/v1/tokens/{other.token_id}").status == 204
    assert [other.ask("GET", f"{store.path}/payments").status for store in stores] == [401, 401]
    assert [other.pay(store).status for store in stores] == [401, 401]
    assert [ada.ask("GET", f"{store.path}/payments").status for store in stores] == [200, 200]
    # A new password ends all others.
    fresh = Client(name, ada.id, ada.email, *_log_in(name, ada))
    change = {"password": "another long passphrase", "current_password": "a long enough passphrase"}
    assert fresh.ask("PATCH", "/v1/me", change).status == 200
    assert [ada.ask("GET", f"{store.path}/payments").status for store in stores] == [401, 401]
    assert [fresh.ask("GET", f"{store.path}/payments").status for store in stores] == [200, 200]


def test_a_client_waits_for_a_job_in_its_cell_as_long_as_its_token_holds(name: Name):
    ada = name.client_of("a")
    other = Client(name, ada.id, ada.email, *_log_in(name, ada))
    location = other.pay(ada.store).headers["location"]
    seen = {"If-None-Match": other.ask("GET", location).headers["etag"]}
    # The second time the cell remembers who this is.
    for _ in range(2):
        answer = other.ask("GET", location, **seen, Prefer="wait=1")
        assert (answer.status, answer.headers.get("preference-applied")) == (304, "wait=1")
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(other.ask, "GET", location, **seen, Prefer="wait=20")
        assert ada.ask("DELETE", f"/v1/tokens/{other.token_id}").status == 204
        name.directory.work()
        name.cells["a"].work()
        assert held.result().status == 401
    assert other.ask("GET", location, **seen, Prefer="wait=20").status == 401
    assert ada.ask("GET", location).body["status"] == "succeeded"


def test_cells_hear_of_changes_of_accounts(name: Name):
    ada, bob = name.client_of("a"), name.client_of("b")
    assert bob.pay(ada.store).status == 202
    cell = name.cells["a"]
    address = {"line1": "1 Main Street", "city": "Berlin", "country": "DE", "is_default": True}
    assert bob.ask("POST", "/v1/me/addresses", address).status == 201
    assert bob.ask("PATCH", "/v1/me", {"name": "Bob Dylan"}).status == 200
    customer = f"{ada.store.path}/payments?include=user"
    assert ada.ask("GET", customer).body["data"][0]["user"]["name"] == "Ada"
    name.directory.work()
    assert ada.ask("GET", customer).body["data"][0]["user"]["name"] == "Bob Dylan"
    row = cell.make.rows("select * from addresses")
    assert [(str(found.user_id), found.line1, found.is_default) for found in row] == [(bob.id, "1 Main Street", True)]
    found = bob.ask("GET", "/v1/me/addresses").body["data"][0]
    assert bob.ask("DELETE", found["links"]["self"]).status == 204
    name.directory.work()
    assert cell.make.rows("select * from addresses") == []
    # One who came after the change brings it along.
    assert bob.ask("POST", "/v1/me/addresses", address).status == 201
    assert bob.pay(ada.store).status == 202
    assert cell.make.value("select count(*) from addresses") == 1


def test_two_users_may_exchange_their_addresses(name: Name):
    ada, bob = name.client_of("a"), name.sign_up()
    for user in (ada, bob):
        assert user.pay(ada.store).status == 202
    password = {"current_password": "a long enough passphrase"}
    for user, email in ((ada, "between@example.com"), (bob, ada.email), (ada, bob.email)):
        assert user.ask("PATCH", "/v1/me", {"email": email, **password}).status == 200
    assert bob.pay(ada.store).status == 202
    name.directory.work()
    found = name.cells["a"].make.rows("select id::text, email from users")
    assert {row.id: row.email for row in found} == {ada.id: bob.email, bob.id: ada.email}


def test_a_store_appoints_somebody_whom_its_cell_has_never_met(name: Name):
    ada, bob = name.client_of("a"), name.sign_up("Bob")
    staff = f"{ada.store.path}/staff/{bob.id}"
    answer = ada.ask("PUT", staff, {"role": "manager"})
    assert (answer.status, answer.body["name"]) == (200, "Bob")
    assert ada.ask("PUT", f"{ada.store.path}/staff/{new_id()}", {"role": "manager"}).status == 404
    assert bob.ask("POST", f"{ada.store.path}/packages", PACKAGE).status == 201
    assert ada.ask("DELETE", staff).status == 204
    assert bob.ask("POST", f"{ada.store.path}/packages", PACKAGE).status == 403


def test_a_token_may_be_bound_to_a_store_of_a_cell(name: Name):
    ada, bob = name.client_of("a"), name.client_of("b")
    new = {"name": "till", "scopes": ["payments:read"], "store_id": ada.store.id}
    answer = ada.ask("POST", "/v1/tokens", new)
    assert answer.status == 201, answer
    till = Client(name, ada.id, ada.email, answer.body["token"], answer.body["id"])
    assert till.ask("GET", f"{ada.store.path}/payments").status == 200
    assert till.ask("GET", f"{bob.store.path}/payments").status == 403
    assert till.ask("POST", "/v1/stores", {"name": "Club", "currency": "EUR"}).status == 403
    assert ada.ask("POST", "/v1/tokens", new | {"store_id": str(new_id())}).status == 422


def test_a_store_is_made_once_however_often_it_is_asked_for(name: Name):
    ada, key = name.sign_up(), {"Idempotency-Key": new_id().hex}
    assert ada.ask("POST", "/v1/stores", {"name": ""}, **key).status == 422
    first, again = ada.found(**key), ada.found(**key)
    assert first == again
    assert ada.found() != first
    assert ada.ask("POST", "/v1/stores", {"name": "Another", "currency": "EUR"}, **key).status == 422
    made = sum(stack.make.value("select count(*) from stores") for stack in name.stacks)
    assert made == 2


def test_a_key_is_forgotten_a_day_after_its_store_was_made_however_often_it_comes(name: Name):
    ada, make, key = name.sign_up(), name.directory.make, {"Idempotency-Key": new_id().hex}
    first = ada.found(**key)
    make.rows("update store_places set made_at = now(), asked_at = now() - interval '26 hours'")
    assert ada.found(**key) == first
    with name.directory.app.app_context(), transaction():
        assert places.forget_keys() == 1


def test_what_was_never_made_is_forgotten(name: Name):
    ada = name.sign_up()
    assert ada.ask("POST", "/v1/stores", {"name": ""}).status == 422
    store, make = ada.store, name.directory.make
    count = "select count(*) from store_places"
    with name.directory.app.app_context():
        assert (places.forget_unmade(call_cell), make.value(count)) == (0, 2)
        make.rows("update store_places set asked_at = now() - interval '2 hours'")
        assert (places.forget_unmade(call_cell), make.value(count)) == (1, 1)
        assert places.forget_unmade(call_cell) == 0
    assert make.value("select made_at is not null from store_places where store_id = %(id)s", {"id": store.id})
    assert ada.ask("GET", store.path).status == 200


def test_no_list_over_all_stores_is_shown_in_part(name: Name):
    ada = name.sign_up()
    for path in ("/v1/stores", "/v1/me/payments", "/v1/posts", "/v1/jobs", "/v1/sync?x=1", "/v1/me?include=payments"):
        answer = ada.ask("GET", path)
        assert (path, answer.status, answer.body["code"]) == (path, 501, "unsupported")


def test_a_store_of_the_directory_itself_is_served_as_ever(name: Name):
    ada, make = name.sign_up(), name.directory.make
    store = make.store(owner=make.rows("select * from users where id = %(id)s", {"id": ada.id})[0])
    answer = ada.ask("POST", f"/v1/stores/{store.id}/packages", PACKAGE)
    assert answer.status == 201, answer
    paid = ada.ask(
        "POST",
        f"/v1/stores/{store.id}/payments",
        {"package_id": answer.body["id"], "payment_method": "sandbox_ok"},
        **{"Idempotency-Key": "1"},
    )
    assert paid.status == 202
    assert ada.ask("GET", paid.headers["location"]).status == 200


def test_a_cell_that_is_away_takes_no_other_with_it(name: Name):
    ada, bob = name.client_of("a"), name.client_of("b")
    job = bob.pay(bob.store).headers["location"]
    with name.cells["a"].away():
        assert bob.pay(bob.store).status == 202
        assert bob.ask("GET", job).status == 200
        # Nobody can say that there is no such job.
        assert bob.ask("GET", f"/v1/jobs/{new_id()}").status == 503
        # Caddy says so of a connection that it had open.
        assert ask(name.port, "GET", f"{ada.store.path}/payments", **ada.auth).status in (502, 503)
    # It is left alone for a moment after it has failed.
    wait_until(lambda: bob.ask("GET", f"/v1/jobs/{new_id()}").status == 404, what="an answer of all cells")


def test_a_link_to_unsubscribe_leads_to_the_cell(name: Name):
    ada = name.client_of("a")
    assert ada.pay(ada.store).status == 202
    with name.directory.app.app_context():
        link = f"/v1/unsubscribe?token={write_token(Reader(UUID(ada.store.id), UUID(ada.id), NO_MAILING))}"
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    for _ in range(2):
        assert name.raw("POST", link, [b"List-Unsubscribe=One-Click"], form)[0] == 200
    assert name.cells["a"].make.value("select count(*) from mail_suppressions") == 1
    assert name.raw("GET", link[:-2], [], {})[0] == 404


def test_the_directory_passes_on_to_each_cell_what_became_of_its_mails(name: Name):
    body = json.dumps({"events": [{"type": "bounced", "message_id": str(new_id())}]}).encode()
    at = str(int(time.time()))
    signed = {"webhook-id": "1", "webhook-timestamp": at, "webhook-signature": signature(MAIL_SECRET, "1", at, body)}
    fields = signed | {"Content-Type": "application/json"}
    assert name.raw("POST", "/v1/mail-events", [body], fields)[0] == 204
    name.directory.work()
    find = "select args ->> 'address' as address, status from jobs where kind = 'mailing.report_elsewhere' order by 1"
    told = [(row.address, row.status) for row in name.directory.make.rows(find)]
    assert told == sorted((f"http://127.0.0.1:{cell.port}", "succeeded") for cell in name.cells.values())


def test_a_body_in_chunks_reaches_its_cell(name: Name):
    ada = name.client_of("a")
    body = [b'{"name": "Gold", "amount": 1200,', b' "currency": "EUR", "interval": "month"}']
    fields = ada.auth | {"Content-Type": "application/json"}
    assert name.raw("POST", f"{ada.store.path}/packages", body, fields)[0] == 201


@pytest.mark.slow
def test_flask_alone_does_the_same(worker_id: str):
    with under_one_name(worker_id, "wsgi:app") as name:
        for test in (
            test_stores_in_both_cells_are_served_under_one_name,
            test_a_revoked_token_opens_nothing_in_any_cell,
            test_a_store_appoints_somebody_whom_its_cell_has_never_met,
            test_a_store_is_made_once_however_often_it_is_asked_for,
            test_no_list_over_all_stores_is_shown_in_part,
        ):
            for stack in name.stacks:
                stack.servers.clean()
            test(name)


def _log_in(name: Name, client: Client) -> tuple[str, str]:
    answer = name.ask("POST", "/v1/tokens", {"email": client.email, "password": "a long enough passphrase"})
    assert answer.status == 201
    return answer.body["token"], answer.body["id"]
