"""Fields and includes: what was asked for and nothing else, in one statement; what is unknown is refused by name."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from api.app import MODULES
from dues.postgres import db
from dues.reads.query import normal_text
from dues.reads.resource import INCLUDED_ROWS

EVERYTHING = "user,package,refunds"


@pytest.fixture
def owner(make):
    return make.user()


@pytest.fixture
def store(make, owner):
    return make.store(owner)


@pytest.fixture
def get(client, make, owner):
    headers = make.auth(owner)

    def get(path: str, expected: int = 200, /, **parameters: Any) -> Any:
        answer = client.get(path, query_string=parameters or None, headers=headers)
        assert answer.status_code == expected, answer.text
        return answer.get_json()

    return get


@pytest.fixture
def payment(make, store):
    package = make.package(store, name="Gold")
    payment = make.payment(store, make.user(name="Ada"), package=package)
    make.refund(payment, amount=100)
    return payment


@pytest.fixture
def path(store):
    return f"/v1/stores/{store.id}/payments"


def test_without_fields_all_are_shown_and_no_include(get, path, payment):
    (item,) = get(path)["data"]
    assert set(item) == {
        "id", "store_id", "user_id", "package_id", "subscription_id", "payment_method_id", "amount", "currency",
        "status", "description", "failure_code", "refunded_amount", "paid_at", "next_action", "dispute", "version",
        "created_at", "updated_at", "links",
    }  # fmt: skip
    assert datetime.fromisoformat(item["created_at"]) == payment.created_at
    assert (item["amount"], item["currency"], item["status"]) == (1500, "EUR", "succeeded")


@pytest.mark.parametrize("single", [False, True])
def test_fields_are_exactly_those_named(get, path, payment, single):
    where = f"{path}/{payment.id}" if single else path
    document = get(where, fields="id,status")
    item = document if single else document["data"][0]
    assert item == {"id": str(payment.id), "status": "succeeded"}


def test_the_order_of_names_does_not_matter(get, path, payment):
    assert (
        get(path, fields="status,id", include="user,package")["data"]
        == (get(path, fields="id,status", include="package,user")["data"])
    )


LISTS = [
    "include=user&include=package&fields=id&fields=user.name&fields=package.name",
    "include[]=user&include[]=package&fields[]=id&fields[]=user.name&fields[]=package.name",
    "include%5B%5D=user&include%5B%5D=package&fields%5b%5d=id,user.name&fields%5b%5d=package.name",
    "include=user,package&fields=id%2Cuser.name&fields=package.name",
    "fields=id&include=user&fields=user.name&include[]=package&fields=package.name&fields=id",
]


@pytest.mark.parametrize("query", LISTS)
@pytest.mark.parametrize("single", [False, True])
def test_lists_of_names_may_be_written_as_clients_write_lists(client, make, owner, path, payment, query, single):
    where, headers = f"{path}/{payment.id}" if single else path, make.auth(owner)
    joined = client.get(f"{where}?include=user,package&fields=id,user.name,package.name", headers=headers)
    split = client.get(f"{where}?{query}", headers=headers)
    assert split.status_code == 200, split.text
    if single:
        assert split.json == joined.json
    else:
        assert split.json["data"] == joined.json["data"]
        # Links have one form, whoever follows them.
        assert "[" not in split.json["links"]["next" if split.json["links"]["next"] else "self"]
        assert split.json["links"]["self"].count("include=") == split.json["links"]["self"].count("fields=") == 1


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("", ""),
        ("page=2&include=a,b", "page=2&include=a,b"),
        ("include=a&page=2&include=b", "include=a,b&page=2"),
        ("include[]=a&sort=x&include%5b%5D=b%2Cc", "include=a,b%2Cc&sort=x"),
        ("fields[]=a", "fields=a"),
        ("fields=a&fields=a", "fields=a,a"),
        ("status[]=a&status[]=b", "status[]=a&status[]=b"),
        ("include&include[]=a", "include&include=a"),
    ],
)
def test_a_query_has_one_normal_form(text: str, normal: str):
    assert normal_text(text) == normal
    assert normal_text(normal) == normal


def test_other_parameters_are_given_once(get, path):
    for query in ("status=failed&status=failed", "sort=amount&sort=amount", "sort[]=amount"):
        assert get(f"{path}?{query}", 400)["code"] == "invalid_parameter"


def test_fields_reach_into_includes(get, path, payment):
    asked = {"include": EVERYTHING, "fields": "id,user.name,package.name,package.amount,refunds.amount"}
    assert get(path, **asked)["data"] == [
        {
            "id": str(payment.id),
            "package": {"name": "Gold", "amount": 1500},
            "refunds": [{"amount": 100}],
            "user": {"name": "Ada"},
        }
    ]


def test_an_include_whose_fields_are_not_named_is_whole(get, path, payment):
    (item,) = get(path, include="user,refunds", fields="id,refunds.id")["data"]
    assert set(item["refunds"][0]) == {"id"}
    assert set(item["user"]) == {"id", "name", "version", "created_at", "updated_at", "links"}
    assert "email" not in item["user"]


def test_a_to_one_include_may_be_null_and_a_to_many_empty(get, make, store, path):
    make.payment(store)
    (item,) = get(path, include=EVERYTHING)["data"]
    assert item["package"] is None
    assert item["refunds"] == []
    assert item["user"]["id"] == item["user_id"]


def test_a_to_many_include_shows_its_newest(get, make, path, store):
    payment = make.payment(store, amount=10_000)
    first = datetime(2026, 1, 1, tzinfo=UTC)
    for number in range(1, INCLUDED_ROWS + 4):
        make.refund(payment, amount=number, created_at=first + timedelta(seconds=number))
    (item,) = get(path, include="refunds", fields="refunds.amount")["data"]
    shown = [refund["amount"] for refund in item["refunds"]]
    assert shown == list(range(INCLUDED_ROWS + 3, 3, -1))
    assert get(f"{path}/{payment.id}")["links"]["refunds"] == f"{path}/{payment.id}/refunds"


@pytest.mark.usefixtures("spread")
def test_includes_nest(get, make, store, owner):
    """The account of who pays: payments, and what hangs on each."""
    package = make.package(store, name="Gold")
    payment = make.payment(store, owner, package=package)
    make.refund(payment, amount=7)
    account = get(
        "/v1/me",
        include="payments.package,payments.refunds",
        fields="name,payments.id,payments.package.name,payments.refunds.amount",
    )
    assert account == {
        "name": owner.name,
        "payments": [{"id": str(payment.id), "package": {"name": "Gold"}, "refunds": [{"amount": 7}]}],
    }


@pytest.mark.usefixtures("spread")
@pytest.mark.parametrize("page", [{"per_page": 1, "total": "exact"}, {"limit": 1}], ids=["numbered", "cursor"])
def test_rows_of_several_stores_are_one_list(get, make, owner, page):
    others = [make.store() for _ in range(3)]
    made = [make.payment(each, owner, package=make.package(each, name=each.name)) for each in others]
    make.refund(made[0], amount=5)
    path, found = "/v1/me/payments", []
    shown = page | {"include": "package,refunds", "fields": "id,package.name,refunds.amount"}
    while path:
        answer = get(path, **shown)
        found += answer["data"]
        path, shown = answer["links"]["next"], {}
    assert found == [
        {
            "id": str(payment.id),
            "package": {"name": each.name},
            "refunds": [{"amount": 5}] if payment is made[0] else [],
        }
        for payment, each in reversed([*zip(made, others, strict=True)])
    ]


def test_includes_of_others_rows_stay_apart(get, make, store, path):
    for name in ("Ada", "Grace"):
        payment = make.payment(store, make.user(name=name), package=make.package(store, name=f"{name}'s"))
        make.refund(payment, reason=name)
    found = get(path, include=EVERYTHING, fields="user.name,package.name,refunds.reason")["data"]
    assert sorted((i["user"]["name"], i["package"]["name"], i["refunds"][0]["reason"]) for i in found) == [
        ("Ada", "Ada's", "Ada"),
        ("Grace", "Grace's", "Grace"),
    ]


def test_what_json_must_escape_comes_through(get, make, store):
    name = 'a "quoted" \\ back\nslash </script> é 😀 %(id)s %s {id}'
    make.package(store, name=name)
    assert get(f"/v1/stores/{store.id}/packages")["data"][0]["name"] == name


REFUSED = [
    ({"colour": "red"}, ["colour"]),
    ({"fields": "id,colour"}, ["fields"]),
    ({"fields": "user.name"}, ["fields"]),
    ({"fields": "id.name"}, ["fields"]),
    ({"fields": ""}, ["fields"]),
    ({"fields": ","}, ["fields"]),
    ({"fields": "id,,status"}, ["fields"]),
    ({"fields": "id,"}, ["fields"]),
    ({"include": ""}, ["include"]),
    ({"include": "user,"}, ["include"]),
    ({"include": "user", "fields": "user.."}, ["fields"]),
    ({"include": "user", "fields": "user"}, ["fields"]),
    ({"include": "user", "fields": "user.email"}, ["fields"]),
    ({"include": "user", "fields": "user.password_hash"}, ["fields"]),
    ({"include": "colour"}, ["include"]),
    ({"include": "user.store"}, ["include"]),
    ({"include": "id"}, ["include"]),
    ({"sort": "colour"}, ["sort"]),
    ({"sort": "--amount"}, ["sort"]),
    ({"sort": "amount,id"}, ["sort"]),
    ({"sort": "payment_method"}, ["sort"]),
    ({"status": "lost"}, ["status"]),
    ({"status[gt]": "failed"}, ["status[gt]"]),
    ({"user_id": "42"}, ["user_id"]),
    ({"amount[near]": "5"}, ["amount[near]"]),
    ({"amount[]": "5"}, ["amount[]"]),
    ({"amount": "5.0"}, ["amount"]),
    ({"amount": "٣"}, ["amount"]),
    ({"amount": "1" * 19}, ["amount"]),
    ({"created_at[gte]": "yesterday"}, ["created_at[gte]"]),
    ({"created_at[gte]": "2026-01-01"}, ["created_at[gte]"]),
    ({"created_at[gte]": "2026-01-01T00:00:00"}, ["created_at[gte]"]),
    ({"created_at[gte]": "2026-02-30T00:00:00Z"}, ["created_at[gte]"]),
    ({"page": "0"}, ["page"]),
    ({"page": "-1"}, ["page"]),
    ({"page": "one"}, ["page"]),
    ({"page": ""}, ["page"]),
    ({"page": "1e3"}, ["page"]),
    ({"page": "9" * 30}, ["page"]),
    ({"per_page": "101"}, ["per_page"]),
    ({"limit": "0"}, ["limit"]),
    ({"limit": "101"}, ["limit"]),
    ({"total": "roughly"}, ["total"]),
    ({"total": ""}, ["total"]),
    ({"page": "1", "cursor": ""}, ["page"]),
    ({"per_page": "5", "limit": "5"}, ["per_page"]),
    ({"total": "exact", "cursor": ""}, ["total"]),
    ({"status": "succeeded\0"}, ["status"]),
    ({"colour": "red", "fields": "colour", "page": "0", "sort": "colour"}, ["colour", "fields", "page", "sort"]),
]  # fmt: skip


@pytest.mark.parametrize(("parameters", "named"), REFUSED, ids=lambda value: repr(value)[:60])
def test_what_is_unknown_or_unreadable_is_refused_by_name(get, path, parameters, named):
    problem = get(path, 400, **parameters)
    assert sorted({error["parameter"] for error in problem["errors"]}) == named
    assert problem["code"] == "invalid_parameter"
    assert all(name in problem["detail"] for name in named)


@pytest.mark.parametrize("offset", ["Z", "+00:00", "-23:59", "+23:59", "+05:30"])
@pytest.mark.parametrize("day", ["0001-01-02", "2026-01-01", "9999-12-30"])
def test_a_time_may_have_any_offset(get, path, day, offset):
    assert get(path, **{"created_at[lt]": f"{day}T12:00:00.5{offset}"})["data"] == []


def test_a_parameter_that_is_given_twice_is_refused(get, path):
    assert get(f"{path}?status=failed&status=succeeded", 400)["errors"][0]["parameter"] == "status"


def test_a_single_row_takes_neither_pages_nor_filters(get, path, payment):
    for name in ("page", "cursor", "sort", "status", "total"):
        assert get(f"{path}/{payment.id}", 400, **{name: "1"})["errors"][0]["parameter"] == name


def lists_of_a_store():
    """Every list below a store, with its includes, and whether memberships are read first where the database is
    spread."""
    for module in MODULES:
        for route in module.all:
            if route.lists and re.fullmatch(r"/v1/stores(/\{store_id\}(/[a-z-]+)?)?|/v1/me/[a-z]+|/v1/\w+", route.path):
                yield route.path, ",".join(route.lists.includes), bool(route.lists.apart)


@pytest.mark.parametrize("page", [{"per_page": 100}, {"cursor": "", "limit": 100}], ids=["page", "cursor"])
def test_every_list_is_one_statement_beside_the_callers(servers, get, make, store, owner, queries, page):
    package = make.package(store)
    for _ in range(10):
        make.refund(make.payment(store, owner, package=package))
        make.staff(store)
        make.address(owner)
        make.package(store)
    lists = [each for each in lists_of_a_store() if not (servers.is_spread and each[2])]
    assert len(lists) > 10
    for template, includes, _ in lists:
        servers.forget()
        asked = {**page, **({"include": includes} if includes else {})}
        path = template.replace("{store_id}", str(store.id))
        with queries() as seen:
            get(path, **asked)
        assert len(seen) == 2, f"{template}: {seen}"


@pytest.mark.parametrize("count", [300, pytest.param(10_000, marks=pytest.mark.wide)])
def test_it_is_one_statement_however_many_rows_there_are(get, make, store, owner, path, queries, count):
    make.payments(store, count, users=[owner, make.user()], packages=[make.package(store)])
    for asked in ({"page": count // 200, "per_page": 100}, {"cursor": "", "limit": 100}, {"total": "exact"}):
        with queries() as seen:
            document = get(path, include=EVERYTHING, **asked)
        assert len([statement for statement in seen if "from payments" in statement]) == 1, str(seen)
        # Who is calling may be known from before.
        assert len(seen) <= 2, str(seen)
        assert document["data"]


def selected(statement: str) -> tuple[set[str], str]:
    """The columns that a list's statement takes of its own table, and the rest of it."""
    found = re.search(r"with page as \(select (.*?) from \w+ t where (.*)", statement, re.DOTALL)
    assert found, statement
    return set(re.sub(r"\bt\.| as key\d", "", found[1]).split(", ")), found[2]


