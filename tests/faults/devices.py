"""Devices that sync, and stores that import, through a fault: nothing is lost, and nothing is done twice."""

import json
import time
from contextlib import suppress
from typing import Any

import urllib3

from dues.ids import new_id
from tests.faults.house import House
from tests.servers import wait_until
from tests.sync.device import Answer, Device, op

_PATIENCE_S = 90.0
_ADDRESS = {"line1": "1 High Street", "city": "Leeds", "country": "GB"}
# Of an operation: it is to be sent again.
_AGAIN = (409, 424, 429, 500, 503)


class Devices:
    """Two of one member. What one adds is what the other shows."""

    def __init__(self, house: House) -> None:
        self._user = house.make.user()
        self._auth, self._url = house.make.auth(self._user), house.web.url
        self._http = urllib3.PoolManager(retries=False, timeout=urllib3.Timeout(total=15))
        self._devices = [Device(self._send, limit=3) for _ in range(2)]
        self._labels: list[str] = []

    def add(self, count: int) -> None:
        """So many addresses, each made and then changed by the first device, until that is answered."""
        for _ in range(count):
            label, chosen = f"Number {len(self._labels)}", str(new_id())
            made = op("POST", "/v1/me/addresses", {"id": chosen, **_ADDRESS})
            ops = [made, op("PATCH", f"/v1/me/addresses/{chosen}", {"label": label}, after=[made["id"]])]
            while ops:
                results = self._devices[0].sync(*ops)
                ops = [one for one, result in zip(ops, results, strict=True) if result["status"] in _AGAIN]
                assert all(result["status"] < 300 or result["status"] in _AGAIN for result in results), results
            self._labels.append(label)

    def check(self) -> None:
        """Both, and one that begins now, show each address, made once and changed once."""
        fresh = Device(self._send)
        for device in (*self._devices, fresh):
            device.sync()
            assert sorted(row["label"] for row in device.of("address").values()) == sorted(self._labels)
            assert {row["version"] for row in device.of("address").values()} == {2}

    def _send(self, body: dict[str, Any]) -> tuple[int, Answer]:
        sent, headers = json.dumps(body), {"Content-Type": "application/json", **self._auth}
        until = time.monotonic() + _PATIENCE_S
        while time.monotonic() < until:
            with suppress(urllib3.exceptions.HTTPError):
                answer = self._http.request("POST", f"{self._url}/v1/sync", body=sent, headers=headers)
                if answer.status == 200:
                    return answer.status, answer.json()
                assert answer.status in (409, 503), answer.data
            time.sleep(0.1)
        raise AssertionError("no sync was answered")


class Imports:
    """A store that brings customers along."""

    def __init__(self, house: House, store: Any) -> None:
        self._make, self._store = house.make, store
        (owner,) = house.make.rows(
            "select user_id as id from store_staff where store_id = %(id)s and role = 'owner'", {"id": store.id}
        )
        self._auth, self._url = house.make.auth(owner), f"{house.web.url}/v1/stores/{store.id}/imports"
        self._http = urllib3.PoolManager(retries=False, timeout=urllib3.Timeout(total=15))
        self._count = 0

    def send(self, count: int) -> None:
        """Of each hundred rows one is none."""
        self._count = count
        names = (f"C-{n},{f'{new_id().hex}@example.com' if n % 100 else ''},Somebody\n" for n in range(1, count + 1))
        answer = self._http.request(
            "POST", f"{self._url}?kind=customers", body="external_id,email,name\n" + "".join(names),
            headers={"Content-Type": "text/csv", **self._auth},
        )  # fmt: skip
        assert answer.status == 202, answer.data

    def wait_for_batch(self) -> None:
        """Until some of the rows are written, and not all."""
        written = "select rows from imports where store_id = %(id)s"
        wait_until(lambda: bool(self._make.value(written, {"id": self._store.id})), _PATIENCE_S, "a batch")

    def check(self) -> None:
        """Each row was written once, or refused once."""
        (one,) = self._make.rows("select * from imports where store_id = %(id)s", {"id": self._store.id})
        refused = self._count // 100
        assert (one.status, one.rows, one.created) == ("succeeded", self._count, self._count - refused)
        found = self._make.rows(
            "select x.external_id from external_ids x join customers c on c.store_id = x.store_id"
            " and c.user_id = x.row_id where x.store_id = %(id)s",
            {"id": self._store.id},
        )
        assert len(found) == len({row.external_id for row in found}) == self._count - refused
