"""Accounts, stores, packages, payments, reports, jobs and mail.

The tenant is the store: its tables have the primary key (store_id, id) and carry store_id in every unique key, so
that they can be distributed by store and partitioned by time on the UUIDv7 id without a change of model.
Each list's sort has an index that begins with its scope and ends with id.
"""

from alembic import op

revision = "0001"
down_revision = None

ACCOUNTS = """
create table users(
    id uuid primary key,
    email text not null,
    name text not null,
    password_hash text not null,
    version bigint not null default 1,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    deleted_at timestamptz
);
create unique index users_email_key on users(lower(email));

create table addresses(
    user_id uuid not null references users,
    id uuid not null,
    label text not null,
    line1 text not null,
    line2 text,
    city text not null,
    region text,
    postal_code text,
    country char(2) not null,
    is_default boolean not null default false,
    version bigint not null default 1,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (user_id, id)
);
create index addresses_user_id_created_at_id_idx on addresses(user_id, created_at, id);
create unique index addresses_default_key on addresses(user_id) where is_default;

create table stores(
    id uuid primary key,
    owner_id uuid not null references users,
    name text not null,
    slug text not null constraint stores_slug_key unique,
    currency char(3) not null,
    version bigint not null default 1,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);
create index stores_created_at_id_idx on stores(created_at, id);
create index stores_owner_id_created_at_id_idx on stores(owner_id, created_at, id);

create table store_staff(
    store_id uuid not null references stores,
    user_id uuid not null references users,
    id uuid not null,
    role text not null check (role in ('owner', 'manager', 'support')),
    version bigint not null default 1,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (store_id, user_id)
);
create index store_staff_store_id_created_at_id_idx on store_staff(store_id, created_at, id);
create index store_staff_user_id_idx on store_staff(user_id);

create table api_tokens(
    id uuid primary key,
    user_id uuid not null references users,
    store_id uuid references stores,
    name text not null,
    token_hash bytea not null constraint api_tokens_token_hash_key unique,
    scopes text[] not null,
    version bigint not null default 1,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    expires_at timestamptz not null,
    revoked_at timestamptz
);
create index api_tokens_user_id_created_at_id_idx on api_tokens(user_id, created_at, id);
"""

CATALOGUE = """
create table packages(
    store_id uuid not null references stores,
    id uuid not null,
    name text not null,
    description text not null default '',
    amount bigint not null check (amount >= 0),
    currency char(3) not null,
    interval text not null check (interval in ('once', 'month', 'year')),
    trial_days integer not null default 0,
    archived_at timestamptz,
    version bigint not null default 1,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (store_id, id)
);
create index packages_store_id_created_at_id_idx on packages(store_id, created_at, id);
create index packages_live_store_id_created_at_id_idx on packages(store_id, created_at, id) where archived_at is null;
"""

PAYMENTS = """
create table payments(
    store_id uuid not null references stores,
    id uuid not null,
    user_id uuid not null references users,
    package_id uuid,
    subscription_id uuid,
    amount bigint not null check (amount > 0),
    currency char(3) not null,
    status text not null default 'pending' check (status in ('pending', 'processing', 'succeeded', 'failed',
        'requires_action', 'unknown', 'partially_refunded', 'refunded')),
    description text not null default '',
    payment_method text not null,
    gateway text not null,
    gateway_ref text,
    failure_code text,
    next_action jsonb,
    refunded_amount bigint not null default 0 check (refunded_amount between 0 and amount),
    job_id uuid,
    confirmation_job_id uuid,
    version bigint not null default 1,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (store_id, id),
    foreign key (store_id, package_id) references packages
);
create index payments_store_id_created_at_id_idx on payments(store_id, created_at, id);
create index payments_store_id_amount_id_idx on payments(store_id, amount, id);
create index payments_store_id_status_created_at_id_idx on payments(store_id, status, created_at, id);
create index payments_store_id_currency_created_at_id_idx on payments(store_id, currency, created_at, id);
create index payments_store_id_user_id_created_at_id_idx on payments(store_id, user_id, created_at, id);
create index payments_store_id_package_id_created_at_id_idx on payments(store_id, package_id, created_at, id);
create index payments_user_id_created_at_id_idx on payments(user_id, created_at, id);

create table payment_events(
    store_id uuid not null,
    payment_id uuid not null,
    id uuid not null,
    from_status text,
    to_status text not null,
    reason text not null,
    created_at timestamptz not null default now(),
    primary key (store_id, payment_id, id),
    foreign key (store_id, payment_id) references payments
);

create table refunds(
    store_id uuid not null,
    id uuid not null,
    payment_id uuid not null,
    amount bigint not null check (amount > 0),
    currency char(3) not null,
    reason text not null default '',
    status text not null default 'pending' check (status in ('pending', 'succeeded', 'failed')),
    gateway_ref text,
    failure_code text,
    job_id uuid,
    version bigint not null default 1,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (store_id, id),
    foreign key (store_id, payment_id) references payments
);
create index refunds_store_id_payment_id_created_at_id_idx on refunds(store_id, payment_id, created_at, id);
"""

