"""Mailings: a store's post by mail to those who may see it, a look at that mail first, and how readers unsubscribe."""

from typing import Any
from uuid import UUID

import msgspec
from msgspec import Struct

from api.auth import PUBLIC
from api.http import problem_reply
from api.reply import Reply, json_reply, no_content
from api.request import parameters_of
from api.routing import Call, Routes
from dues.errors import InvalidParameter, NotFound, Unavailable
from dues.mailings import provider_events, service, unsubscribing
from dues.mailings.letter import letter_of_post, message_to
from dues.mailings.provider_events import MailEvents
from dues.mailings.reads import mailings
from dues.mailings.service import MailingTest
from dues.reads import ReadPlan
from dues.reads.resource import Scope
from dues.settings import settings
from dues.social.models import Post
from dues.social.posts import get_post
from dues.stores.access import moved_to

routes = Routes(
    "mailings",
    examples={
        "subject": "New wall",
        "Mailing.status": "running",
        "recipients": 5000,
        "sent": 1200,
        "failed": 2,
        "unknown": 0,
        "skipped": 1,
        "bounced": 3,
        "complained": 0,
        "unsubscribed": 4,
        "recipient": "ada@example.com",
        "from_name": "Kiel Climbing",
        "reply_to": "hello@example.com",
        "text": "New wall\n\nWe open at seven.\n",
        "html": '<!doctype html><html lang="en">…</html>',
    },
    bodies={
        "MailEvents": {
            "a bounce": {
                "events": [{"type": "bounced", "message_id": "019aa1c2-5d3e-7f60-8a41-3c5e7d9b1f20@dues.example"}]
            }
        },
    },
)
POST = "/v1/stores/{store_id}/posts/{post_id}"
LIST = f"{POST}/mailings"
ONE = f"{LIST}/{{mailing_id}}"
_PAGES: dict[int, dict[str, Any]] = {
    200: {"description": "A page for people, in HTML"},
    308: {"description": "The store has moved to another server, whose page this is"},
    404: {},
}
_TOKEN = {
    "name": "token",
    "in": "query",
    "required": True,
    "description": "from the link in a mail",
    "schema": {"type": "string", "maxLength": 200},
}


class MailPreview(Struct):
    """The mail as the one who asks would get it."""

    subject: str
    from_name: str
    reply_to: str
    text: str
    html: str


def _find(call: Call) -> Post:
    """The store's post, locked. Raises: NotFound; Forbidden."""
    post = get_post(call.viewer, call.ids["post_id"])
    if post.store_id != call.ids["store_id"]:
        raise NotFound("there is no such post")
    return post


def _mailing(call: Call, mailing_id: UUID) -> Scope:
    return {"store_id": call.ids["store_id"], "post_id": call.ids["post_id"], "id": mailing_id}


@routes.get(LIST, "social:read", role="support", lists=mailings)
def list_mailings(call: Call, store_id: UUID, post_id: UUID) -> ReadPlan:
    """List how often a post was mailed"""
    return call.list(mailings, {"store_id": store_id, "post_id": post_id})


@routes.post(LIST, "social:write", role="manager", find=_find, returns=mailings, slow=_mailing, statuses=(202, 201))
def mail_post(call: Call, store_id: UUID, post_id: UUID) -> Reply:
    """Mail a post to those who may see it

    It goes to the store's members (those of its tiers, where it has some) and to its author's followers, as far as they
    may see it, have a verified address and have not unsubscribed. Nobody gets a post twice: another mailing of it goes
    to those who have not got it yet. Cancel the job to stop it.
    """
    mailing = service.request_mailing(call.row, call.actor.user_id)
    assert mailing.job_id
    return call.accepted(mailing.id, mailing.job_id)


@routes.get(ONE, "social:read", role="support", reads=mailings)
def get_mailing(call: Call, store_id: UUID, post_id: UUID, mailing_id: UUID) -> ReadPlan:
    """How far a mailing is

    Each of the `recipients` ends up `sent`, `failed`, `skipped` (may not get it any more) or `unknown` (nobody can say
    whether the mail server took it). `bounced`, `complained` and `unsubscribed` are of those that were sent.
    """
    return call.one(mailings, {"store_id": store_id, "post_id": post_id, "id": mailing_id})


@routes.post(f"{POST}/mailing-test", "social:write", role="manager", find=_find, returns=MailingTest, statuses=(202,))
def mail_test(call: Call, store_id: UUID, post_id: UUID) -> Reply:
    """Mail a post to yourself first

    To your own verified address and to nobody else. The post may be a draft.
    """
    job_id, test = service.request_test(call.row, call.actor.user_id)
    headers = {"Location": f"/v1/jobs/{job_id}", "Retry-After": "1"}
    return json_reply(msgspec.to_builtins(test), 202, headers)


