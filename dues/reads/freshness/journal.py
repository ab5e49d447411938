"""The journal: one list in Redis of what was changed lately, for answers that depend on more than a few tags.

A feed depends on everybody whom its reader follows and on each post that it shows, far more than could be asked for by
tag each time, and the posts are known only once it is made. So each transaction that changes such things also adds a
**record** to the journal, which names them in words of eight bytes; and a process that keeps feeds reads the journal's
news along with every question that it asks Redis anyway, and holds the news against the words of its answers.

`Journal` is what one process knows of it. It holds no answer and does no I/O: `Follower` says what to ask, and takes in
the replies.
"""

import secrets
import threading
from bisect import bisect_left, insort
from collections.abc import Collection, Sequence
from typing import NamedTuple
from uuid import UUID
from weakref import WeakValueDictionary

from dues.reads.freshness.lua import JOIN
from dues.redis.wire import CacheAway, Command, Reply

WORD_BYTES = 8
# In a record instead of more words than fit; every answer that follows the journal is taken to have it.
ALL = b"\0\0\0\0all\0"
# Of what everybody is shown.
PUBLIC = b"\0\0public"
_MOST_WORDS = 2000

# Records that a process holds, and that Redis does. A process that is further behind than `_NEWS` begins anew.
_WINDOW, KEPT_RECORDS = 16_384, 20_000
_NEWS = 1000
_MARK_BITS = 48
JOURNAL_LIFE_S = 7200


def word_of(id_: UUID) -> bytes:
    """Half of an id: where two ids share it, an answer is made once more than it need be."""
    return id_.bytes[WORD_BYTES:]


def split_words(packed: bytes) -> list[bytes]:
    return [packed[start : start + WORD_BYTES] for start in range(0, len(packed), WORD_BYTES)]


def pack_words(words: Collection[bytes]) -> bytes:
    """As a record has them."""
    return b"".join(sorted(words)) if len(words) <= _MOST_WORDS else ALL


class Gap(Exception):
    """The journal is not the one that was followed, or lacks records: nothing is known of what happened meanwhile."""


class Record(NamedTuple):
    number: int
    mark: bytes
    xid: int
    words: bytes


class Journal:
    """The journal under one `prefix`, as far as it was followed. Any thread may ask.

    `mark` tells it from one that is made after this one was lost. No transaction that touched the journal before the
    records held here has an id above `floor`.
    """

    def __init__(self, prefix: str, mark: bytes, at: int, floor: int) -> None:
        self.prefix, self.mark, self.at = prefix, mark, at
        self._floor, self._first = floor, at + 1
        # All words in a row, where each record's end, and each record's transaction.
        self._words: list[bytes] = []
        self._ends: list[int] = []
        self._xids: list[int] = []
        # The newest record that names a word; and the records by transaction.
        self._newest: dict[bytes, int] = {}
        self._by_xid: list[tuple[int, int]] = []
        self._lock = threading.Lock()

    def follow(self, asked_from: int, records: Sequence[Record]) -> None:
        """Take in the records from `asked_from` on. Raises: Gap."""
        if not records or len(records) > _NEWS:
            raise Gap
        with self._lock:
            for place, record in enumerate(records):
                # The first is the one that was asked from: it is still there, and so is all that came after it.
                if record.mark != self.mark or record.number != asked_from + place:
                    raise Gap
                if record.number > self.at:
                    self._add(record)
            if len(self._ends) > 2 * _WINDOW:
                self._forget()

    def _add(self, record: Record) -> None:
        words = split_words(record.words)
        self._words += words
        self._ends.append(len(self._words))
        self._xids.append(record.xid)
        self._newest.update(dict.fromkeys(words, record.number))
        insort(self._by_xid, (record.xid, record.number))
        self.at = record.number

    def _forget(self) -> None:
        """Hold no more than the window. What is dropped raises the floor."""
        count = len(self._ends) - _WINDOW
        words = self._ends[count - 1]
        self._floor = max(self._floor, *self._xids[:count])
        self._first += count
        del self._words[:words], self._xids[:count]
        self._ends = [end - words for end in self._ends[count:]]
        self._by_xid = [pair for pair in self._by_xid if pair[1] >= self._first]
        self._newest = {word: number for word, number in self._newest.items() if number >= self._first}

    def concerns(self, words: frozenset[bytes], since: int) -> bool:
        """Whether a record after `since` names one of `words`. True, too, where not all of those records are held."""
        with self._lock:
            if since == self.at:
                return False
            if not self._first - 1 <= since < self.at:
                return True
            start = self._ends[since - self._first] if since >= self._first else 0
            # Either each of the news is looked up among the words, or each word among the news.
            if len(self._words) - start <= 4 * len(words):
                return not words.isdisjoint(self._words[start:])
            return any(self._newest.get(word, 0) > since for word in words)

    def covered(self, words: frozenset[bytes], upto: int, snapshot: str) -> bool:
        """Whether `snapshot` (as in snapshot.py) has seen the end of every transaction that, by the records up to
        `upto`, changed something of `words`."""
        xmin, xmax, listed = snapshot.split(":")
        running = map(int, listed.split(",")) if listed else ()
        with self._lock:
            if self._floor >= int(xmin):
                return False
            unfinished = self._by_xid[bisect_left(self._by_xid, (int(xmax), 0)) :]
            for xid in running:
                place = bisect_left(self._by_xid, (xid, 0))
                while place < len(self._by_xid) and self._by_xid[place][0] == xid:
                    unfinished.append(self._by_xid[place])
                    place += 1
            return all(words.isdisjoint(self._words_of(number)) for _, number in unfinished if number <= upto)

    def _words_of(self, number: int) -> list[bytes]:
        place = number - self._first
        return self._words[self._ends[place - 1] if place else 0 : self._ends[place]]


