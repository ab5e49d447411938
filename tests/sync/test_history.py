"""What changes is told whatever has become of the record of changes: rows that were forgotten, and dumps."""

from types import SimpleNamespace as Made

import pytest
import ujson
from flask import Flask
from flask.testing import FlaskClient

from dues.postgres import transaction
from dues.sync.moved import Watch, find_moved
from dues.sync.operations import delete_expired_tombstones
from tests.factory import Factory
from tests.sync.conftest import MakeDevice
from tests.sync.device import Device, op

# Of a server whose transactions had come further than those of the one that a dump was loaded into.
OF_A_DUMP = """
    update sync_changes set xid = (xid::text::bigint + 1000000000)::text::xid8 where type = any(%(types)s)
    returning id
"""


def load_dump(make: Factory, *types: str) -> None:
    make.rows(OF_A_DUMP, {"types": [*types]})


@pytest.mark.parametrize("kind", ["like", "follow"])
def test_what_comes_back_after_it_was_forgotten_is_told(
    app: Flask, device: Device, make: Factory, owner: Made, kind: str
) -> None:
    """Of a row without a version of its own a client keeps the version at which it was deleted; the server does not."""
    path = f"/v1/posts/{make.post(owner).id}/like" if kind == "like" else f"/v1/me/following/{owner.id}"
    for method in ("PUT", "DELETE", "PUT", "DELETE"):
        device.sync(op(method, path))
    make.rows(
        "update sync_changes set gone_at = gone_at - interval '92 days' where type = %(k)s returning id", {"k": kind}
    )
    with app.app_context(), transaction():
        assert delete_expired_tombstones() == 1
    device.sync(op("PUT", path))
    assert len(device.of(kind)) == 1


@pytest.mark.parametrize("limit", [2, 500])
def test_rows_that_a_dump_has_brought_along_are_told_once(
    device_of: MakeDevice, make: Factory, owner: Made, store: Made, limit: int
) -> None:
    for _ in range(5):
        make.payment(store), make.address(owner)
    load_dump(make, "payment", "address", "me")
    device = device_of(owner, limit=limit)
    device.sync()
    assert (len(device.of("payment")), len(device.of("address")), len(device.of("me"))) == (5, 5, 1)
    assert device.ask()["changes"] == []
    # What happens from now on is told as ever, of the rows that were there as well.
    make.payment(store), make.address(owner)
    make.rows("update users set name = 'Ada', version = version + 1 where id = %(id)s returning id", {"id": owner.id})
    applied = device.applied
    device.sync()
    assert device.applied == applied + 3
    assert (len(device.of("payment")), len(device.of("address"))) == (6, 6)
    assert device.of("me")[str(owner.id)]["name"] == "Ada"


def test_nobody_who_waits_is_woken_by_them(app: Flask, make: Factory, member: Made) -> None:
    base = make.value("select pg_current_snapshot()::text")
    make.address(member)
    with app.app_context():
        watch = Watch(member.id, None, ("address",), base)
        assert find_moved([watch]) == {0}
        load_dump(make, "address")
        assert find_moved([watch]) == set()


def test_a_cursor_of_before_a_dump_was_loaded_is_no_good(
    client: FlaskClient, make: Factory, member: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it was loaded on the same server, which has gone on counting: the table is another one."""
    auth = make.auth(member)
    cursor = ujson.loads(client.get("/v1/sync", headers=auth).data)["cursor"]
    assert client.get(f"/v1/sync?cursor={cursor}", headers=auth).status_code == 200
    # Recreated as pg_restore does; the rows are those of the dump.
    make.rows(
        "create table dumped (like sync_changes including all); insert into dumped select * from sync_changes;"
        " alter table sync_changes rename to given; alter table dumped rename to sync_changes; select 1 as one"
    )
    try:
        answer = client.get(f"/v1/sync?cursor={cursor}", headers=auth)
        assert (answer.status_code, ujson.loads(answer.data)["code"]) == (410, "cursor_expired")
    finally:
        make.rows("drop table sync_changes; alter table given rename to sync_changes; select 1 as one")
