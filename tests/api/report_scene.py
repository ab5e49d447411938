"""A store with its people and a finished report."""

from hashlib import sha256
from types import SimpleNamespace as Row
from typing import Any

from flask.testing import FlaskClient

from dues.ids import new_id
from dues.reports.files import file_store, report_key
from tests.factory import Factory

ASKED = {"kind": "payments", "format": "csv", "from": "2026-01-01T00:00:00Z", "to": "2026-02-01T00:00:00Z"}

CONTENT = bytes(range(256)) * 4000
TAG = f'"{sha256(CONTENT).hexdigest()}"'


class Scene:
    """A store with its people, and a finished report."""

    def __init__(self, client: FlaskClient, make: Factory) -> None:
        self.client, self.make = client, make
        self.store = make.store()
        self.owner = make.rows("select * from users where id = %(id)s", {"id": self.store.owner_id})[0]
        self.manager, self.support = make.user(), make.user()
        make.staff(self.store, self.manager, role="manager")
        make.staff(self.store, self.support, role="support")
        self.path = f"/v1/stores/{self.store.id}/reports"
        self.headers = make.auth(self.manager)

    def ask(self, headers: dict[str, str] | None = None, **changes: Any) -> Any:
        return self.client.post(self.path, json=ASKED | changes, headers=headers or self.headers)

    def report(self, **columns: Any) -> Row:
        defaults = {
            "store_id": self.store.id,
            "id": new_id(),
            "requested_by": self.manager.id,
            "kind": "payments",
            "format": "csv",
            "range_from": "2026-01-01T00:00:00Z",
            "range_to": "2026-02-01T00:00:00Z",
            "job_id": new_id(),
        }
        return self.make.insert("reports", defaults | columns)

    def finished(self, **columns: Any) -> Row:
        report_id = new_id()
        key = report_key(report_id, "csv")
        with self.client.application.app_context(), file_store().create(key) as draft:
            draft.write(CONTENT)
        written = {"status": "succeeded", "file_key": key, "rows": 7, "bytes": draft.size, "sha256": draft.sha256()}
        return self.report(id=report_id, **written | columns)

    def get(self, report: Row, method: str = "GET", **headers: str) -> Any:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        path = f"{self.path}/{report.id}/file"
        answer = self.client.open(path, method=method, headers=self.headers | named, buffered=True)
        answer.close()
        return answer
