"""How an answer is taken from the cache, or computed and kept: every rule of it, and none of the I/O.

`ReadProtocol.read()` is a generator. Each value it yields is a step for a driver to take; the driver sends back what
came of the step, or throws into the generator what the step raised. reader.py takes the steps on a thread, and
api/server/loop_reader.py on an event loop.
"""

import secrets
import threading
import time
from collections.abc import Callable, Generator, Sequence
from typing import Any, NamedTuple, Protocol

from dues.reads.freshness.journal import Concern, unpack_concern
from dues.reads.freshness.snapshot import covers
from dues.reads.freshness.store import Hit, Miss, Store, Unestablished
from dues.reads.freshness.validator import Validator
from dues.redis.wire import CacheAway, Command

# The longest that a read waits for another process to compute the answer.
_WAIT_S = 2.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.001, 0.02


class Computed(NamedTuple):
    """An answer from PostgreSQL: what to keep, the `pg_current_snapshot()::text` of the one statement that it is
    made from, and for how many seconds it may be kept (0: not at all; None: the default). `words` and `audience` are
    what it depends on beside its tags, as a `Concern` has them, where it follows the journal."""

    payload: bytes
    snapshot: str
    life_s: float | None = None
    words: bytes = b""
    audience: bytes = b""


class Result(NamedTuple):
    """`validator` is how to find out later whether `payload` is still fresh; None: it may not be kept. It may be kept
    until `expires_at`, a time of this process's `time.monotonic()`, and no longer: what is left of its life comes from
    PostgreSQL and Redis, since clocks of two machines differ."""

    payload: bytes
    hit: bool
    validator: Validator | None
    expires_at: float = 0.0


class Look(NamedTuple):
    """Look the entry up, and ask the journal for its news where the read follows it. Send back a Lookup: None where the
    cache is off, or Redis did not answer."""


class Compute(NamedTuple):
    """Compute the answer from PostgreSQL. Send back a Computed."""


class ComputeOnReplica(NamedTuple):
    """Compute it on a replica that has seen all that `miss` lists. Send back a Computed whose snapshot is one of the
    primary's, all of which that replica has seen (marks.py); None where there is none. Never throw."""

    miss: "Miss"


class Check(NamedTuple):
    """Ask Redis whether an answer that was just made is still fresh. Send back whether it is."""

    validator: Validator


class Pause(NamedTuple):
    """Wait for so many seconds."""

    seconds: float


class WaitFor(NamedTuple):
    """Wait until this round has ended."""

    round: "Round"


class Ask(NamedTuple):
    """Have Redis carry out `commands`, and send back the replies. Throw CacheAway where it did not."""

    commands: Sequence[Command]


class Tell(NamedTuple):
    """The same, but nobody needs the replies. Never throw."""

    commands: Sequence[Command]


class NewTransactionId(NamedTuple):
    """Have PostgreSQL give out a transaction id, and send it back as text. Throw CacheAway where it did not."""


Step = Look | Compute | ComputeOnReplica | Check | Pause | WaitFor | Ask | Tell | NewTransactionId
Lookup = Hit | Miss | Unestablished | None
Steps = Generator[Step, Any, Result]


class Round(Protocol):
    """One computation of an answer, shared by all who asked for it before it began. `end()` wakes all who wait, and
    never blocks; `wait()` is for the driver alone, which blocks in it or awaits what it returns."""

    result: Result | None
    error: Exception | None

    def end(self) -> None: ...

    def wait(self) -> Any: ...


