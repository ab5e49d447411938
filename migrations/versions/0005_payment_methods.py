"""Payment methods that are stored, to be charged again while their payer is away."""

from alembic import op

revision = "0005"
down_revision = "0004"

# The default of each gateway is one: a store's own gateway knows other cards than the one that serves all stores.
METHODS = """
create table payment_methods(
    user_id uuid not null references users,
    id uuid not null,
    store_id uuid references stores,
    gateway text not null,
    gateway_customer text not null,
    gateway_ref text not null,
    type text not null default 'card' check (type in ('card')),
    brand text not null,
    last4 char(4) not null,
    exp_month smallint not null check (exp_month between 1 and 12),
    exp_year smallint not null,
    is_default boolean not null default false,
    deleted_at timestamptz,
    version bigint not null default 1,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (user_id, id)
);
create index payment_methods_user_id_created_at_id_idx on payment_methods(user_id, created_at, id)
    where deleted_at is null;
create unique index payment_methods_default_key
    on payment_methods(user_id, coalesce(store_id, '00000000-0000-0000-0000-000000000000'))
    where is_default and deleted_at is null;

alter table payments add column payment_method_id uuid, add column gateway_customer text,
    add column off_session boolean not null default false;
"""

# How often a stored method of the sandbox was charged: by which key, in this order.
SANDBOX = """
create table sandbox_gateway.methods(reference text primary key, keys text[] not null);
alter table sandbox_gateway.operations add column failure_code text;
update sandbox_gateway.operations set failure_code = case method
    when 'sandbox_declined' then 'card_declined' when 'sandbox_action' then 'authentication_failed' else 'declined' end
where outcome = 'declined';
"""


def upgrade() -> None:
    for part in (METHODS, SANDBOX):
        op.execute(part)


def downgrade() -> None:
    op.execute("alter table sandbox_gateway.operations drop column failure_code; drop table sandbox_gateway.methods")
    op.execute(
        "alter table payments drop column payment_method_id, drop column gateway_customer, drop column off_session"
    )
    op.execute("drop table payment_methods")
