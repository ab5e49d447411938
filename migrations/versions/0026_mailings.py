"""Posts that are mailed: mailings, to whom each goes, who gets no more, and how fast a provider takes them."""

from alembic import op

revision = "0026"
down_revision = "0025"

# `subject` and `body` are the post's words as they were when the mailing began: everybody gets the same. A mailing
# stays when its post is deleted. The numbers are those of its recipients, changed with them.
MAILINGS = """
create table mailings(
    store_id uuid not null references stores,
    id uuid not null,
    post_id uuid not null,
    requested_by uuid not null references users,
    subject text not null,
    body text not null,
    status text not null default 'pending'
        check (status in ('pending', 'running', 'succeeded', 'failed', 'canceled')),
    job_id uuid,
    recipients bigint not null default 0,
    sent bigint not null default 0,
    failed bigint not null default 0,
    unknown bigint not null default 0,
    skipped bigint not null default 0,
    bounced bigint not null default 0,
    complained bigint not null default 0,
    unsubscribed bigint not null default 0,
    started_at timestamptz,
    finished_at timestamptz,
    version bigint not null default 1,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (store_id, id)
);
create index mailings_store_id_post_id_created_at_id_idx on mailings(store_id, post_id, created_at, id);
-- One at a time: while it runs, there is one list of who still has to get the post.
create unique index mailings_unfinished_key on mailings(store_id, post_id) where status in ('pending', 'running');
"""

# One row for a post and a user, whichever mailing it belongs to: nobody gets a post twice.
RECIPIENTS = """
create table mailing_recipients(
    store_id uuid not null,
    post_id uuid not null,
    user_id uuid not null references users,
    mailing_id uuid not null,
    domain text not null,
    status text not null default 'pending' check (status in ('pending', 'sent', 'failed', 'unknown', 'skipped')),
    tries integer not null default 0,
    next_at timestamptz not null default now(),
    bounced_at timestamptz,
    complained_at timestamptz,
    unsubscribed_at timestamptz,
    primary key (store_id, post_id, user_id),
    foreign key (store_id, mailing_id) references mailings
);
create index mailing_recipients_pending_idx on mailing_recipients(store_id, mailing_id, next_at, user_id)
    where status = 'pending';
"""

# Who gets no more posts of a store. `address` is the one that a bounce was about (dues/mail/address.py): a new one of
# the same user may be tried.
SUPPRESSIONS = """
create table mail_suppressions(
    store_id uuid not null references stores,
    user_id uuid not null references users,
    reason text not null check (reason in ('unsubscribed', 'bounced', 'complained')),
    address text not null,
    created_at timestamptz not null default now(),
    primary key (store_id, user_id, reason)
);
"""

DOMAINS = """
create table mail_domains(
    domain text primary key,
    free_at timestamptz not null
);
"""


def upgrade() -> None:
    for part in (MAILINGS, RECIPIENTS, SUPPRESSIONS, DOMAINS):
        op.execute(part)


def downgrade() -> None:
    op.execute("drop table mail_domains, mail_suppressions, mailing_recipients, mailings")
