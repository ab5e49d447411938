"""Twelve calls with the Python client that openapi-generator makes of the document, run against a server."""

import sys
from datetime import UTC, datetime
from typing import TypeVar
from uuid import UUID, uuid4

import openapi_client as dues

T = TypeVar("T")


def known(value: object, kind: type[T]) -> T:
    assert isinstance(value, kind), value
    return value


def refusal(stores: dues.StoresApi, store_id: UUID) -> tuple[object, str]:
    """Of a change to a version that is no longer the present one."""
    try:
        stores.change_store(store_id, dues.StoreChange(name="Late"), if_match='"1"')
    except dues.ApiException as refused:
        return refused.status, known(refused.data, dues.Problem).code
    raise AssertionError("a stale version was changed")


def main(url: str) -> None:
    configuration = dues.Configuration(host=url)
    api = dues.ApiClient(configuration)
    email, password = f"{uuid4().hex}@example.com", "a long enough passphrase"
    user = dues.AccountsApi(api).sign_up(dues.NewUser(email=email, name="Ada", password=password))
    log_in = dues.CreateTokenRequest(dues.LogIn(email=email, password=password))
    configuration.access_token = dues.TokensApi(api).create_token(log_in).token

    me = dues.AccountsApi(api).get_me()
    assert me.id == user.id
    assert me.email_verified is False

    stores, packages, payments = dues.StoresApi(api), dues.PackagesApi(api), dues.PaymentsApi(api)
    store = stores.create_store(dues.NewStore(name="Climbing", currency="EUR"))
    package = packages.create_package(store.id, dues.NewPackage(name="Day pass", amount=1500, interval="once"))

    pages = packages.list_packages(store.id)
    assert known(pages.meta.actual_instance, dues.PageMeta).total == 1
    assert pages.data[0].amount + 1 == 1501
    walk = packages.list_packages(store.id, cursor="", limit=1)
    assert known(walk.meta.actual_instance, dues.CursorMeta).has_more is False

    new = dues.NewPayment(package_id=package.id, payment_method="sandbox_ok")
    paid = payments.create_payment_with_http_info(store.id, "order-1", new, prefer="wait=20")
    assert paid.status_code == 201
    assert paid.data.status == "succeeded"

    listed = payments.list_payments(store.id, include=["user", "package"])
    assert listed.data[0].package
    assert listed.data[0].package.id == package.id

    assert stores.change_store(store.id, dues.StoreChange(name="Bouldering"), if_match='"1"').version == 2
    assert refusal(stores, store.id) == (412, "precondition_failed")

    since, until = datetime(2026, 1, 1, tzinfo=UTC), datetime(2099, 1, 1, tzinfo=UTC)
    wanted = dues.NewReport.from_dict({"kind": "payments", "format": "csv", "from": since, "to": until})
    assert wanted
    reports = dues.ReportsApi(api)
    report = reports.request_report(store.id, wanted, prefer="wait=20")
    assert report.links.job
    assert dues.JobsApi(api).get_job(UUID(report.links.job.rpartition("/")[2])).done
    assert bytes(reports.download_report(store.id, report.id)).startswith(b"id,")


main(sys.argv[1])
print("12 calls")
