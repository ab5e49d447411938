"""The mails to a store's owner when an endpoint keeps failing, and when it is disabled for that."""

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dues.accounts.unverified import may_mail
from dues.jobs import enqueue, kinds
from dues.mail.message import Templates
from dues.mail.service import queue_mail
from dues.mail.wording import Words
from dues.postgres import database_now, fetch_row
from dues.settings import settings
from dues.webhooks.models import Endpoint

_templates = Templates(Path(__file__).parent / "templates")

_OWNER = """
    select s.name, u.name, u.email, u.email_verified_at is not null from stores s join users u on u.id = s.owner_id
    where s.id = %(store_id)s
"""
_WHY = {
    "gone": "its receiver answered 410 Gone",
    "failing": "for days not one delivery has succeeded",
}


def notify_failing(endpoint: Endpoint) -> None:
    """Tell the owner that deliveries fail, and will be tried again. Part of the caller's transaction()."""
    _mail(endpoint, "webhook_failing", "Webhooks of {store} are failing", "")


def notify_disabled(endpoint: Endpoint) -> None:
    """Tell the owner that the endpoint was disabled, and gets no more events. Part of the caller's transaction()."""
    assert endpoint.disabled_reason
    _mail(endpoint, "webhook_disabled", "A webhook endpoint of {store} was disabled", _WHY[endpoint.disabled_reason])


def _mail(endpoint: Endpoint, template: str, subject: str, why: str) -> None:
    owner = fetch_row(_OWNER, {"store_id": endpoint.store_id})
    assert owner
    name, user, email, is_verified = owner
    if not is_verified and not may_mail(email):
        return
    moment = database_now()
    since = endpoint.failing_since or moment
    facts: list[tuple[str, str | Words, bool]] = [
        ("Endpoint", str(endpoint.id), False),
        ("Failing since", f"{since:%Y-%m-%d %H:%M} UTC", False),
    ]
    if is_verified:
        # Not the whole URL: its path often holds a secret.
        facts.insert(0, ("Receiver", urlsplit(endpoint.url).netloc, True))
        facts.insert(2, ("Description", Words(endpoint.description or "none"), False))
    # An unverified address is sent nothing that people have typed.
    store: str | Words = Words(name) if is_verified else "your store"
    shown: dict[str, Any] = {"store": store, "facts": facts, "why": why}
    message = _templates.message(
        template,
        subject=subject.format(store=store),
        to_name=user if is_verified else "",
        greeting=f"Hello {Words(user)}," if user and is_verified else "Hello,",
        **shown,
        deliveries=f"{settings().public_url}/v1/stores/{endpoint.store_id}/webhook-deliveries?endpoint_id={endpoint.id}",
    )
    email_id = queue_mail(f"{template}:{endpoint.id}:{moment.isoformat()}", email, message)
    enqueue(kinds.MAILING_SEND, {"email_id": str(email_id)}, dedupe_key=str(email_id), store_id=endpoint.store_id)
