"""Twelve calls with what openapi-python-client makes of the document; typed throughout, and run against a server."""

import sys
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TypeVar
from uuid import UUID, uuid4

from dues_client import AuthenticatedClient, Client
from dues_client.api.accounts import get_me, sign_up
from dues_client.api.jobs import get_job
from dues_client.api.packages import create_package, list_packages
from dues_client.api.payments import create_payment, list_payments
from dues_client.api.reports import download_report, request_report
from dues_client.api.stores import change_store, create_store
from dues_client.api.tokens import create_token
from dues_client.models import (
    CursorMeta,
    IssuedToken,
    Job,
    ListPaymentsIncludeItem,
    LogIn,
    Me,
    NewPackage,
    NewPackageInterval,
    NewPayment,
    NewReport,
    NewReportFormat,
    NewReportKind,
    NewStore,
    NewUser,
    Package,
    PackageList,
    PageMeta,
    Payment,
    PaymentList,
    Problem,
    Report,
    Store,
    StoreChange,
)
from dues_client.types import File

T = TypeVar("T")


def known(answer: object, kind: type[T]) -> T:
    assert isinstance(answer, kind), answer
    return answer


def main(url: str) -> None:
    anybody = Client(base_url=url)
    email, password = f"{uuid4().hex}@example.com", "a long enough passphrase"
    user = known(sign_up.sync(client=anybody, body=NewUser(email=email, name="Ada", password=password)), Me)
    issued = known(create_token.sync(client=anybody, body=LogIn(email=email, password=password)), IssuedToken)
    client = AuthenticatedClient(base_url=url, token=issued.token)

    me = known(get_me.sync(client=client), Me)
    assert me.id == user.id
    assert me.email_verified is False

    store = known(create_store.sync(client=client, body=NewStore(name="Climbing", currency="EUR")), Store)
    new = NewPackage(name="Day pass", amount=1500, interval=NewPackageInterval.ONCE)
    package = known(create_package.sync(store.id, client=client, body=new), Package)

    pages = known(list_packages.sync(store.id, client=client), PackageList)
    assert known(pages.meta, PageMeta).total == 1
    assert pages.data[0].amount + 1 == 1501
    walk = known(list_packages.sync(store.id, client=client, cursor="", limit=1), PackageList)
    assert known(walk.meta, CursorMeta).has_more is False

    paid = create_payment.sync_detailed(
        store.id,
        client=client,
        body=NewPayment(package_id=package.id, payment_method="sandbox_ok"),
        idempotency_key="order-1",
        prefer="wait=20",
    )
    payment = known(paid.parsed, Payment)
    assert paid.status_code == HTTPStatus.CREATED
    assert payment.status.value == "succeeded"

    both = [ListPaymentsIncludeItem.USER, ListPaymentsIncludeItem.PACKAGE]
    listed = known(list_payments.sync(store.id, client=client, include=both), PaymentList)
    assert known(listed.data[0].package, Package).id == package.id

    changed = change_store.sync(store.id, client=client, body=StoreChange(name="Bouldering"), if_match='"1"')
    assert known(changed, Store).version == 2
    stale = change_store.sync_detailed(store.id, client=client, body=StoreChange(name="Late"), if_match='"1"')
    assert (stale.status_code, known(stale.parsed, Problem).code) == (412, "precondition_failed")

    since, until = datetime(2026, 1, 1, tzinfo=UTC), datetime(2099, 1, 1, tzinfo=UTC)
    wanted = NewReport(kind=NewReportKind.PAYMENTS, format_=NewReportFormat.CSV, from_=since, to=until)
    asked = request_report.sync_detailed(store.id, client=client, body=wanted, prefer="wait=20")
    report = known(asked.parsed, Report)
    assert report.links.job
    job = known(get_job.sync(UUID(report.links.job.rpartition("/")[2]), client=client), Job)
    assert job.done
    file = known(download_report.sync(store.id, report.id, client=client), File)
    assert file.payload.read().startswith(b"id,")


main(sys.argv[1])
print("12 calls")
