"""Redis's side of the protocol: what lies there under which name, and the calls on it.

base        the highest id that may have touched anything so far, or a claim to establish it: `?mark:id`
journal     what was changed lately, in words   (journal.py)
tag         `floor;id,id,…`                     (snapshot.py)
entry       the version it was filled under, a line's end, its payload
lead        that somebody computes a missing entry, so that others wait; or that nobody need wait

Every name holds the server's `run_id` and the switch's generation, so nothing from before a restart or an outage
can be met again. Everything expires, and may be evicted at any moment.
"""

import time
from collections.abc import Sequence
from hashlib import blake2b
from typing import NamedTuple

from dues.reads.freshness.journal import JOURNAL_LIFE_S, KEPT_RECORDS, Follower, Position, Unjoined
from dues.reads.freshness.lua import ESTABLISH, LOOK, SCRIPTS, TOUCH
from dues.reads.freshness.validator import Validator
from dues.redis.wire import Address, CacheAway, Command, Connection, Pool, Reply

LOOK_TIMEOUT_S = 0.25
TOUCH_TIMEOUT_S = 0.5
# How many transactions a tag lists one by one; for those before them it knows only the highest id.
NEWEST_IDS = 8
_TAG_LIFE_S = 7200
# A tag that was asked for and under which nothing was kept: made-up ids fill no memory for long.
_TRIAL_LIFE_S = 60
_CLAIM_LIFE_MS = 1000
_LEAD_LIFE_MS = 2000
# For so long, once an answer could not be kept, nobody waits for another's.
_NO_LEAD_LIFE_MS = 250
_NOBODY = b"-"


class Hit(NamedTuple):
    """An entry whose tags have not been touched, and which Redis keeps until `ends_at`, a time of this process's
    `time.monotonic()`: what was left of its life counts from when Redis was asked, however late the reply was read. It
    is past where the entry was put there without an end. `since_ms`: when Redis looked, by its own clock. Where the
    journal was asked for its news, `position` is how far it was followed; None: nothing is known of them."""

    payload: bytes
    validator: Validator
    ends_at: float
    since_ms: int
    position: Position | None = None


class Miss(NamedTuple):
    """`fills`: the asker is the one to compute the entry; `must_wait`: somebody else is at it. `since_ms` and
    `position` as in Hit."""

    validator: Validator
    fills: bool
    must_wait: bool
    since_ms: int
    position: Position | None = None


class Unestablished(NamedTuple):
    """A tag is missing and there is no base under `prefix` to make it from; `is_claimed` if somebody is establishing
    one."""

    prefix: str
    is_claimed: bool


