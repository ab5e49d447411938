"""How requests are counted, without a server: windows, quotas, and who is one caller."""

from ipaddress import IPv6Address
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.limits import Limits, LocalCounts, PolicyName, Used
from dues.errors import TooManyRequests

pytestmark = pytest.mark.unit

policies = st.sampled_from(["default", "payments", "login"])
steps = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 3), st.integers(1, 5)), max_size=30)


@given(quota=st.integers(1, 1000), window_s=st.integers(1, 3600), name=policies, user=st.uuids())
def test_within_its_quota_a_caller_is_served_and_beyond_it_refused(
    quota: int, window_s: int, name: PolicyName, user: UUID
) -> None:
    limit = Limits(f"{quota}/{window_s}").of_user(name, user)
    assert limit
    counts = LocalCounts(1, lambda: 0.0)
    most = max(1, quota // {"default": 1, "payments": 2, "login": 10}[name])
    used = counts.add(limit, most)
    limit.require(used)
    assert f'"{name}";r=0;t={window_s}' in limit.lines(used).decode()
    beyond = counts.add(limit)
    with pytest.raises(TooManyRequests) as refused:
        limit.require(beyond)
    assert refused.value.headers == {"Retry-After": str(window_s)}
    assert b";r=0;" in limit.lines(beyond)


@given(steps=steps, processes=st.integers(1, 4))
def test_counts_are_those_of_the_present_window(steps: list[tuple[int, int, int]], processes: int) -> None:
    """Against a plain model: so many seconds later, one of four callers asks so many times."""
    moment, window_ends, model = 0, 0, dict.fromkeys(range(4), 0)
    limits = Limits("100/60")
    callers = [limits.of_user("default", UUID(int=number)) for number in range(4)]
    counts = LocalCounts(processes, lambda: moment)
    for later, caller, count in steps:
        moment += later
        if moment >= window_ends:
            window_ends, model = moment + 60, dict.fromkeys(range(4), 0)
        model[caller] += count
        limit = callers[caller]
        assert limit
        assert counts.add(limit, count) == Used(model[caller] * processes, window_ends - moment, is_local=True)


def test_what_a_window_has_counted_is_given_back_in_that_window_alone() -> None:
    moment, limit = 0.0, Limits("100/60").of_user("default", UUID(int=1))
    assert limit
    counts = LocalCounts(1, lambda: moment)
    counts.add(limit, 3)
    counts.give_back(limit)
    assert counts.add(limit).requests == 3
    moment = 61.0
    counts.give_back(limit)
    assert counts.add(limit).requests == 1


@given(one=st.ip_addresses(v=6), other=st.ip_addresses(v=6))
def test_of_ipv6_a_network_is_one_caller(one: IPv6Address, other: IPv6Address) -> None:
    limits = Limits("100/60")
    first, second = (limits.of_address("default", str(address)) for address in (one, other))
    assert first
    assert second
    if one.ipv4_mapped is None and other.ipv4_mapped is None:
        assert (first.key == second.key) == (int(one) >> 64 == int(other) >> 64)
    near = limits.of_address("default", str(IPv6Address(int(one) ^ 1)))
    assert one.ipv4_mapped or (near and near.key == first.key)


@given(user=st.uuids(), other=st.uuids())
def test_callers_and_policies_are_counted_apart(user: UUID, other: UUID) -> None:
    limits = Limits("100/60")
    keys = {limit.key for name in ("default", "payments", "login") if (limit := limits.of_user(name, user))}
    assert len(keys) == 3
    assert (limits.of_user("default", other).key in keys) == (user == other)  # type: ignore[union-attr]
    assert not any(str(user) in key for key in keys)


def test_without_a_limit_nothing_is_counted() -> None:
    assert Limits("off").of_user("default", UUID(int=1)) is None
    assert Limits("off").of_address("login", "192.0.2.1") is None