@routes.get(f"{POST}/mailing-preview", "social:read", role="manager", returns=MailPreview)
def preview_mailing(call: Call, store_id: UUID, post_id: UUID) -> Reply:
    """See the mail that a post would be

    As you would get it. The post may be a draft.
    """
    letter = letter_of_post(store_id, post_id)
    message = message_to(letter, call.actor.user_id, "", unsubscribing.NO_MAILING)
    preview = MailPreview(letter.subject, letter.shop, letter.reply_to, message.text, message.html)
    return json_reply(msgspec.to_builtins(preview), headers={"Cache-Control": "private, no-store"})


@routes.get("/v1/unsubscribe", PUBLIC, parameters=[_TOKEN], responses=_PAGES)
def show_unsubscribing(call: Call) -> Reply:
    """What the link in a mail opens: a page that asks

    It changes nothing, because programs that look for viruses open every link.
    """
    reader = _reader(call)
    return _elsewhere(call, reader) or _page(_ASK)


@routes.post(
    "/v1/unsubscribe",
    PUBLIC,
    parameters=[_TOKEN],
    responses=_PAGES,
    statuses=(200,),
    idempotency="no",
)
def unsubscribe(call: Call) -> Reply:
    """Get no more posts of a store by mail

    With the token of a mail's link, as mail programs do it (RFC 8058) and the page's button does. Again it changes
    nothing. A form with `again=yes` takes it back. What mail programs send is never redirected: where the store has
    moved to another server it is passed on.
    """
    reader = _reader(call)
    if unsubscribing.ONE_CLICK in call.raw and not unsubscribing.is_here(reader):
        unsubscribing.pass_on_later(reader)
        return _page(_DONE)
    if reply := _elsewhere(call, reader):
        return reply
    if call.raw == b"again=yes":
        unsubscribing.subscribe_again(reader)
        return _page(_AGAIN)
    unsubscribing.unsubscribe(reader)
    return _page(_DONE)


@routes.post(
    "/v1/mail-events",
    PUBLIC,
    verify=lambda call: provider_events.verify(call.request.fields, call.raw),
    body=MailEvents,
    statuses=(204,),
    idempotency="no",
)
def report_mail_events(call: Call) -> Reply:
    """Report bounces and complaints

    For the mail provider, or an adapter in front of it: signed with MAIL_EVENTS_SECRET as Dues signs its own webhooks
    (`webhook-id`, `webhook-timestamp`, `webhook-signature`). Whoever it is about gets no more posts of that store.
    What was reported before changes nothing. What is about mails of stores that have moved to another server is passed
    on to it.
    """
    if not provider_events.record_events(call.data, provider_events.times_passed_on(call.request.fields)):
        # What is of other stores is kept all the same.
        return problem_reply(Unavailable("a store that this is about is being moved: send it again"), call.request)
    return no_content()


def _reader(call: Call) -> unsubscribing.Reader:
    """Raises: InvalidParameter; NotFound."""
    tokens = [value for name, value in parameters_of(call.request.query) if name == "token"]
    if len(tokens) != 1:
        raise InvalidParameter.of("token", "has to be there, once", code="required")
    return unsubscribing.read_token(tokens[0])


def _elsewhere(call: Call, reader: unsubscribing.Reader) -> Reply | None:
    """Links in the mails of a store lead on to the Dues that the store has moved to, which has the same SECRET_KEY;
    what is posted is posted again there. Raises: Unavailable while the store moves."""
    address = moved_to(reader.store_id)
    if address is None:
        return None
    if address in ("", settings().public_url):
        raise Unavailable("this store is being moved to another server")
    location = f"{address}/v1/unsubscribe?{call.request.query}"
    return Reply(b"", 308, {"Location": location, "Cache-Control": "no-store"})


# No script, nothing from elsewhere; a form that goes back to where it came from, whose URL holds the token.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "private, no-store",
    "X-Robots-Tag": "noindex",
}
_PAGE = """<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width,initial-scale=1">
  <title>Posts by mail</title>
  <style>
    body { font: 17px/1.5 system-ui, sans-serif; color: #1b2430; background: #f2f4f7; margin: 0; padding: 10vh 16px; }
    main { max-width: 28rem; margin: auto; padding: 28px; background: #fff; border-radius: 10px; }
    h1 { font-size: 22px; margin: 0 0 12px; }
    button { font: inherit; padding: 10px 18px; border: 0; border-radius: 8px; background: #1b2430; color: #fff; }
  </style>
</head>
<body><main><h1>%s</h1><p>%s</p><form method="post">%s<button>%s</button></form></main></body>
</html>
"""
_ASK = _PAGE % (
    "Get no more posts by mail?",
    "This is about posts of the store that has sent you this mail. Mails about payments still come.",
    "",
    "Unsubscribe",
)
_FORM = '<input type="hidden" name="again" value="yes">'
_DONE = _PAGE % (
    "You are unsubscribed",
    "You get no more posts of this store by mail. Was that a mistake?",
    _FORM,
    "Subscribe again",
)
_AGAIN = _PAGE % ("You are subscribed again", "You get the store's posts by mail.", "", "Unsubscribe")


def _page(html: str) -> Reply:
    return Reply(html.encode(), 200, dict(_HEADERS), "text/html; charset=utf-8")
