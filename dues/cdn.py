"""Shared caches in front of Dues, such as a CDN: what they may keep, and how they are told to let go of it.

Nothing of this happens unless PURGE_URL is set. Then answers of the public catalogue, and what everybody is shown of
posts, may be kept for SHARED_S without asking (browsers still ask), and a transaction that puts some of them out of
date also inserts a job that purges their tags: no purge without its commit, and no commit without its purge.

The tags of the catalogue are those of its cached answers. What posts depend on is told by words of the journal
(dues/reads/freshness/journal.py): each word is a tag here, too.

Each transaction inserts a job of its own, since one that all writers added their tags to would have them wait for each
other. The first of these jobs to run purges for all that wait, so many writes in a second are few purges.

An answer that was being made when the commit came may reach the cache after the purge; so all is purged once more when
no such answer can be under way any longer. What no purge reaches, a cache lets go of after SHARED_S by itself.
"""

import re
import time
from collections.abc import Collection, Iterable, Iterator, Sequence

import ujson
import urllib3
from urllib3.exceptions import HTTPError
from urllib3.util import Timeout, parse_url

from dues import VERSION
from dues.breaker import Circuit
from dues.errors import Problem
from dues.jobs.attempt import Run
from dues.jobs.batching import finish, waiting
from dues.jobs.exceptions import PermanentFailure, Retry, backoff_s
from dues.jobs.kinds import EDGE_PURGE
from dues.jobs.outbox import JSON, enqueue
from dues.postgres import before_commit
from dues.postgres.unit_of_work import UnitOfWork
from dues.reads.freshness.journal import ALL, split_words
from dues.reads.serve import Answer
from dues.settings import settings

# How long a shared cache may keep an answer without asking. Seconds.
SHARED_S = 300
# Of what never changes under its name.
IMMUTABLE = "public, max-age=31536000, immutable"
# Longer than it takes to make an answer, waiting for a connection and for PostgreSQL included.
_AGAIN_S = 20

# The tags of the catalogue, which everybody reads and few write. Profiles are public too, but carry a tag that every
# payment touches: caches keep asking for those.
_PURGED = re.compile(r"stores|store:[0-9a-f-]{36}(:packages)?")
# An answer that depends on more is not kept: its tags, in two fields, are to fit into what proxies take for a head,
# which may be 4 kB. A transaction that names more words has all purged that has any.
_MOST_WORDS = 64

# Of one job: its arguments are small. Of one request: Cloudflare takes no more, and headers stay below 8 kB.
_MOST_TAGS, _MOST_SENT = 50, 100
_TIMEOUT_S = 5.0
# Between attempts: minutes later nothing of it is kept any more.
_LONGEST_REST_S = 30.0

_http = urllib3.PoolManager(retries=False)


class NotPurged(Problem):
    """The shared cache could not be told, or would not hear of it."""

    status, title, code = 502, "The purge was not accepted", "not_purged"


def public_tags(answer: Answer) -> tuple[str, ...]:
    """The tags that a public answer may be kept under by shared caches, each of which is purged as what it stands for
    changes; none where it may not be kept."""
    if not settings().purge_url:
        return ()
    if not answer.follows:
        return answer.tags if all(map(_PURGED.fullmatch, answer.tags)) else ()
    concern = answer.validator.concern if answer.validator else None
    # A tag that is no word's is touched by what has none.
    if concern is None or concern.audience or answer.tags != ("social",):
        return ()
    words = {*split_words(concern.words), ALL}
    return tuple(map(_tag, sorted(words))) if len(words) <= _MOST_WORDS else ()


def cache_control(tags: Sequence[str]) -> str:
    """For a public answer with these `public_tags()`. Shared caches keep it only where each write of it is followed by
    a purge."""
    return f"public, max-age=0, must-revalidate, s-maxage={SHARED_S}" if tags else "public, no-cache"


def _tag(word: bytes) -> str:
    """A word of the journal as a tag: short, since an answer may have many."""
    return f"w{word.hex()}"


def is_shared(cache_control: str) -> bool:
    """Whether shared caches may give an answer with this Cache-Control to others without asking."""
    return "s-maxage" in cache_control or "immutable" in cache_control


@before_commit
def _ask_for_purge(work: UnitOfWork) -> None:
    if settings().purge_url:
        _enqueue({*filter(_PURGED.fullmatch, work.tags), *_tags_of(work.words)})


def _tags_of(words: Collection[bytes]) -> Iterable[str]:
    return map(_tag, words if len(words) <= _MOST_WORDS else [ALL])


def _enqueue(tags: Iterable[str], *, again: bool = False) -> None:
    until = int(time.time()) + SHARED_S + _AGAIN_S
    for part in _parts(sorted(tags), _MOST_TAGS):
        args: dict[str, JSON] = {"tags": [*part], "until": until, "again": again}
        enqueue(EDGE_PURGE, args, delay_s=_AGAIN_S if again else 0)


def _parts(tags: Sequence[str], most: int) -> Iterator[list[str]]:
    for start in range(0, len(tags), most):
        yield list(tags[start : start + most])


def purge(run: Run) -> None:
    """Purge the tags of this job, and with them those of all others that wait. Raises: Retry; PermanentFailure."""
    if not settings().purge_url:
        raise PermanentFailure(NotPurged("PURGE_URL is not set where this worker runs"))
    if time.time() > run.args["until"]:
        raise PermanentFailure(NotPurged("shared caches were not told in time, and have let go by themselves"))
    name = f"edge:{parse_url(settings().purge_url).netloc}"
    circuit = Circuit(name, first_s=2.0, longest_s=_LONGEST_REST_S, probe_s=4 * _TIMEOUT_S)
    if circuit.wait_s():
        raise Retry(problem=NotPurged("the shared cache cannot be told at present"), waits_for=circuit.name)
    others = waiting(EDGE_PURGE)
    asked = [run.args, *(job.args for job in others)]
    try:
        for tags in _parts(sorted({tag for args in asked for tag in args["tags"]}), _MOST_SENT):
            _send(tags)
    except NotPurged as failure:
        circuit.failed()
        raise Retry(min(backoff_s(run.attempt), _LONGEST_REST_S), failure) from failure
    circuit.succeeded()
    with run.completion():
        finish(others)
        _enqueue({tag for args in asked if not args["again"] for tag in args["tags"]}, again=True)


def _send(tags: Sequence[str]) -> None:
    """One request: what to purge is in a header, as Fastly and Varnish want it, and in the body, as Cloudflare does.
    Raises: NotPurged."""
    headers = {"Content-Type": "application/json", "User-Agent": f"Dues/{VERSION}", "Surrogate-Key": " ".join(tags)}
    if token := settings().purge_token:
        headers["Authorization"] = f"Bearer {token}"
    try:
        answer = _http.request(
            "POST",
            settings().purge_url,
            body=ujson.dumps({"tags": tags}),
            headers=headers,
            timeout=Timeout(total=_TIMEOUT_S),
            redirect=False,
            preload_content=False,
        )
    except HTTPError as error:
        raise NotPurged(f"PURGE_URL does not answer: {type(error).__name__}") from error
    # Only the status counts; a body of any length stays unread.
    answer.close()
    if not 200 <= answer.status < 300:
        raise NotPurged(f"PURGE_URL answered {answer.status}")
