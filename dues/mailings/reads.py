"""Reads of mailings."""

from dues.mailings.models import STATUSES, Mailing
from dues.reads import Computed, Resource
from dues.reads.resource import links_schema

_LIST = "'/v1/stores/' || {store_id} || '/posts/' || {post_id} || '/mailings'"

mailings = Resource(
    "Mailing",
    Mailing,
    fields={
        "id": Mailing.id,
        "store_id": Mailing.store_id,
        "post_id": Mailing.post_id,
        "subject": Mailing.subject,
        "status": Computed("{status}", {"type": "string", "enum": list(STATUSES)}),
        "recipients": Mailing.recipients,
        "sent": Mailing.sent,
        "failed": Mailing.failed,
        "unknown": Mailing.unknown,
        "skipped": Mailing.skipped,
        "bounced": Mailing.bounced,
        "complained": Mailing.complained,
        "unsubscribed": Mailing.unsubscribed,
        "started_at": Mailing.started_at,
        "finished_at": Mailing.finished_at,
        "version": Mailing.version,
        "created_at": Mailing.created_at,
        "updated_at": Mailing.updated_at,
        "links": Computed(
            f"json_build_object('self', {_LIST} || '/' || {{id}}, 'post', '/v1/posts/' || {{post_id}},"
            " 'job', '/v1/jobs/' || {job_id})",
            links_schema("self", "post", nullable=("job",)),
        ),
    },
    sorts={"created_at": Mailing.created_at},
    # The mailings of a deleted post can still be read.
    within="""(
        exists (select 1 from posts p where p.id = %(post_id)s::uuid and p.store_id = %(store_id)s::uuid)
        or exists (
            select 1 from mailings m where m.store_id = %(store_id)s::uuid and m.post_id = %(post_id)s::uuid))""",
    # Never cached: while a mailing runs, its numbers change with each mail.
    tags=lambda scope: (),
)
