"""What a process knows of the journal, record by record; and the scripts that write it, on a real Valkey."""

import random
from uuid import UUID

import pytest
import redis

from dues.ids import new_id
from dues.reads.freshness import journal as journal_module
from dues.reads.freshness.backend import FreshCache
from dues.reads.freshness.journal import (
    ALL,
    Concern,
    Follower,
    Gap,
    Journal,
    Position,
    Record,
    Unjoined,
    pack_words,
    split_words,
    unpack_concern,
    word_of,
)

MARK = b"77"


def word(name: str) -> bytes:
    return name.rjust(8).encode()


def words(*names: str) -> frozenset[bytes]:
    return frozenset(map(word, names))


def record(number: int, xid: int, *names: str, mark: bytes = MARK) -> Record:
    return Record(number, mark, xid, b"".join(map(word, names)))


def journal(*records: Record, at: int = 10, floor: int = 100) -> Journal:
    """One that was joined at record `at` and has followed `records` since."""
    made = Journal("p:", MARK, at, floor)
    if records:
        made.follow(at, [record(at, floor), *records])
    return made


class TestConcerns:
    def test_what_was_named_since(self):
        known = journal(record(11, 200, "a", "b"), record(12, 201, "c"))
        assert known.concerns(words("a"), 10)
        assert not known.concerns(words("a"), 11)
        assert known.concerns(words("c", "x"), 11)
        assert not known.concerns(words("a", "b", "c"), 12)

    def test_before_it_was_joined_nothing_is_known(self):
        assert journal().concerns(words("x"), 9)
        assert journal(record(11, 200, "a")).concerns(words("x"), 9)

    @pytest.mark.parametrize("seed", range(5))
    def test_however_many_news_and_words_there_are(self, seed: int):
        """Both ways of looking find the same as a plain one."""
        draw = random.Random(seed)
        names = [str(number) for number in range(60)]
        records = [record(11 + n, 200 + n, *draw.sample(names, draw.choice((0, 1, 5)))) for n in range(80)]
        known = journal(*records)
        for _ in range(200):
            since, asked = draw.randint(10, 90), words(*draw.sample(names, draw.choice((1, 3, 30))))
            named = {each for r in records if r.number > since for each in split_words(r.words)}
            assert known.concerns(asked, since) == bool(named & asked)


