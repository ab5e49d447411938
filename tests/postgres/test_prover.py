"""The freshness prover with PostgreSQL failing over: what was acknowledged stays, and no read is older than it."""

import pytest

from bench.freshness import prove


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_no_read_is_stale_while_standbys_take_over() -> None:
    seen = prove(4_000, failovers=True)
    assert seen.stale == []
    assert seen.happened["fail_over"] >= 2
    assert seen.by_replicas["answered"] > 0