class Position(NamedTuple):
    """Where a process stood in its journal when it looked an answer up."""

    journal: Journal
    at: int


class Unjoined(NamedTuple):
    """The journal cannot be joined before there is a base; `is_claimed` if somebody is establishing one."""

    is_claimed: bool


class Follower:
    """A process's way of following the journal: any number of threads, or one event loop."""

    def __init__(self) -> None:
        self._journal: Journal | None = None

    def question(self, prefix: str) -> tuple[Command, int | None]:
        """What to ask Redis together with what is asked under `prefix`, and from which record on it asks; None: it
        joins."""
        journal, name = self._journal, f"{prefix}journal"
        if journal is None or journal.prefix != prefix:
            mark = secrets.randbits(_MARK_BITS)
            return ("EVALSHA", JOIN.sha, 2, f"{prefix}base", name, mark, JOURNAL_LIFE_S), None
        at = journal.at
        return ("XRANGE", name, b"%d-%b" % (at, journal.mark), "+", "COUNT", _NEWS + 1), at

    def take(self, prefix: str, asked_from: int | None, reply: Reply) -> Position | Unjoined | None:
        """Take in the reply to that question; None where nothing is known, and the next question joins. Raises:
        CacheAway for what is no reply to it."""
        journal = self._journal
        if asked_from is None:
            return self._join(prefix, reply)
        if journal is None or journal.prefix != prefix:
            return None
        try:
            journal.follow(asked_from, _records(reply))
        except Gap:
            if self._journal is journal:
                self._journal = None
            return None
        return Position(journal, journal.at)

    def _join(self, prefix: str, reply: Reply) -> Position | Unjoined | None:
        match reply:
            case [bytes(name), bytes(base)]:
                number, mark = _numbered(name)
                journal, known = Journal(prefix, mark, number, _whole(base)), self._journal
                # Another thread may have joined meanwhile, and followed as far as this reply tells.
                if known and (known.prefix, known.mark) == (prefix, mark) and known.at >= journal.at:
                    return Position(known, known.at)
                self._journal = journal
                return Position(journal, journal.at)
            case [None, *base]:
                return Unjoined(is_claimed=bool(base and base[0]))
        raise CacheAway(_OTHER_FORM)


_OTHER_FORM = "the journal answered in another form"


def _records(reply: Reply) -> list[Record]:
    """Raises: CacheAway for what is no reply to the question."""
    if not isinstance(reply, list):
        raise CacheAway(_OTHER_FORM)
    records = []
    for each in reply:
        match each:
            case [bytes(name), [bytes(xid), bytes(words)]]:
                records.append(Record(*_numbered(name), _whole(xid), words))
            case _:
                raise CacheAway(_OTHER_FORM)
    return records


def _numbered(name: bytes) -> tuple[int, bytes]:
    """A record's number, and its journal's mark. Raises: CacheAway."""
    number, _, mark = name.partition(b"-")
    return _whole(number), mark


def _whole(digits: bytes) -> int:
    try:
        return int(digits)
    except ValueError as error:
        raise CacheAway(_OTHER_FORM) from error


class Concern:
    """What an answer depends on beside its tags: it is fresh while no record after `since` of the journal with this
    mark names one of its words. `since` moves on with each check that says so.

    `words` name what the answer shows, packed; `audience` whom and what its reader looks at, which many answers of one
    reader share.
    """

    __slots__ = ("_audience", "_words", "audience", "mark", "since", "words")

    def __init__(self, mark: bytes, since: int, words: bytes, audience: bytes) -> None:
        self.mark, self.since, self.words, self.audience = mark, since, words, audience
        self._words, self._audience = as_words(words), as_audience(audience)

    def is_clear(self, journal: Journal | None) -> bool:
        """Whether the answer is fresh by the news of `journal`, which was asked for them after the request arrived."""
        if journal is None or journal.mark != self.mark:
            return False
        at = journal.at
        if journal.concerns(self._words, self.since) or journal.concerns(self._audience, self.since):
            return False
        self.since = max(self.since, at)
        return True

    def is_covered(self, journal: Journal, snapshot: str) -> bool:
        """Whether `snapshot`, in which the answer was read, has seen all that changed it up to `since`."""
        return journal.covered(self._words, self.since, snapshot) and journal.covered(
            self._audience, self.since, snapshot
        )

    @property
    def weight(self) -> int:
        """About how many bytes it takes in memory."""
        return 100 * (len(self._words) + len(self._audience))

    def pack(self) -> bytes:
        sizes = b"%b %d %d %d\n" % (self.mark, self.since, len(self.words), len(self.audience))
        return sizes + self.words + self.audience


def unpack_concern(data: bytes) -> tuple[Concern, bytes]:
    """What `pack()` made, and what follows it. Raises: ValueError for anything else."""
    head, _, rest = data.partition(b"\n")
    mark, since, words, audience = head.split(b" ")
    middle, end = int(words), int(words) + int(audience)
    return Concern(mark, int(since), rest[:middle], rest[middle:end]), rest[end:]


def as_words(packed: bytes) -> frozenset[bytes]:
    """The words that an answer shows; every answer is concerned by ALL."""
    return frozenset([*split_words(packed), ALL])


_audiences: "WeakValueDictionary[bytes, frozenset[bytes]]" = WeakValueDictionary()


def as_audience(packed: bytes) -> frozenset[bytes]:
    """The words of an audience, the same object for all of a reader's answers, since there may be thousands of them."""
    if found := _audiences.get(packed):
        return found
    audience = _audiences[packed] = frozenset(split_words(packed))
    return audience
