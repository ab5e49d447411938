"""In the directory: what the gateway is told of a request before it sends it on.

It asks with the request's header, its method and its target (X-Forwarded-Method, X-Forwarded-Uri), and is answered 200
with the cell and, for a caller with a token, an assertion for that cell; or with the refusal that the client is to get.
"""

from dataclasses import replace
from uuid import UUID

from api.auth import NEEDED, bearer_token
from api.cells.counting import Counting
from api.limits import Limit, Used
from api.reply import Reply
from api.request import Request, parameters_of, read_target
from dues.cells import assertion, places
from dues.cells.calls import call_cell
from dues.cells.question import Answer, Asked, Question, asked_of, read_answer
from dues.cells.signatures import ASSERTION, CELL, DIRECTORY, addresses, key_with
from dues.errors import NotFound, Problem, Unauthenticated, Unavailable
from dues.ids import parse_id
from dues.mailings.unsubscribing import read_token
from dues.postgres import fetch_row, transaction
from dues.reads.freshness import Computed, read

PATH = "/cells/question"

_JOB = "select store_id from jobs where id = %(job_id)s"
_MOST_JOBS = 50_000


def asked_request(question: Request) -> Request:
    """The request that the gateway asks about."""
    path, query = read_target(question.fields.get("x-forwarded-uri", ""))
    return replace(question, method=question.fields.get("x-forwarded-method", "").upper(), path=path, query=query)


def named_in(request: Request) -> Asked:
    """What a request is about, as far as can be told without asking anybody. Raises: Unauthenticated."""
    bearer_token(request)
    if request.path == "/v1/unsubscribe":
        tokens = [value for name, value in parameters_of(request.query) if name == "token"]
        try:
            return Asked(read_token(tokens[0]).store_id) if tokens else Asked()
        except NotFound:
            return Asked()
    asked = asked_of(request.method, request.path)
    if asked.founds and request.token is None:
        # The directory itself would say that cells have the stores.
        raise Unauthenticated(NEEDED)
    if asked.store_id is None and request.token is None:
        # Nobody is asked for a stranger.
        return Asked()
    return _jobs.known.get(asked.job_id, asked) if asked.job_id else asked


def direct(request: Request, counting: Counting) -> Reply:
    """The answer for the gateway, on a thread. Raises: Problem."""
    asked = named_in(request)
    if asked.founds and request.token:
        return _direct_founding(request, request.token, counting)
    store_id = asked.store_id or (_store_of_job(request, asked.job_id, counting) if asked.job_id else None)
    if store_id is None:
        return to_directory()
    question = Question(request.token, store_id, asked.other)
    return directed(request, _ask(request, question, counting))


def directed(request: Request, answer: Answer, cell: str | None = None, store_id: UUID | None = None) -> Reply:
    """`cell`: another than that of the answer. Raises: Unauthenticated."""
    if request.token is not None and not answer.facts:
        raise Unauthenticated("the token is unknown, expired or revoked")
    cell = answer.cell if cell is None else cell
    if not cell:
        return to_directory()
    if cell not in addresses():
        raise Unavailable("the cell of this store is not in service")
    headers = {CELL: cell, "Cache-Control": "no-store"}
    if request.token is not None:
        headers[ASSERTION] = assertion.write(
            key_with(cell), answer.facts, request.method, request.path, request.token, store_id
        )
    return Reply(b"", 200, headers)


def to_directory() -> Reply:
    return Reply(b"", 200, {CELL: DIRECTORY, "Cache-Control": "no-store"})


def _ask(request: Request, question: Question, counting: Counting) -> Answer:
    """Raises: TooManyRequests."""
    counted: list[tuple[Limit, Used]] = []

    def compute() -> Computed:
        if found := counting.count(request):
            counted.append(found)
        sql, values = question.statement()
        return question.computed(fetch_row(sql, values))

    answer = read_answer(read(question.key, question.tags, compute).payload)
    if request.token and answer.user_id:
        counting.is_good(request.token, answer.user_id)
        for limit, used in counted:
            if counting.was_of_another(limit, request):
                counting.give_back(limit, used)
    return answer


def _direct_founding(request: Request, token: str, counting: Counting) -> Reply:
    answer = _ask(request, Question(token, None), counting)
    if answer.user_id is None:
        return directed(request, answer)
    if not answer.may_found:
        # Any cell says so, in the order of refusals; no place is kept for it.
        return directed(request, answer, places.cell_for(answer.user_id))
    # A row is written, whatever becomes of the request.
    counting.count(request)
    key = request.fields.get("idempotency-key")
    with transaction():
        place = places.reserve(answer.user_id, key)
    return directed(request, answer, place.cell, place.store_id)


class _Jobs:
    """The stores of jobs, which never change; None for one of no store, which is the directory's. The directory has to
    ask the cells whose a job is, once for each."""

    def __init__(self) -> None:
        # What the request for each is about. Event loops read it while threads write.
        self.known: dict[UUID, Asked] = {}

    def store_of(self, job_id: UUID) -> UUID | None:
        """None as well for a job that nobody has. Raises: Unavailable where a cell that may have it does not
        answer."""
        if row := fetch_row(_JOB, {"job_id": job_id}):
            return self._remember(job_id, row[0])
        silent: Problem | None = None
        for cell in addresses():
            try:
                store_id = parse_id(str(call_cell(cell, "GET", f"/cells/jobs/{job_id}")["store_id"]))
            except Problem as problem:
                # One that is set up wrong, and refuses, is no other cell's fault either.
                silent = problem
                continue
            if store_id:
                return self._remember(job_id, store_id)
        if silent:
            raise Unavailable("a cell that may have this job does not answer at present") from silent
        return None

    def _remember(self, job_id: UUID, store_id: UUID | None) -> UUID | None:
        if len(self.known) >= _MOST_JOBS:
            self.known.clear()
        self.known[job_id] = Asked(store_id)
        return store_id


_jobs = _Jobs()


def _store_of_job(request: Request, job_id: UUID, counting: Counting) -> UUID | None:
    if not _ask(request, Question(request.token, None), counting).facts:
        return None
    counting.count(request)
    return _jobs.store_of(job_id)
