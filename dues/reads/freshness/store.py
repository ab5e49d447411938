"""Redis's side of the protocol: what lies there under which name, and the calls on it.

base        the highest id that may have touched anything so far, or a claim to find it out: `?mark:id`
tag         `floor;id,id,…`                     (snapshot.py)
entry       the version it was filled under, a line's end, its payload
lead        who computes an entry that is missing, so that others wait; or that nobody need wait

Every name holds the server's `run_id` and the switch's generation, so nothing from before a restart or an outage
can be met again. Everything expires, and may be evicted at any moment.
"""

import secrets
from collections.abc import Callable, Sequence
from hashlib import blake2b, sha1
from pathlib import Path
from typing import NamedTuple, cast

from dues.redis.wire import Address, CacheAway, Command, Connection, Pool, Reply


class Script:
    """A script of `scripts/`, called by the SHA-1 that Redis knows it by."""

    def __init__(self, name: str) -> None:
        self.text = (Path(__file__).parent / "scripts" / f"{name}.lua").read_bytes()
        self.sha = sha1(self.text, usedforsecurity=False).hexdigest()


_FOUND, _LOOK, _TOUCH = SCRIPTS = Script("found"), Script("look"), Script("touch")

LOOK_TIMEOUT_S = 0.25
TOUCH_TIMEOUT_S = 0.5
# How many transactions a tag lists one by one; for those before them it knows only the highest id.
NEWEST_IDS = 8
_TAG_LIFE_S = 7200
# A tag that was asked for and under which nothing was kept: whoever makes up ids fills no memory with them for long.
_TRIAL_LIFE_S = 60
_CLAIM_LIFE_MS = 1000
_LEAD_LIFE_MS = 2000
# For so long, once an answer could not be kept, nobody waits for another's.
_NO_LEAD_LIFE_MS = 250
_NOBODY = b"-"


class Proof(NamedTuple):
    """What to ask Redis to know that an answer is fresh: whether `tags` under `prefix` still read `version`."""

    prefix: str
    tags: tuple[str, ...]
    version: str

    def names(self) -> list[str]:
        return [f"{self.prefix}t:{tag}" for tag in self.tags]

    def holds(self, values: Sequence[Reply]) -> bool:
        """Whether `values`, which Redis gave for `names()` after the request arrived, are still those of `version`."""
        return None not in values and b" ".join(cast(Sequence[bytes], values)) == self.version.encode()


class Hit(NamedTuple):
    payload: bytes
    proof: Proof


class Miss(NamedTuple):
    """`leads`: the asker is the one to compute; `waits`: somebody else does at this moment."""

    proof: Proof
    leads: bool
    waits: bool