# The sandbox gateway's own books, apart from Dues' tables: a rolled-back transaction of ours leaves them as they are.
SANDBOX_GATEWAY = """
create schema sandbox_gateway;
create table sandbox_gateway.operations(
    key text primary key,
    kind text not null check (kind in ('charge', 'refund')),
    amount bigint not null,
    currency char(3) not null,
    method text not null,
    outcome text not null check (outcome in ('succeeded', 'declined', 'requires_action')),
    reference text not null,
    created_at timestamptz not null default clock_timestamp()
);
"""

REPORTS = """
create table reports(
    store_id uuid not null references stores,
    id uuid not null,
    requested_by uuid not null references users,
    kind text not null check (kind in ('payments', 'revenue')),
    format text not null check (format in ('csv', 'xlsx', 'json', 'pdf')),
    range_from timestamptz not null,
    range_to timestamptz not null,
    status text not null default 'pending' check (status in ('pending', 'running', 'succeeded', 'failed', 'canceled')),
    file_key text,
    rows bigint,
    bytes bigint,
    sha256 text,
    job_id uuid,
    version bigint not null default 1,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (store_id, id)
);
create index reports_store_id_created_at_id_idx on reports(store_id, created_at, id);
"""

JOBS = """
create table jobs(
    id uuid primary key,
    kind text not null,
    queue text not null,
    priority smallint not null default 100,
    args jsonb not null default '{}',
    owner_id uuid,
    store_id uuid,
    dedupe_key text,
    status text not null default 'queued' check (status in ('queued', 'running', 'succeeded', 'failed', 'canceled')),
    run_at timestamptz not null default now(),
    dispatched_at timestamptz,
    delivery integer not null default 0,
    attempt integer not null default 0,
    max_attempts integer not null default 20,
    timeout_s integer not null default 180,
    lease_token uuid,
    lease_until timestamptz,
    leased_by text,
    cancelable boolean not null default true,
    cancel_requested_at timestamptz,
    progress jsonb,
    result jsonb,
    error jsonb,
    trace text,
    version bigint not null default 1,
    created_at timestamptz not null default now(),
    started_at timestamptz,
    finished_at timestamptz,
    check ((status = 'running') = (lease_token is not null)),
    check ((finished_at is not null) = (status in ('succeeded', 'failed', 'canceled')))
);
create index jobs_due_idx on jobs(queue, priority, run_at, id) where status = 'queued' and dispatched_at is null;
create index jobs_queue_run_at_idx on jobs(queue, run_at) include (dispatched_at) where status = 'queued';
create index jobs_lease_until_idx on jobs(lease_until) where status = 'running';
create unique index jobs_dedupe_key on jobs(kind, dedupe_key)
    where dedupe_key is not null and status in ('queued', 'running');
create index jobs_owner_id_created_at_id_idx on jobs(owner_id, created_at, id);
create index jobs_finished_at_idx on jobs(finished_at) where finished_at is not null;

create table schedule_ticks(
    name text not null,
    due_at timestamptz not null,
    job_id uuid not null,
    primary key (name, due_at)
);
"""

MAIL = """
create table email_sends(
    id uuid primary key,
    dedupe_key text not null constraint email_sends_dedupe_key_key unique,
    recipient text not null,
    raw bytea not null,
    state text not null default 'pending'
        check (state in ('pending', 'sending', 'committing', 'sent', 'rejected', 'unknown')),
    fence uuid,
    dot_at timestamptz,
    sent_at timestamptz,
    reply text,
    created_at timestamptz not null default now()
);
create index email_sends_unknown_idx on email_sends(created_at) where state = 'unknown';
"""

IDEMPOTENCY = """
create table idempotency_keys(
    scope text not null,
    key text not null,
    request_hash bytea not null,
    status smallint not null,
    headers jsonb not null,
    body text not null,
    created_at timestamptz not null default now(),
    primary key (scope, key)
);
create index idempotency_keys_created_at_idx on idempotency_keys(created_at);
"""

# What the planner expects a query to return; a page's total beyond the count that is kept exact (reads/compile.py).
# Left volatile: PostgreSQL refuses EXPLAIN in a function that promises more.
ESTIMATE = """
create function dues_estimated_rows(query text) returns bigint language plpgsql as $$
declare plan json;
begin
    execute 'explain (format json) ' || query into plan;
    return (plan -> 0 -> 'Plan' ->> 'Plan Rows')::bigint;
end $$;
"""


def upgrade() -> None:
    for part in (ACCOUNTS, CATALOGUE, PAYMENTS, SANDBOX_GATEWAY, REPORTS, JOBS, MAIL, IDEMPOTENCY, ESTIMATE):
        op.execute(part)


def downgrade() -> None:
    op.execute("drop function dues_estimated_rows(text)")
    op.execute("drop schema sandbox_gateway cascade")
    op.execute(
        "drop table idempotency_keys, email_sends, schedule_ticks, jobs, reports, refunds, payment_events, payments,"
        " packages, api_tokens, store_staff, stores, addresses, users"
    )
