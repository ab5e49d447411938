"""Nothing from the cache is ever older than a commit, whatever happens in whatever order; and each rule is needed."""

from collections.abc import Sequence

import pytest

from dues.reads.freshness import journal, store
from tests.reads.freshness import broken
from tests.reads.freshness.play import NO_FAULTS, Chances, Tally
from tests.reads.freshness.world import World
from tests.servers import Servers

# Few ids to a tag, so that lists overflow within a run.
_NEWEST_IDS = 2

_FAILING = Chances(lost_call=0.05, crash=0, restart=0, cut=0, evict=0.005, flush=0.001)
_QUIET = Chances(lost_call=0, crash=0, restart=0, cut=0)

# A rule to break, the faults that bring it out, and a seed with which they do so at once.
_BROKEN = [
    (broken.keeps_whatever_it_computed, Chances(), 0),
    (broken.ignores_listed_ids, Chances(), 3),
    (broken.ignores_the_floor, Chances(), 0),
    (broken.starts_from_what_is_finished, Chances(), 4),
    (broken.claims_after_the_id, Chances(lost_call=0, crash=0, restart=0, cut=0, flush=0.05), 43),
    (broken.never_raises_the_base, Chances(lost_call=0, crash=0, restart=0, cut=0, evict=0.1), 0),
    (broken.never_raises_the_floor, _QUIET, 3),
    (broken.names_no_run_id, Chances(lost_call=0, crash=0, restart=0.02, cut=0, evict=0.02, flush=0), 0),
    (broken.keeps_the_generation, Chances(), 15),
    (broken.commits_untouched, Chances(), 16),
    (broken.does_not_wait, Chances(**vars(_FAILING) | {"slow_reading": 0.4, "death": 0}), 9),
    (broken.only_the_first_waits, Chances(**vars(_FAILING) | {"slow_reading": 0.1, "death": 0}), 25),
    (broken.believes_for_ever, Chances(**vars(_FAILING) | {"slow_reading": 0.5}), 0),
    (broken.believes_from_the_end, Chances(**vars(_FAILING) | {"slow_reading": 0.5}), 4),
    (broken.survives_a_crash, Chances(lost_call=0, crash=0.01, restart=0, cut=0, evict=0.01, flush=0), 2),
    (broken.touches_after_commit, Chances(), 0),
    (broken.reads_the_switch_before_its_id, Chances(), 10),
    (broken.does_not_compare, Chances(), 0),
    (broken.compares_no_prefix, Chances(), 0),
    (broken.asks_before_the_request, Chances(), 68),
    (broken.reads_on_after_a_time_out, Chances(), 50),
    (broken.shares_what_began_before, Chances(), 0),
]

_BROKEN_JOURNAL = [
    (broken.keeps_what_the_journal_does_not_cover, Chances(), 0),
    (broken.covers_what_is_shown_alone, Chances(), 0),
    (broken.ignores_the_news, Chances(), 0),
    (broken.knows_what_it_does_not_hold, Chances(), 3),
    (broken.joins_without_a_floor, Chances(), 2),
    (broken.forgets_without_a_floor, Chances(), 6),
    (broken.takes_another_journal_for_the_same, Chances(), 2),
    (broken.makes_a_journal_by_touching, Chances(), 9),
    (broken.joins_whatever_the_base_is, Chances(lost_call=0, crash=0, restart=0, cut=0, evict=0.1), 4),
]

# It takes long until one of these shows: `--wide`.
_LATE = [
    broken.ignores_the_floor,
    broken.keeps_the_generation,
    broken.commits_untouched,
    broken.only_the_first_waits,
    broken.survives_a_crash,
    broken.compares_no_prefix,
    broken.covers_what_is_shown_alone,
    broken.joins_without_a_floor,
    broken.makes_a_journal_by_touching,
    broken.joins_whatever_the_base_is,
    broken.gives_what_the_primary_does_not_show_yet,
]

_PROMOTIONS = Chances(**vars(NO_FAULTS) | {"promotion": 0.02})
_BROKEN_REPLICAS = [
    (broken.keeps_what_no_mark_proves, Chances(), 0),
    (broken.takes_the_newest_mark_for_the_one_shown, Chances(), 1),
    (broken.reads_from_who_takes_writes, _PROMOTIONS, 0),
    (broken.gives_what_the_primary_does_not_show_yet, NO_FAULTS, 11),
]


Broken = tuple[broken.Break, Chances, int]