class Unfounded(NamedTuple):
    """A tag is missing and there is no base to make it from; `claimed` if somebody is finding one."""

    claimed: bool


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

    def look(self, generation: int, key: str, tags: Sequence[str]) -> Hit | Miss | Unfounded:
        """The entry `key` if it is fresh. Without tags nothing can be known: there must be at least one."""
        prefix = ""

        def commands(connection: Connection) -> list[Command]:
            nonlocal prefix
            prefix = self.prefix(connection.run_id, generation)
            return [self.looking(prefix, key, tags)]

        (reply,) = self._pool.ask(commands, LOOK_TIMEOUT_S)
        return seen(reply, prefix, tags)

    def looking(self, prefix: str, key: str, tags: Sequence[str]) -> Command:
        """The command of a look, for who speaks to Redis himself; `seen()` understands its reply."""
        entry = self._digest(key)
        names = (f"{prefix}base", f"{prefix}e:{entry}", f"{prefix}l:{entry}", *_tag_names(prefix, tags))
        return ("EVALSHA", _LOOK.sha, len(names), *names, _TRIAL_LIFE_S, _LEAD_LIFE_MS)

    def check(self, generation: int, proof: Proof) -> bool:
        """Whether what a process kept in its own memory is still fresh."""

        def commands(connection: Connection) -> list[Command]:
            if proof.prefix != self.prefix(connection.run_id, generation):
                return []
            return [("MGET", *proof.names())]

        replies = self._pool.ask(commands, LOOK_TIMEOUT_S)
        return bool(replies) and proof.holds(cast(list[Reply], replies[0]))

    def fill(self, proof: Proof, key: str, payload: bytes, life_s: float) -> None:
        """Keep an answer whose snapshot covers `proof.version`, and end the lead on it. Nobody waits for it to be done:
        an entry that is lost is computed again."""
        self._pool.tell(self.filling(proof, key, payload, life_s), LOOK_TIMEOUT_S)

    def filling(self, proof: Proof, key: str, payload: bytes, life_s: float) -> list[Command]:
        entry = self._digest(key)
        data = proof.version.encode() + b"\n" + payload
        keep = ("SET", f"{proof.prefix}e:{entry}", data, "PX", max(1, int(life_s * 1000)))
        last = [("EXPIRE", name, _TAG_LIFE_S) for name in proof.names()]
        return [keep, ("DEL", f"{proof.prefix}l:{entry}"), *last]

    def release(self, proof: Proof, key: str) -> None:
        """The answer could not be kept: let all who wait for it compute it for themselves."""
        self._pool.tell(self.releasing(proof, key), LOOK_TIMEOUT_S)

    def releasing(self, proof: Proof, key: str) -> list[Command]:
        lead = f"{proof.prefix}l:{self._digest(key)}"
        return [("SET", lead, _NOBODY, "PX", _NO_LEAD_LIFE_MS)]

    def touch(self, generation: int, tags: Sequence[str], xid: str) -> None:
        """Append a transaction's id to its tags. Returning is the acknowledgement."""

        def commands(connection: Connection) -> list[Command]:
            prefix = self.prefix(connection.run_id, generation)
            names = (f"{prefix}base", *_tag_names(prefix, tags))
            return [("EVALSHA", _TOUCH.sha, len(names), *names, xid, NEWEST_IDS)]

        self._pool.ask(commands, TOUCH_TIMEOUT_S)

    def found_base(self, generation: int, new_xid: Callable[[], str]) -> bool:
        """Find a base: claim it, have PostgreSQL give out an id, write that id down. False if somebody else does."""
        mark, name = secrets.token_hex(8), ""

        def claim(connection: Connection) -> list[Command]:
            nonlocal name
            name = self.prefix(connection.run_id, generation) + "base"
            return [("SET", name, f"?{mark}:0", "NX", "PX", _CLAIM_LIFE_MS)]

        (claimed,) = self._pool.ask(claim, LOOK_TIMEOUT_S)
        if claimed is None:
            return False
        xid = new_xid()
        (found,) = self._pool.ask(lambda _: [("EVALSHA", _FOUND.sha, 1, name, mark, xid, _TAG_LIFE_S)], LOOK_TIMEOUT_S)
        return found == 1

    def count(self, name: str, life_s: int, count: int = 1) -> int:
        """So many more on a counter that lasts `life_s` from its first; how many there are, these included."""
        replies = self._pool.ask(lambda _: self.counting(name, life_s, count), LOOK_TIMEOUT_S)
        return cast(int, replies[1])

    def counting(self, name: str, life_s: int, count: int) -> list[Command]:
        """The commands of that, for who speaks to Redis himself."""
        key = self.name(name)
        return [("SET", key, 0, "NX", "EX", life_s), ("INCRBY", key, count)]

    def takes_writes(self) -> bool:
        """Whether Redis can be written to: what a touch needs."""
        try:
            self._pool.ask(lambda _: [("SET", f"{self._prefix}probe", "1", "PX", 1000)], TOUCH_TIMEOUT_S)
        except CacheAway:
            return False
        return True

    def _digest(self, key: str) -> str:
        """Keys hold whatever a client sent, of any length; names in Redis do not."""
        return blake2b(key.encode(), digest_size=24, key=self._release).hexdigest()

    def close(self) -> None:
        """Close the connections that lie idle."""
        self._pool.close()


def seen(reply: Reply, prefix: str, tags: Sequence[str]) -> Hit | Miss | Unfounded:
    """What a look found. Raises: CacheAway for what no look answers."""
    match reply:
        case [bytes(version), bytes(payload)]:
            return Hit(payload, Proof(prefix, tuple(tags), version.decode()))
        case [bytes(version), None, leader]:
            proof = Proof(prefix, tuple(tags), version.decode())
            return Miss(proof, leads=leader == b"", waits=leader not in (b"", _NOBODY, None))
        case [None, *base]:
            return Unfounded(claimed=bool(base and base[0]))
    raise CacheAway("look answered in another form")


def _tag_names(prefix: str, tags: Sequence[str]) -> list[str]:
    return [f"{prefix}t:{tag}" for tag in tags]