def test_only_what_was_asked_for_is_fetched(get, path, payment, queries):
    with queries() as seen:
        get(path, fields="id,status", include="user", sort="amount")
    columns, rest = selected(seen[-1])
    assert columns == {"id", "status", "amount", "user_id"}
    assert "refunds" not in rest
    assert "packages" not in rest
    assert "email" not in rest


def test_nothing_is_fetched_whole(app, get, path, payment, queries, monkeypatch):
    """`select *` only ever stands over a list of columns that was named before."""
    # What is prepared already is sent by its name alone.
    monkeypatch.setattr("dues.postgres.connection._HOT", 10**9)
    with app.app_context():
        db.engine.dispose()
    with queries() as seen:
        get(path, include=EVERYTHING)
    columns, _ = selected(seen[-1])
    assert not columns & {"payment_method", "gateway", "gateway_ref"}
    assert set(re.findall(r"\* from (\w+)", seen[-1])) == {"page"}


def test_values_are_bound_and_never_written_into_the_statement(get, path, client, queries):
    with queries() as seen:
        assert get(path, currency="';%", sort="amount")["data"] == []
    assert all("';%" not in statement for statement in seen)


def test_equal_answers_have_equal_etags_and_others_do_not(client, make, owner, store):
    headers = make.auth(owner)
    path, package = f"/v1/stores/{store.id}/packages", make.package(store)
    first = client.get(path, headers=headers)
    assert client.get(path, headers=headers).headers["ETag"] == first.headers["ETag"]
    assert client.get(f"{path}?fields=id", headers=headers).headers["ETag"] != first.headers["ETag"]
    single = client.get(f"{path}/{package.id}", headers=headers).headers["ETag"]
    assert re.fullmatch(r'"1\.[0-9a-f]{24}"', single)
    unchanged = client.get(path, headers={**headers, "If-None-Match": first.headers["ETag"]})
    assert (unchanged.status_code, unchanged.data) == (304, b"")
    client.patch(f"{path}/{package.id}", json={"name": "Silver"}, headers=headers)
    assert client.get(path, headers={**headers, "If-None-Match": first.headers["ETag"]}).status_code == 200