def each_of(rules: Sequence[Broken]) -> pytest.MarkDecorator:
    """A test is run once with each."""
    params = [
        pytest.param(*row, id=row[0].__name__, marks=[pytest.mark.wide] if row[0] in _LATE else []) for row in rules
    ]
    return pytest.mark.parametrize(("rule", "chances", "seed"), params)


def explore(
    servers: Servers, chances: Chances, seeds: range, steps: int, *, follows: bool = False, replicas: bool = False
) -> Tally:
    """All runs together, up to the first that has something wrong."""
    total = Tally()
    for seed in seeds:
        tally = World(seed, servers.redis_url, chances, follows=follows, replicas=replicas).run(steps)
        for name, count in vars(tally).items():
            setattr(total, name, getattr(total, name) + count)
        if tally.wrong:
            break
    return total


@pytest.fixture(autouse=True)
def _in_no_real_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same seed is the same run on a slow machine too: nothing expires; the chaos actor evicts."""
    monkeypatch.setattr(store, "NEWEST_IDS", _NEWEST_IDS)
    monkeypatch.setattr(journal, "_WINDOW", 3)
    monkeypatch.setattr(journal, "_NEWS", 12)
    for life in ("_CLAIM_LIFE_MS", "_LEAD_LIFE_MS", "_NO_LEAD_LIFE_MS"):
        monkeypatch.setattr(store, life, 3_600_000)


@pytest.mark.parametrize(
    ("chances", "follows"),
    [
        pytest.param(Chances(), False, id="all faults-by tags"),
        pytest.param(_FAILING, True, id="failing calls-by the journal"),
        pytest.param(_FAILING, False, id="failing calls-by tags", marks=pytest.mark.wide),
        pytest.param(Chances(), True, id="all faults-by the journal", marks=pytest.mark.wide),
        pytest.param(NO_FAULTS, False, id="no faults-by tags", marks=pytest.mark.wide),
        pytest.param(NO_FAULTS, True, id="no faults-by the journal", marks=pytest.mark.wide),
    ],
)
def test_no_answer_is_older_than_a_commit_before_it(servers: Servers, chances: Chances, follows: bool) -> None:
    tally = explore(servers, chances, range(2), 12_000, follows=follows)

    assert tally.wrong == 0
    assert tally.hits > 25
    assert tally.remembered > 25
    assert tally.shared > 5
    assert tally.kept > 15
    assert tally.writes > 25


@each_of(_BROKEN)
def test_without_the_rule_answers_go_stale(
    servers: Servers, monkeypatch: pytest.MonkeyPatch, rule: broken.Break, chances: Chances, seed: int
) -> None:
    rule(monkeypatch)

    assert explore(servers, chances, range(seed, seed + 40), 12_000).wrong


@each_of(_BROKEN_JOURNAL)
def test_without_the_rule_of_the_journal_answers_go_stale(
    servers: Servers, monkeypatch: pytest.MonkeyPatch, rule: broken.Break, chances: Chances, seed: int
) -> None:
    rule(monkeypatch)

    assert explore(servers, chances, range(seed, seed + 40), 12_000, follows=True).wrong


@each_of(_BROKEN_REPLICAS)
def test_without_the_rule_of_replicas_answers_go_stale(
    servers: Servers, monkeypatch: pytest.MonkeyPatch, rule: broken.Break, chances: Chances, seed: int
) -> None:
    rule(monkeypatch)

    assert explore(servers, chances, range(seed, seed + 40), 12_000, replicas=True).wrong


@pytest.mark.parametrize(
    "follows", [pytest.param(False, marks=pytest.mark.wide), True], ids=["by tags", "by the journal"]
)
def test_no_answer_of_a_replica_is_older_than_a_commit_before_it(servers: Servers, follows: bool) -> None:
    tally = explore(servers, Chances(), range(2), 12_000, follows=follows, replicas=True)

    assert tally.wrong == 0
    assert tally.hits > 10
    assert tally.of_replicas > 5


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("chances", [NO_FAULTS, Chances(), _FAILING], ids=["no faults", "all faults", "failing calls"])
@pytest.mark.parametrize("follows", [False, True], ids=["by tags", "by the journal"])
@pytest.mark.parametrize("replicas", [False, True], ids=["the primary alone", "replicas"])
def test_no_answer_is_older_in_thousands_of_runs(
    servers: Servers, chances: Chances, follows: bool, replicas: bool
) -> None:
    tally = explore(servers, chances, range(1000, 3000), 20_000, follows=follows, replicas=replicas)

    assert tally.wrong == 0
    assert tally.hits > 50_000
