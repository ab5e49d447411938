"""Events, the endpoints that are told of them, what became of each delivery, and circuit breakers."""

from alembic import op

revision = "0003"
down_revision = "0002"

# Half of each page stays free, so that counting on is an update in place that touches no index.
# A store's endpoints change under the lock of this row: `listened` says whether one is enabled.
EVENTS = """
create table event_streams(
    store_id uuid primary key references stores,
    last_seq bigint not null default 0,
    listened boolean not null default false
) with (fillfactor = 50);

create table events(
    store_id uuid not null,
    seq bigint not null,
    id uuid not null,
    type text not null,
    data json not null,
    created_at timestamptz not null,
    primary key (store_id, seq)
);
create index events_store_id_created_at_idx on events(store_id, created_at);
"""

# Secrets stand here as they are: whoever signs must have them, and nothing is gained by a key beside the lock.
WEBHOOKS = """
create table webhook_endpoints(
    store_id uuid not null references stores,
    id uuid not null,
    url text not null,
    description text not null default '',
    events text[] not null check (cardinality(events) > 0),
    enabled boolean not null default true,
    disabled_reason text check (disabled_reason in ('gone', 'failing')),
    failing_since timestamptz,
    alerted_at timestamptz,
    secret text not null,
    previous_secret text,
    previous_secret_until timestamptz,
    deleted_at timestamptz,
    version bigint not null default 1,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (store_id, id)
);
create index webhook_endpoints_store_id_created_at_id_idx on webhook_endpoints(store_id, created_at, id)
    where deleted_at is null;

create table webhook_deliveries(
    store_id uuid not null,
    id uuid not null,
    endpoint_id uuid not null,
    seq bigint not null,
    event_id uuid not null,
    event_type text not null,
    status text not null default 'pending' check (status in ('pending', 'succeeded', 'failed')),
    failure_code text,
    attempts jsonb not null default '[]',
    next_attempt_at timestamptz,
    asked_by uuid not null,
    job_id uuid not null,
    version bigint not null default 1,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (store_id, id),
    foreign key (store_id, endpoint_id) references webhook_endpoints
);
create unique index webhook_deliveries_asked_key on webhook_deliveries(store_id, endpoint_id, seq, asked_by);
create index webhook_deliveries_store_id_created_at_id_idx on webhook_deliveries(store_id, created_at, id);
create index webhook_deliveries_store_id_status_created_at_id_idx
    on webhook_deliveries(store_id, status, created_at, id);
create index webhook_deliveries_store_id_endpoint_id_created_at_id_idx
    on webhook_deliveries(store_id, endpoint_id, created_at, id);
"""

CIRCUITS = """
create table circuit_breakers(
    name text primary key,
    failures integer not null,
    open_until timestamptz,
    updated_at timestamptz not null
);
"""


def upgrade() -> None:
    for part in (EVENTS, WEBHOOKS, CIRCUITS):
        op.execute(part)


def downgrade() -> None:
    op.execute("drop table circuit_breakers, webhook_deliveries, webhook_endpoints, events, event_streams")