class Store:
    """The cache in one Redis. Every method raises CacheAway when Redis does not do it in time."""

    def __init__(self, url: str, prefix: str = "dues:", release: bytes = b"", pool: Pool | None = None) -> None:
        """`release` tells apart what different versions of the program keep; tags they share."""
        self._prefix, self._release = prefix, release
        self._pool = pool or Pool(Address.parse(url), [script.text for script in SCRIPTS])

    def prefix(self, run_id: str, generation: int) -> str:
        return f"{self._prefix}{run_id}:{generation:x}:"

    def name(self, word: str) -> str:
        """A name in Redis that outlives generations."""
        return self._prefix + word

    def look(
        self, generation: int, key: str, tags: Sequence[str], follower: Follower | None = None
    ) -> Hit | Miss | Unestablished:
        """The entry `key` if its tags are untouched, and with a `follower` the news of the journal. Without tags
        nothing can be known: there must be at least one."""
        prefix, asked_from, asked_at = "", None, 0.0

        def commands(connection: Connection) -> list[Command]:
            nonlocal prefix, asked_from, asked_at
            asked_at = time.monotonic()
            prefix = self.prefix(connection.run_id, generation)
            look = self.look_command(prefix, key, tags)
            if follower is None:
                return [look]
            question, asked_from = follower.question(prefix)
            return [look, question]

        def understand(replies: list[Reply]) -> Hit | Miss | Unestablished:
            found = found_by(replies[0], prefix, tags, asked_at)
            return with_news(found, follower.take(prefix, asked_from, replies[1])) if follower else found

        return self._pool.ask_for(commands, LOOK_TIMEOUT_S, understand)

    def ask(self, commands: Sequence[Command]) -> list[Reply]:
        """Have commands carried out whose names were written before."""
        return self._pool.ask(lambda _: commands, LOOK_TIMEOUT_S)

    def tell(self, commands: Sequence[Command]) -> None:
        """The same, without waiting for it to be done."""
        self._pool.tell(commands, LOOK_TIMEOUT_S)

    def look_command(self, prefix: str, key: str, tags: Sequence[str]) -> Command:
        """Look an entry up; `found_by()` understands the reply."""
        entry = self._digest(key)
        names = (f"{prefix}base", f"{prefix}e:{entry}", f"{prefix}l:{entry}", *_tag_names(prefix, tags))
        return ("EVALSHA", LOOK.sha, len(names), *names, _TRIAL_LIFE_S, _LEAD_LIFE_MS)

    def fill_commands(
        self, validator: Validator, key: str, payload: bytes, life_s: float, since_ms: int
    ) -> list[Command]:
        """Keep an answer whose snapshot covers `validator.version`, and end the lead on it. An entry that is lost is
        computed again. It is kept for so long from `since_ms` of Redis' clock on, however late Redis comes to it."""
        entry = self._digest(key)
        data = validator.version.encode() + b"\n" + payload
        keep = ("SET", f"{validator.prefix}e:{entry}", data, "PXAT", since_ms + int(life_s * 1000))
        last = [("EXPIRE", name, _TAG_LIFE_S) for name in validator.names()]
        return [keep, ("DEL", f"{validator.prefix}l:{entry}"), *last]

    def release_commands(self, validator: Validator, key: str) -> list[Command]:
        """The answer could not be kept: let all who wait for it compute it for themselves."""
        lead = f"{validator.prefix}l:{self._digest(key)}"
        return [("SET", lead, _NOBODY, "PX", _NO_LEAD_LIFE_MS)]

    def claim_command(self, prefix: str, mark: str) -> Command:
        """Claim the base. The reply is None where somebody else has."""
        return ("SET", f"{prefix}base", f"?{mark}:0", "NX", "PX", _CLAIM_LIFE_MS)

    def establish_command(self, prefix: str, mark: str, xid: str) -> Command:
        """Turn the claim into a base at `xid`, or at what was touched since where that is higher. The reply is 1 where
        the claim was still there."""
        return ("EVALSHA", ESTABLISH.sha, 1, f"{prefix}base", mark, xid, _TAG_LIFE_S)

    def touch(self, generation: int, tags: Sequence[str], xid: str, words: bytes = b"") -> None:
        """Append a transaction's id to its tags, and a record with its words to the journal. Returning is the
        acknowledgement."""

        def commands(connection: Connection) -> list[Command]:
            return [self.touch_command(self.prefix(connection.run_id, generation), tags, xid, words)]

        self._pool.ask_for(commands, TOUCH_TIMEOUT_S, _require_touched)

    def touch_command(self, prefix: str, tags: Sequence[str], xid: str, words: bytes) -> Command:
        names = (f"{prefix}base", f"{prefix}journal", *_tag_names(prefix, tags))
        return ("EVALSHA", TOUCH.sha, len(names), *names, xid, NEWEST_IDS, words, KEPT_RECORDS, JOURNAL_LIFE_S)

    def count(self, name: str, window_s: int, count: int = 1) -> tuple[int, int]:
        """Count so many more in a window that begins with the first and ends by Redis's clock. Returns: how many there
        are, these included, and in how many seconds the window ends."""
        return self._pool.ask_for(lambda _: self.count_commands(name, window_s, count), LOOK_TIMEOUT_S, counted_by)

    def count_commands(self, name: str, window_s: int, count: int) -> list[Command]:
        """The commands of that, for a caller with a connection of its own."""
        key = self.name(name)
        return [("INCRBY", key, count), ("EXPIRE", key, window_s, "NX"), ("TTL", key)]

    def _digest(self, key: str) -> str:
        """Keys hold whatever a client sent, of any length; names in Redis do not."""
        return blake2b(key.encode(), digest_size=24, key=self._release).hexdigest()

    def close(self) -> None:
        """Close the connections that lie idle."""
        self._pool.close()


def found_by(reply: Reply, prefix: str, tags: Sequence[str], asked_at: float) -> Hit | Miss | Unestablished:
    """What a look at `tags` that was asked for at `asked_at`, a time of `time.monotonic()`, has found, from its reply.
    Raises: CacheAway for what is no reply to that look."""
    blanks = len(tags) - 1
    match reply:
        case [bytes(version), bytes(payload), int(left_ms), int(since_ms)] if version.count(b" ") == blanks:
            validator = Validator(prefix, tuple(tags), version.decode(errors="replace"))
            return Hit(payload, validator, asked_at + left_ms / 1000, since_ms)
        case [bytes(version), None, leader, int(since_ms)] if version.count(b" ") == blanks:
            validator = Validator(prefix, tuple(tags), version.decode(errors="replace"))
            return Miss(validator, leader == b"", leader not in (b"", _NOBODY, None), since_ms)
        case [None, *base]:
            return Unestablished(prefix, is_claimed=bool(base and base[0]))
    raise CacheAway("look answered in another form")


def counted_by(replies: Sequence[Reply]) -> tuple[int, int]:
    """What counting has come to, and in how many seconds its window ends. Raises: CacheAway for what is no reply to
    that."""
    match replies:
        case [int(used), int(), int(ends_in_s)]:
            return used, ends_in_s
    raise CacheAway("a number was asked for, and is not what was answered")


def _require_touched(replies: Sequence[Reply]) -> None:
    """Raises: CacheAway for what is no acknowledgement of a touch."""
    if replies != [1]:
        raise CacheAway("a touch was to be acknowledged, and is not what was answered")


def with_news(found: Hit | Miss | Unestablished, news: Position | Unjoined | None) -> Hit | Miss | Unestablished:
    """What was found, with how far the journal was followed in the same question."""
    if isinstance(found, Unestablished):
        return found
    if isinstance(news, Unjoined):
        # Who has the lead computes, since others wait for it; anybody else sees to it that there is a base.
        has_lead = isinstance(found, Miss) and found.fills
        return found if has_lead else Unestablished(found.validator.prefix, news.is_claimed)
    return found._replace(position=news)


def generation_of(prefix: str) -> int:
    """The generation that names with this prefix belong to."""
    return int(prefix.split(":")[-2], 16)


def _tag_names(prefix: str, tags: Sequence[str]) -> list[str]:
    return [f"{prefix}t:{tag}" for tag in tags]