class ReadProtocol:
    """The reads of one driver, and which of them are under way. `new_round` makes a round of the driver's kind;
    `count` is told what each read came to: hit, kept or passed. The driver `has_replicas` to compute on."""

    def __init__(
        self,
        store: Store,
        life_s: float,
        new_round: Callable[[], Round],
        count: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
        *,
        has_replicas: bool = False,
    ) -> None:
        self._store, self._life_s, self._has_replicas = store, life_s, has_replicas
        self._new_round, self._count, self._clock = new_round, count, clock
        # Never held over a step.
        self._lock = threading.Lock()
        self._in_flight: dict[str, Round] = {}
        self._next_round: dict[str, Round] = {}

    def read(self, key: str, tags: Sequence[str], *, follows: bool = False) -> Steps:
        """The answer that `key` names, and which depends on nothing but rows under `tags`, and where it `follows` the
        journal on what it says itself.

        On a miss while the same key is being computed here already, wait for the round after that one, and share it
        with all who come meanwhile: nobody gets an answer whose computation began before they asked. What `Compute`
        raises is raised for all who share the round, and not kept.
        """
        found: Lookup = yield Look()
        if result := self._fresh(found, follows):
            return result
        mine, ahead, is_mine_to_run = self._join(key)
        if (ahead or not is_mine_to_run) and isinstance(found, Miss) and found.fills:
            yield Tell(self._store.release_commands(found.validator, key))
        if not is_mine_to_run:
            yield WaitFor(mine)
            if mine.error:
                raise mine.error
            return mine.result or (yield from self._read_alone(key, follows, (yield Look())))
        try:
            if ahead:
                yield WaitFor(ahead)
                self._begin(key, mine)
                found = yield Look()
            mine.result = yield from self._read_alone(key, follows, found)
            return mine.result
        except Exception as error:
            mine.error = error
            raise
        finally:
            self._end(key, mine)

    def _join(self, key: str) -> tuple[Round, Round | None, bool]:
        """The round to share, the one to wait for before it may begin, and whether it is the caller who runs it."""
        with self._lock:
            if found := self._next_round.get(key):
                return found, None, False
            ahead = self._in_flight.get(key)
            mine = self._new_round()
            (self._next_round if ahead else self._in_flight)[key] = mine
            return mine, ahead, True

    def _begin(self, key: str, mine: Round) -> None:
        with self._lock:
            del self._next_round[key]
            self._in_flight[key] = mine

    def _end(self, key: str, mine: Round) -> None:
        with self._lock:
            for rounds in (self._in_flight, self._next_round):
                if rounds.get(key) is mine:
                    del rounds[key]
        mine.end()

    def _fresh(self, found: Lookup, follows: bool) -> Result | None:
        """The answer that was found, if it is fresh."""
        result = unpack(found, follows=follows) if isinstance(found, Hit) else None
        if result:
            self._count("hit")
        return result

    def _read_alone(self, key: str, follows: bool, found: Lookup) -> Steps:
        """As `read()` after a look has found `found`, sharing with nobody but through Redis."""
        if isinstance(found, Unestablished) or (isinstance(found, Miss) and found.must_wait):
            found = yield from self._wait_for_others(found)
        if result := self._fresh(found, follows):
            return result
        if isinstance(found, Hit):
            # Untouched by its tags, but there were news of it: nobody waits for another.
            found = Miss(
                found.validator, fills=False, must_wait=False, since_ms=found.since_ms, position=found.position
            )
        miss = found if isinstance(found, Miss) else None
        try:
            result, entry = yield from self._compute(miss, follows)
        except BaseException:
            if miss and miss.fills:
                yield Tell(self._store.release_commands(miss.validator, key))
            raise
        if miss and entry:
            yield Tell(self._store.fill_commands(miss.validator, key, *entry))
        elif miss and miss.fills:
            yield Tell(self._store.release_commands(miss.validator, key))
        self._count("kept" if entry else "passed")
        return result

    def _compute(self, miss: Miss | None, follows: bool) -> Generator[Step, Any, "tuple[Result, Entry | None]"]:
        """The answer, and what may be kept of it: a replica's where that is certainly what the primary would give, else
        the primary's.

        A replica that has seen enough may have seen more: a commit that the primary itself does not show yet. Its
        transaction has touched its tags before, so the answer is checked once more.
        """
        if miss and self._has_replicas:
            began = self._clock()
            seen: Computed | None = yield ComputeOnReplica(miss)
            if seen:
                result, entry = judge(miss, seen, self._life_s, began, self._clock(), follows=follows)
                if entry and result.validator and (yield Check(result.validator)):
                    return result, entry
        began = self._clock()
        answer: Computed = yield Compute()
        return judge(miss, answer, self._life_s, began, self._clock(), follows=follows)

    def _wait_for_others(self, found: Lookup) -> Generator[Step, Any, Lookup]:
        """Look again until nobody else, in another process, is computing the entry or establishing the base."""
        deadline, pause = self._clock() + _WAIT_S, _FIRST_PAUSE_S
        while isinstance(found, Unestablished) or (isinstance(found, Miss) and found.must_wait):
            if self._clock() >= deadline:
                return found if isinstance(found, Miss) else None
            if isinstance(found, Unestablished) and not found.is_claimed:
                try:
                    yield from establish_base(self._store, found.prefix)
                except CacheAway:
                    return None
            else:
                yield Pause(pause)
                pause = min(pause * 2, _LONGEST_PAUSE_S)
            found = yield Look()
        return found


def establish_base(store: Store, prefix: str) -> Generator[Step, Any, bool]:
    """Claim the base, *then* have PostgreSQL give out an id, and write that id down. False if somebody else does.
    Raises: CacheAway."""
    mark = secrets.token_hex(8)
    (claimed,) = yield Ask([store.claim_command(prefix, mark)])
    if claimed is None:
        return False
    xid: str = yield NewTransactionId()
    (established,) = yield Ask([store.establish_command(prefix, mark, xid)])
    return bool(established == 1)


class Entry(NamedTuple):
    """What is kept of an answer, and for how many seconds from `since_ms` of Redis' clock on."""

    payload: bytes
    life_s: float
    since_ms: int


def judge(
    miss: Miss | None, answer: Computed, life_s: float, began: float, moment: float, *, follows: bool = False
) -> tuple[Result, Entry | None]:
    """An answer that was computed, from `began` on, after a look that missed, and what may be kept of it at `moment`
    (both of one clock), for `life_s` at most: None where its snapshot does not cover all that has touched what it
    depends on, or where nothing is known of that.

    It ends by Redis' clock, counted from the look, which came before `began`: a Redis that stood still since then does
    not prolong it.
    """
    if answer.life_s is not None:
        life_s = min(answer.life_s, life_s)
    expires_at = began + life_s
    not_kept = Result(answer.payload, False, None), None
    if miss is None or expires_at <= moment or not covers(miss.validator.version, answer.snapshot):
        return not_kept
    if not follows:
        entry = Entry(answer.payload, life_s, miss.since_ms)
        return Result(answer.payload, False, miss.validator, expires_at), entry
    if miss.position is None:
        return not_kept
    journal, at = miss.position
    concern = Concern(journal.mark, at, answer.words, answer.audience)
    if not concern.is_covered(journal, answer.snapshot):
        return not_kept
    validator = miss.validator._replace(concern=concern)
    entry = Entry(concern.pack() + answer.payload, life_s, miss.since_ms)
    return Result(answer.payload, False, validator, expires_at), entry


def unpack(hit: Hit, *, follows: bool = False) -> Result | None:
    """The answer of an entry that was found; None where the journal has news of it, or was not asked, or where somebody
    else has written into the cache."""
    payload, validator = hit.payload, hit.validator
    if follows:
        try:
            concern, payload = unpack_concern(payload)
        except ValueError:
            return None
        if hit.position is None or not concern.is_clear(hit.position.journal):
            return None
        validator = validator._replace(concern=concern)
    return Result(payload, True, validator, hit.ends_at)
