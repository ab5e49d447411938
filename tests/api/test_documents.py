"""Documents over HTTP: who finds which, and how they are downloaded. How they come to be is in tests/payments."""

from types import SimpleNamespace as Row

import pytest

from dues.ids import new_id
from tests.factory import Factory


@pytest.fixture
def store(make: Factory) -> Row:
    return make.store(make.user(name="Olga Owner"))


@pytest.fixture
def owner(make: Factory, store: Row) -> dict[str, str]:
    return make.auth(make.rows("select * from users where id = %(id)s", {"id": store.owner_id})[0])


def receipt(make: Factory, store: Row, user: Row, **columns: object) -> Row:
    payment = make.payment(store, user)
    return make.document(store, user, payment_id=payment.id, subject_id=payment.id, **columns)


def test_a_document_is_found_by_the_number_that_is_read_out_on_the_telephone(client, make: Factory, store, owner):
    user = make.user()
    wanted = receipt(make, store, user, number="KES-R-000123")
    receipt(make, store, user, number="KES-R-000124")
    found = client.get(f"/v1/stores/{store.id}/documents?number=KES-R-000123", headers=owner).json["data"]
    assert [(each["id"], each["payment_id"]) for each in found] == [(str(wanted.id), str(wanted.payment_id))]
    assert found[0]["links"]["file"] == f"/v1/stores/{store.id}/payments/{wanted.payment_id}/receipt"


@pytest.mark.parametrize(
    "query", ["kind=receipt", "payment_id={payment}", "user_id={user}", "created_at[gte]=2020-01-01T00:00:00Z"]
)
def test_documents_are_filtered(client, make: Factory, store, owner, query: str):
    user = make.user()
    document = receipt(make, store, user)
    receipt(make, store, make.user(), kind="refund", created_at="2019-01-01")
    filters = query.format(payment=document.payment_id, user=user.id)
    found = client.get(f"/v1/stores/{store.id}/documents?{filters}", headers=owner).json["data"]
    assert [each["id"] for each in found] == [str(document.id)]


def test_a_payer_finds_their_own(client, make: Factory, store):
    user = make.user()
    mine, _ = receipt(make, store, user), receipt(make, store, make.user())
    found = client.get(f"/v1/stores/{store.id}/documents", headers=make.auth(user)).json["data"]
    assert [each["id"] for each in found] == [str(mine.id)]


def test_one_whose_file_is_not_made_yet_is_not_there(client, make: Factory, store, owner):
    document = receipt(make, store, make.user(), content=None, sha256=None, bytes=None)
    assert client.get(f"/v1/stores/{store.id}/documents", headers=owner).json["data"] == []
    answer = client.get(f"/v1/stores/{store.id}/payments/{document.payment_id}/receipt", headers=owner)
    assert (answer.status_code, answer.json["code"]) == (404, "not_issued")


def test_a_file_that_one_has_is_not_sent_again(client, make: Factory, store, owner):
    document = receipt(make, store, make.user())
    path = f"/v1/stores/{store.id}/payments/{document.payment_id}/receipt"
    answer = client.get(path, headers=owner)
    assert answer.data == bytes(document.content)
    assert answer.headers["Cache-Control"] == "private, no-cache"
    again = client.get(path, headers=owner | {"If-None-Match": answer.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")


def test_anothers_is_as_one_that_is_not_there(client, make: Factory, store):
    document = receipt(make, store, make.user())
    stranger = make.auth(make.user())
    answers = [
        client.get(f"/v1/stores/{store.id}/payments/{payment_id}/receipt", headers=stranger)
        for payment_id in (document.payment_id, new_id())
    ]
    known = [{name: answer.json[name] for name in ("status", "code", "detail")} for answer in answers]
    assert known[0] == known[1]
    assert known[0]["status"] == 404


def test_the_document_of_a_refund_is_found_below_its_own_payment_only(client, make: Factory, store, owner):
    user = make.user()
    payment, other = make.payment(store, user), make.payment(store, user)
    refund = make.refund(payment)
    make.document(store, user, kind="refund", payment_id=payment.id, subject_id=refund.id)
    path = f"/v1/stores/{store.id}/payments/{{}}/refunds/{refund.id}/receipt"
    assert client.get(path.format(payment.id), headers=owner).status_code == 200
    assert client.get(path.format(other.id), headers=owner).status_code == 404


def test_a_receipt_that_is_not_issued_cannot_be_sent(client, make: Factory, store):
    user = make.user()
    payment = make.payment(store, user, status="failed")
    path = f"/v1/stores/{store.id}/payments/{payment.id}/receipt/deliveries"
    answer = client.post(path, headers=make.auth(user))
    assert (answer.status_code, answer.json["code"]) == (404, "not_issued")


def test_a_list_is_one_statement(client, make: Factory, store, owner, queries):
    for _ in range(3):
        receipt(make, store, make.user())
    client.get(f"/v1/stores/{store.id}/staff", headers=owner)
    with queries() as seen:
        client.get(f"/v1/stores/{store.id}/documents", headers=owner)
    # Whose token it is may not be kept yet.
    assert len([statement for statement in seen if "token_hash" not in statement]) == 1, seen
