"""A store with its people, and rows in it for whatever ids a path names."""

import re
from typing import Any

from flask import Flask

from dues.ids import new_id
from dues.reports.files import file_store
from tests.factory import Factory


class World:
    """A test store with a member of staff in every role, a customer, and one who has nothing to do with it. The owner
    has a second store, `elsewhere`."""

    def __init__(self, make: Factory, app: Flask) -> None:
        self._make, self._app = make, app
        self.owner, self.customer, self.other = (make.user(email_verified_at=None) for _ in range(3))
        self.support, self.manager = (make.user(email_verified_at=None) for _ in range(2))
        self.store, self.elsewhere = make.store(self.owner, test=True), make.store(self.owner)
        self.package = make.package(self.store)
        for role in ("support", "manager"):
            make.staff(self.store, getattr(self, role), role=role)

    def target(self, method: str, path: str) -> dict[str, Any]:
        """The ids that a path names: those of new rows in the store, the customer's where they belong to somebody."""
        make, names, ids = self._make, re.findall(r"\{(\w+)\}", path), {"store_id": self.store.id}
        if method == "PUT" and path.endswith("/clock"):
            make.rows("update store_clocks set advancing_to = null, version = 1")
        if "user_id" in names:
            is_staff = path.startswith("/v1/stores") and method != "PUT"
            is_followed = path.startswith("/v1/me/")
            user = self.other if is_followed else self.customer
            ids["user_id"] = make.staff(self.store).user_id if is_staff else user.id
        if "token_id" in names:
            make.token(self.customer, id=(token_id := new_id()))
            ids["token_id"] = token_id
        if "address_id" in names:
            ids["address_id"] = make.address(self.customer).id
        if "payment_method_id" in names:
            ids["payment_method_id"] = make.payment_method(self.customer).id
        if "package_id" in names:
            ids["package_id"] = make.package(self.store).id
        if "payment_id" in names:
            waiting = path.endswith("/confirmations")
            action: dict[str, Any] = {"status": "requires_action", "next_action": {"href": "/"}} if waiting else {}
            payment = make.payment(self.store, self.customer, gateway_ref=f"sb_{new_id().hex}", **action)
            ids["payment_id"] = payment.id
            if "refund_id" in names:
                ids["refund_id"] = make.refund(payment).id
        ids |= self._post(names)
        ids |= self._membership(names)
        ids |= self._document(path, names, ids)
        if "report_id" in names:
            ids["report_id"] = self._finished_report()
        if "endpoint_id" in names or "delivery_id" in names:
            endpoint = make.endpoint(self.store)
            ids["endpoint_id"] = endpoint.id
            if "delivery_id" in names:
                ids["delivery_id"] = make.delivery(endpoint, make.event(self.store)).id
        if "job_id" in names:
            ids["job_id"] = self._job_of_a_report()
        return ids

    def code(self, purpose: str) -> str:
        """A new code: to verify the customer's address, or to reset the password of somebody whom nobody knows."""
        return self._make.code(self.customer if purpose == "verify-email" else self._make.user(), purpose)

    def _membership(self, names: list[str]) -> dict[str, Any]:
        make, ids = self._make, {}
        if "subscription_id" in names:
            make.rows("update subscriptions set status = 'canceled', ended_at = now() where status <> 'canceled'")
            ids["subscription_id"] = make.subscription(self.store, self.customer).id
        if "invoice_id" in names:
            invoice = make.invoice(self.store, self.customer, status="paid")
            ids["invoice_id"] = invoice.id
            if "note_id" in names:
                ids["note_id"] = make.credit_note(invoice).id
        return ids

    def _post(self, names: list[str]) -> dict[str, Any]:
        if "post_id" not in names:
            return {}
        post = self._make.post(self.customer)
        comment = {"comment_id": self._make.comment(post, self.customer).id} if "comment_id" in names else {}
        return {"post_id": post.id, **comment}

    def _document(self, path: str, names: list[str], ids: dict[str, Any]) -> dict[str, Any]:
        """Of the payment, the refund, the invoice or the credit note that the path names, else of a payment."""
        if "invoice_id" in names and path.endswith("/file"):
            kind, subject_id = ("credit_note", ids["note_id"]) if "note_id" in names else ("invoice", ids["invoice_id"])
            data = {"credit": {"invoice_id": str(ids["invoice_id"])}}
            self._make.document(self.store, self.customer, kind=kind, subject_id=subject_id, data=data)
        if "document_id" not in names and "/receipt" not in path:
            return {}
        payment_id = ids.get("payment_id") or self._make.payment(self.store, self.customer).id
        of_payment = {"payment_id": payment_id, "subject_id": payment_id}
        document = self._make.document(self.store, self.customer, **of_payment)
        if "refund_id" in names:
            of_refund = {"kind": "refund", "subject_id": ids["refund_id"]}
            document = self._make.document(self.store, self.customer, **of_payment | of_refund)
        return {"document_id": document.id} if "document_id" in names else {}

    def _job_of_a_report(self) -> Any:
        report = self._make.insert("reports", self._new_report())
        job = {
            "id": new_id(),
            "kind": "report.build",
            "queue": "slow",
            "cancelable": True,
            "args": {"store_id": str(report.store_id), "report_id": str(report.id)},
            "owner_id": self.customer.id,
            "store_id": self.store.id,
        }
        return self._make.insert("jobs", job).id

    def _finished_report(self) -> Any:
        report = self._new_report()
        key = f"reports/{report['id']}/1"
        with self._app.app_context(), file_store().create(key) as draft:
            draft.write(b"id\n")
            file = {"status": "succeeded", "file_key": key, "rows": 0, "bytes": draft.size, "sha256": draft.sha256()}
        return self._make.insert("reports", report | file).id

    def _new_report(self) -> dict[str, Any]:
        return {
            "store_id": self.store.id,
            "id": new_id(),
            "requested_by": self.owner.id,
            "kind": "payments",
            "format": "csv",
            "range_from": "2026-01-01",
            "range_to": "2026-02-01",
        }
