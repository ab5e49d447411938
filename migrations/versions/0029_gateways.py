"""Stores with a gateway of their own, what gateways tell us, and disputes."""

from alembic import op

revision = "0029"
down_revision = "0028"

# A store without a row is charged by the sandbox. Those that it had before stay, for what was charged by them.
ACCOUNTS = """
create table gateway_accounts(
    store_id uuid not null references stores,
    id uuid not null,
    type text not null check (type in ('sandbox', 'stripe')),
    reference text,
    secret_key bytea,
    secret_key_last4 text,
    webhook_secret bytea,
    webhook_secret_last4 text,
    previous_webhook_secret bytea,
    previous_until timestamptz,
    publishable_key text,
    told_until timestamptz not null default now(),
    replaced_at timestamptz,
    version bigint not null default 1,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (store_id, id),
    check (type = 'sandbox' or (reference is not null and secret_key is not null and webhook_secret is not null))
);
create unique index gateway_accounts_current_key on gateway_accounts(store_id) where replaced_at is null;
create unique index gateway_accounts_reference_key on gateway_accounts(store_id, type, reference);

create table gateway_customers(
    store_id uuid not null,
    account_id uuid not null,
    user_id uuid not null references users,
    reference text not null,
    created_at timestamptz not null default now(),
    primary key (store_id, account_id, user_id),
    foreign key (store_id, account_id) references gateway_accounts
);

create table gateway_events(
    store_id uuid not null references stores,
    gateway text not null,
    event_id text not null,
    about text not null,
    name text not null,
    received_at timestamptz not null default now(),
    primary key (store_id, gateway, event_id)
);
create index gateway_events_received_at_idx on gateway_events(received_at);

create table payment_setups(
    store_id uuid not null references stores,
    id uuid not null,
    user_id uuid not null references users,
    account_id uuid not null,
    status text not null default 'pending' check (status in ('pending', 'requires_action', 'succeeded', 'failed')),
    is_default boolean not null default false,
    gateway_ref text,
    next_action jsonb,
    failure_code text,
    payment_method_id uuid,
    job_id uuid,
    version bigint not null default 1,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (store_id, id),
    foreign key (store_id, account_id) references gateway_accounts
);
create index payment_setups_store_id_user_id_created_at_id_idx on payment_setups(store_id, user_id, created_at, id);
"""

DISPUTES = """
create table disputes(
    store_id uuid not null,
    id uuid not null,
    payment_id uuid not null,
    gateway_ref text not null,
    amount bigint not null check (amount > 0),
    currency char(3) not null,
    reason text not null,
    status text not null check (status in ('open', 'won', 'lost')),
    opened_at timestamptz not null,
    closed_at timestamptz,
    version bigint not null default 1,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (store_id, id),
    foreign key (store_id, payment_id) references payments
);
create unique index disputes_gateway_ref_key on disputes(store_id, payment_id, gateway_ref);
create index disputes_store_id_created_at_id_idx on disputes(store_id, created_at, id);

create index payment_methods_store_id_idx on payment_methods(store_id)
    where store_id is not null and deleted_at is null;
alter table payments add column gateway_account_id uuid, add column dispute jsonb;
"""

SANDBOX = """
create table sandbox_gateway.disputes(
    reference text primary key,
    charge_key text not null,
    store_id uuid not null,
    amount bigint not null,
    currency char(3) not null,
    status text not null,
    ends_as text not null,
    is_told boolean not null default false,
    changed_at timestamptz not null default clock_timestamp()
);
create index disputes_changed_at_idx on sandbox_gateway.disputes(changed_at);
"""


def upgrade() -> None:
    for part in (ACCOUNTS, DISPUTES, SANDBOX):
        op.execute(part)


def downgrade() -> None:
    op.execute("drop table sandbox_gateway.disputes; drop index payment_methods_store_id_idx")
    op.execute("alter table payments drop column gateway_account_id, drop column dispute")
    op.execute("drop table disputes, payment_setups, gateway_events, gateway_customers, gateway_accounts")