class TestFollowing:
    def test_an_older_reply_changes_nothing(self):
        known = journal(record(11, 200, "a"), record(12, 201, "b"))
        known.follow(11, [record(11, 200, "a"), record(12, 201, "b")])
        known.follow(10, [record(10, 100)])
        assert known.at == 12

    @pytest.mark.parametrize(
        "records",
        [
            [],
            [record(11, 200, "a")],
            [record(10, 100, mark=b"78"), record(11, 200, "a", mark=b"78")],
            [record(10, 100), record(12, 201, "b")],
            [record(10, 100), record(11, 200, "a", mark=b"78")],
            [record(9, 99), record(10, 100)],
        ],
        ids=["gone", "trimmed", "made anew", "one is missing", "made anew in between", "from before"],
    )
    def test_what_does_not_go_on_where_it_was_left_is_a_gap(self, records: list[Record]):
        with pytest.raises(Gap):
            journal().follow(10, records)

    def test_too_many_news_are_not_read(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(journal_module, "_NEWS", 3)
        with pytest.raises(Gap):
            journal().follow(10, [record(10 + n, 100 + n) for n in range(4)])

    def test_what_falls_out_of_the_window_raises_the_floor(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(journal_module, "_WINDOW", 2)
        known = journal(record(11, 900, "a"), record(12, 201, "b"), record(13, 202, "c"), record(14, 203, "d"))
        assert not known.concerns(words("x"), 10)
        known.follow(14, [record(14, 203, "d"), record(15, 204, "e")])
        assert known.concerns(words("x"), 12)
        assert not known.concerns(words("a"), 13)
        assert known.concerns(words("e"), 13)
        assert not known.covered(words("x"), 15, "850:850:")
        assert known.covered(words("x"), 15, "901:901:")


class TestCovered:
    def test_all_before_the_floor_must_be_over(self):
        assert not journal().covered(words("a"), 10, "100:200:")
        assert journal().covered(words("a"), 10, "101:200:")

    def test_only_what_was_named_up_to_there_counts(self):
        known = journal(record(11, 200, "a"), record(12, 205, "a", "b"))
        # 200 still runs; 205 is over.
        assert not known.covered(words("a"), 12, "200:206:200")
        assert known.covered(words("b"), 12, "200:206:200")
        # Not even 205 is known to have begun.
        assert not known.covered(words("b"), 12, "201:205:")
        assert known.covered(words("b"), 11, "201:205:")
        assert known.covered(words("a", "b"), 12, "206:206:")

    def test_a_transaction_may_be_in_several_records(self):
        known = journal(record(11, 200, "a"), record(12, 200, "b"))
        assert not known.covered(words("a"), 12, "200:201:200")
        assert not known.covered(words("b"), 12, "200:201:200")

    @pytest.mark.parametrize("seed", range(5))
    def test_as_a_plain_look_at_each_record_would_have_it(self, seed: int):
        draw = random.Random(seed)
        names = [str(number) for number in range(20)]
        xids = draw.sample(range(101, 200), 60)
        records = [record(11 + n, xid, *draw.sample(names, 2)) for n, xid in enumerate(xids)]
        known = journal(*records)
        for _ in range(200):
            xmin, asked, upto = draw.randint(99, 199), words(*draw.sample(names, 2)), draw.randint(10, 70)
            xmax = draw.randint(xmin, 200)
            running = draw.sample(range(xmin, xmax), min(3, xmax - xmin))
            snapshot = f"{xmin}:{xmax}:{','.join(map(str, running))}"
            unfinished = [r for r in records if r.number <= upto and (r.xid >= xmax or r.xid in running)]
            plain = xmin > 100 and not any(asked & set(split_words(r.words)) for r in unfinished)
            assert known.covered(asked, upto, snapshot) == plain, snapshot


class TestConcern:
    def test_it_moves_on_as_long_as_nothing_is_new(self):
        known = journal(record(11, 200, "x"))
        concern = Concern(MARK, 10, word("a"), word("b") + word("c"))
        assert concern.is_clear(known)
        assert concern.since == 11
        known.follow(11, [record(11, 200, "x"), record(12, 201, "c")])
        assert not concern.is_clear(known)
        assert concern.since == 11

    def test_another_journal_knows_nothing_of_it(self):
        concern = Concern(b"78", 10, word("a"), b"")
        assert not concern.is_clear(journal())
        assert not concern.is_clear(None)

    def test_a_record_of_too_much_concerns_all(self):
        ids = [new_id() for _ in range(2001)]
        packed = pack_words({word_of(each) for each in ids})
        assert packed == ALL
        assert len(pack_words({word_of(each) for each in ids[:2000]})) == 16_000
        known = journal()
        known.follow(10, [record(10, 100), Record(11, MARK, 200, packed)])
        assert not Concern(MARK, 10, b"", b"").is_clear(known)

    def test_it_is_packed_and_unpacked_whatever_its_words_are(self):
        odd = bytes(range(16))
        concern = Concern(MARK, 12, odd + b"\n1 2 3\n\n", word("b") + odd[8:])
        found, rest = unpack_concern(concern.pack() + b"body\n")
        assert (found.mark, found.since, found.words, found.audience) == (MARK, 12, concern.words, concern.audience)
        assert rest == b"body\n"

    def test_answers_of_one_reader_share_their_audience(self):
        one, other = (Concern(MARK, 1, word("a"), word("b") * n) for n in (1, 1))
        assert one._audience is other._audience

    def test_half_of_an_id(self):
        assert word_of(UUID("019aa1c2-5d3e-7f60-8a41-3c5e7d9b1f20")) == bytes.fromhex("8a413c5e7d9b1f20")


class TestOnRedis:
    """By the scripts, under the names that they have."""

    @pytest.fixture
    def ask(self, fresh: FreshCache) -> "Asker":
        return Asker(fresh)

    def test_joining_needs_a_base(self, ask: "Asker", fresh: FreshCache):
        assert ask.news() == Unjoined(is_claimed=False)
        ask.claim()
        assert ask.news() == Unjoined(is_claimed=True)
        ask.base("500")
        found = ask.news()
        assert isinstance(found, Position)
        assert found.at == 1
        assert not found.journal.covered(words("a"), 1, "500:501:")
        assert found.journal.covered(words("a"), 1, "501:501:")

    def test_each_touch_is_a_record_for_all_who_follow(self, ask: "Asker", fresh: FreshCache):
        ask.base("500")
        other = Asker(fresh)
        assert ask.news() != other.news() != None  # noqa: E711
        ask.touch("601", word("a") + word("b"))
        ask.touch("602", b"")
        ask.touch("603", word("c"))
        for each in (ask, other):
            position = each.news()
            assert isinstance(position, Position)
            assert position.at == 3
            assert position.journal.concerns(words("b"), 1)
            assert not position.journal.concerns(words("b"), 2)

    def test_who_joins_later_knows_by_the_base_what_was_before(self, ask: "Asker", fresh: FreshCache):
        ask.base("500")
        ask.news()
        ask.touch("601", word("a"))
        position = Asker(fresh).news()
        assert isinstance(position, Position)
        assert position.at == 2
        assert not position.journal.covered(words("x"), 2, "601:602:")

    def test_a_journal_that_was_lost_is_another_one(self, ask: "Asker", operator: redis.Redis):
        ask.base("500")
        first = ask.news()
        assert isinstance(first, Position)
        operator.delete(ask.prefix + "journal")
        ask.touch("601", word("a"))
        assert not operator.exists(ask.prefix + "journal")
        assert ask.news() is None
        second = ask.news()
        assert isinstance(second, Position)
        assert second.journal.mark != first.journal.mark
        # What was touched while there was none is below the new one's floor.
        assert not second.journal.covered(words("x"), second.at, "601:602:")

    def test_it_is_bounded_and_who_is_far_behind_begins_anew(
        self, ask: "Asker", operator: redis.Redis, monkeypatch: pytest.MonkeyPatch
    ):
        ask.base("500")
        ask.news()
        for number in range(journal_module._NEWS + 1):
            ask.touch(str(600 + number), word("a"))
        assert ask.news() is None
        found = ask.news()
        assert isinstance(found, Position)
        assert found.at == journal_module._NEWS + 2
        assert 0 < operator.ttl(ask.prefix + "journal") <= journal_module.JOURNAL_LIFE_S


class Asker:
    """A process that follows the journal, and writes to it."""

    def __init__(self, cache: FreshCache) -> None:
        self._store, self._follower = cache.store, Follower()
        self.prefix = "t:test:"

    def news(self) -> Position | Unjoined | None:
        question, asked_from = self._follower.question(self.prefix)
        (reply,) = self._store.ask([question])
        return self._follower.take(self.prefix, asked_from, reply)

    def claim(self) -> None:
        self._store.ask([self._store.claim_command(self.prefix, "ab")])

    def base(self, xid: str) -> None:
        self._store.ask([("SET", f"{self.prefix}base", xid)])

    def touch(self, xid: str, packed: bytes) -> None:
        self._store.ask([self._store.touch_command(self.prefix, (), xid, packed)])
