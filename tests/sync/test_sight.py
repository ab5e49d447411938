"""Losing sight of rows: by a role, a membership, a tier, a block, or a token that shows less."""

from types import SimpleNamespace as Made

from dues.sync.types import TYPES
from tests.factory import Factory
from tests.sync.conftest import Get, MakeDevice
from tests.sync.device import Device


def test_a_role_that_is_taken_away_takes_its_rows_along(
    device_of: MakeDevice, life: None, make: Factory, store: Made
) -> None:
    support = make.user()
    make.staff(store, support)
    mine = make.payment(store, support)
    device = device_of(support)
    device.sync()
    assert len(device.of("payment")) == 3
    make.rows("delete from store_staff where user_id = %(id)s returning id", {"id": support.id})
    answer = device.ask()
    assert answer["reset"] == ["package", "payment", "post", "subscription"]
    device.apply(answer)
    assert device.of("payment").keys() == {str(mine.id)}
    assert not device.of("package")
    assert len(device.of("me")) == 1


def test_in_the_middle_of_a_walk(device_of: MakeDevice, make: Factory, store: Made) -> None:
    """What was told before is told no more, and what was not is told."""
    support = make.user()
    make.staff(store, support)
    own = [make.payment(store, support) for _ in range(4)]
    for _ in range(4):
        make.payment(store)
    device = device_of(support, limit=2)
    for _ in range(3):
        device.apply(device.ask())
    make.rows("delete from store_staff where user_id = %(id)s returning id", {"id": support.id})
    device.sync()
    assert device.of("payment").keys() == {str(payment.id) for payment in own}


def test_a_membership_that_ends_takes_its_posts_along(device: Device, life: None, make: Factory, member: Made) -> None:
    device.sync()
    make.rows(
        "update subscriptions set has_access = false, version = version + 1 where user_id = %(id)s returning id",
        {"id": member.id},
    )
    answer = device.ask()
    assert answer["reset"] == ["package", "post"]
    device.apply(answer)
    assert [row["body"] for row in device.of("post").values()] == ["Mine"]
    assert len(device.of("subscription")) == 1


def test_another_tier_shows_other_posts(device: Device, life: None, make: Factory, member: Made) -> None:
    device.sync()
    make.rows(
        "update subscriptions s set package_id = p.id from packages p"
        " where p.store_id = s.store_id and p.name = 'Silver' and s.user_id = %(id)s returning s.id",
        {"id": member.id},
    )
    device.sync()
    bodies = {row["body"] for row in device.of("post").values()}
    assert bodies == {"For members", "For silver", "For all", "Mine"}


def test_a_post_that_is_made_private_is_deleted_for_others(
    device: Device, life: None, make: Factory, device_of: MakeDevice, owner: Made
) -> None:
    theirs = device_of(owner)
    device.sync(), theirs.sync()
    for privacy, seen in (("private", False), ("public", True), ("private", False)):
        make.rows(
            "update posts set privacy = %(privacy)s, version = version + 1 where body = 'For all' returning id",
            {"privacy": privacy},
        )
        device.sync(), theirs.sync()
        assert ("For all" in {row["body"] for row in device.of("post").values()}) is seen
        assert "For all" in {row["body"] for row in theirs.of("post").values()}


def test_a_block_hides_posts(device: Device, life: None, make: Factory, member: Made, owner: Made) -> None:
    device.sync()
    make.block(owner, member)
    device.sync()
    assert [row["body"] for row in device.of("post").values()] == ["Mine"]


def test_a_token_shows_what_it_has_scopes_for(
    device_of: MakeDevice, life: None, member: Made, get: Get, make: Factory
) -> None:
    device = device_of(member, "account:read", "payments:read")
    device.sync()
    assert {name for name, _ in device.rows} == {"address", "me", "package", "payment"}
    auth = make.auth(member, "account:read", "payments:read")
    assert get(auth, types="payment,post")[0] == 403
    # A cursor is a user's, and what it tells is up to the token.
    assert get(auth, cursor=get()[1]["cursor"])[0] == 403


def test_a_token_that_is_bound_to_a_store_shows_that_store(
    device_of: MakeDevice, life: None, make: Factory, member: Made, store: Made, get: Get
) -> None:
    device = device_of(member, store=store)
    device.sync()
    assert {row["store_id"] for name in ("package", "payment", "subscription") for row in device.of(name).values()} == {
        str(store.id)
    }
    assert "Mine" not in {row["body"] for row in device.of("post").values()}
    assert len(device.of("comment")) == 1
    # A cursor that was given to another token of the user begins anew.
    status, page = get(make.auth(member, store=store), cursor=get()[1]["cursor"])
    assert (status, page["reset"]) == (200, sorted(TYPES))
