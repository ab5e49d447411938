"""Subscriptions and what is charged for them: customers, periods, invoices, credit notes, balances, and the books.

Rows that say what has happened are only ever added; triggers refuse whatever else is tried, and a transaction of the
books whose entries do not add up to zero.
"""

from alembic import op

revision = "0017"
down_revision = "0016"

PACKAGES = """
alter table packages
    drop constraint packages_interval_check,
    add constraint packages_interval_check check (interval in ('once', 'week', 'month', 'year')),
    add column interval_count smallint not null default 1 check (interval_count between 1 and 24),
    add check (interval <> 'once' or interval_count = 1);
"""

CUSTOMERS = """
create table customers(
    store_id uuid not null references stores,
    user_id uuid not null references users,
    version bigint not null default 1,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    primary key (store_id, user_id)
);
create index customers_store_id_created_at_user_id_idx on customers(store_id, created_at, user_id);
create index customers_user_id_idx on customers(user_id);

-- Who has had a trial: by a digest of the mailbox, since one person may have several accounts.
create table trial_uses(
    store_id uuid not null references stores,
    mailbox bytea not null,
    subscription_id uuid not null,
    created_at timestamptz not null,
    primary key (store_id, mailbox)
);
"""

SUBSCRIPTIONS = """
create table subscriptions(
    store_id uuid not null references stores,
    id uuid not null,
    user_id uuid not null references users,
    status text not null check (status in ('incomplete', 'trialing', 'active', 'past_due', 'paused', 'canceled',
        'expired')),
    package_id uuid not null,
    amount bigint not null check (amount >= 0),
    currency char(3) not null,
    interval text not null check (interval in ('once', 'week', 'month', 'year')),
    interval_count smallint not null,
    anchor_at timestamptz not null,
    timezone text not null,
    trial_days integer not null,
    trial_refused boolean not null,
    trial_start timestamptz,
    trial_end timestamptz,
    period_number integer not null,
    current_period_start timestamptz,
    current_period_end timestamptz check (current_period_end > current_period_start),
    -- What lists are sorted by: there may be no end.
    period_ends_at timestamptz not null generated always as (coalesce(current_period_end, 'infinity')) stored,
    cancel_at_period_end boolean not null,
    cancel_reason text,
    cancel_comment text,
    ended_at timestamptz,
    pending jsonb,
    pause_at timestamptz,
    resumes_at timestamptz,
    payment_method_id uuid,
    latest_payment_id uuid,
    bill jsonb,
    has_access boolean not null,
    access_until timestamptz,
    reminded_for timestamptz,
    next_action_at timestamptz,
    next_charge_at timestamptz,
    next_charge_amount bigint,
    test boolean not null,
    version bigint not null,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    primary key (store_id, id),
    foreign key (store_id, package_id) references packages,
    foreign key (store_id, user_id) references customers,
    check ((ended_at is not null) = (status in ('canceled', 'expired'))),
    check (status <> 'past_due' or bill is not null)
);
create unique index subscriptions_live_key on subscriptions(store_id, user_id)
    where status in ('trialing', 'active', 'past_due', 'paused');
create index subscriptions_due_idx on subscriptions(next_action_at, id) where next_action_at is not null and not test;
create index subscriptions_due_in_test_idx on subscriptions(store_id, next_action_at, id)
    where next_action_at is not null and test;
create index subscriptions_store_id_created_at_id_idx on subscriptions(store_id, created_at, id);
create index subscriptions_store_id_period_ends_at_id_idx on subscriptions(store_id, period_ends_at, id);
create index subscriptions_store_id_status_created_at_id_idx on subscriptions(store_id, status, created_at, id);
create index subscriptions_store_id_package_id_created_at_id_idx on subscriptions(store_id, package_id, created_at, id);
create index subscriptions_store_id_user_id_created_at_id_idx on subscriptions(store_id, user_id, created_at, id);
create index subscriptions_user_id_created_at_id_idx on subscriptions(user_id, created_at, id);
create index subscriptions_user_id_period_ends_at_id_idx on subscriptions(user_id, period_ends_at, id);
create index subscriptions_access_idx on subscriptions(user_id, store_id) where has_access;

create table subscription_changes(
    store_id uuid not null,
    subscription_id uuid not null,
    id uuid not null,
    kind text not null,
    actor_id uuid,
    from_status text,
    to_status text not null,
    details jsonb not null,
    created_at timestamptz not null,
    primary key (store_id, subscription_id, id),
    foreign key (store_id, subscription_id) references subscriptions
);
create index subscription_changes_store_id_created_at_id_idx on subscription_changes(store_id, created_at, id);
"""

INVOICES = """
create table number_counters(
    store_id uuid not null references stores,
    series text not null,
    last bigint not null,
    primary key (store_id, series)
) with (fillfactor = 50);

create table invoices(
    store_id uuid not null references stores,
    id uuid not null,
    user_id uuid not null references users,
    subscription_id uuid,
    payment_id uuid,
    kind text not null check (kind in ('create', 'renewal', 'change', 'resume', 'payment')),
    status text not null check (status in ('draft', 'paid', 'void')),
    sequence bigint,
    number text,
    currency char(3) not null,
    subtotal bigint not null,
    tax bigint not null,
    total bigint not null,
    balance_applied bigint not null,
    amount_due bigint not null check (amount_due >= 0),
    credited bigint not null default 0,
    period_start timestamptz,
    period_end timestamptz,
    seller jsonb,
    buyer jsonb,
    issued_at timestamptz,
    voided_at timestamptz,
    version bigint not null,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    primary key (store_id, id),
    foreign key (store_id, subscription_id) references subscriptions,
    check (subtotal + tax = total and balance_applied + amount_due = total),
    check (status <> 'paid' or issued_at is not null),
    check ((sequence is null) = (number is null))
);
create unique index invoices_sequence_key on invoices(store_id, sequence) where sequence is not null;
create index invoices_store_id_created_at_id_idx on invoices(store_id, created_at, id);
create index invoices_store_id_status_created_at_id_idx on invoices(store_id, status, created_at, id);
create index invoices_store_id_number_created_at_id_idx on invoices(store_id, number, created_at, id);
create index invoices_store_id_user_id_created_at_id_idx on invoices(store_id, user_id, created_at, id);
create index invoices_store_id_subscription_id_created_at_id_idx on invoices(store_id, subscription_id, created_at, id);
create index invoices_store_id_payment_id_idx on invoices(store_id, payment_id) where payment_id is not null;
create index invoices_open_idx on invoices(store_id, user_id) where status = 'draft';

create table invoice_lines(
    store_id uuid not null,
    invoice_id uuid not null,
    position smallint not null,
    description text not null,
    amount bigint not null,
    quantity integer not null,
    package_id uuid,
    period_start timestamptz,
    period_end timestamptz,
    primary key (store_id, invoice_id, position),
    foreign key (store_id, invoice_id) references invoices
);

create table credit_notes(
    store_id uuid not null,
    id uuid not null,
    invoice_id uuid not null,
    user_id uuid not null references users,
    refund_id uuid,
    status text not null check (status in ('pending', 'issued', 'failed')),
    sequence bigint,
    number text,
    currency char(3) not null,
    subtotal bigint not null,
    tax bigint not null,
    total bigint not null check (total > 0),
    reason text not null,
    issued_at timestamptz,
    version bigint not null,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    primary key (store_id, id),
    foreign key (store_id, invoice_id) references invoices,
    check (subtotal + tax = total),
    check ((sequence is null) = (number is null))
);
create unique index credit_notes_sequence_key on credit_notes(store_id, sequence) where sequence is not null;
create index credit_notes_store_id_invoice_id_created_at_id_idx on credit_notes(store_id, invoice_id, created_at, id);
create unique index credit_notes_refund_id_key on credit_notes(store_id, refund_id) where refund_id is not null;

create table subscription_periods(
    store_id uuid not null,
    subscription_id uuid not null,
    starts_at timestamptz not null,
    ends_at timestamptz,
    package_id uuid not null,
    amount bigint not null,
    currency char(3) not null,
    invoice_id uuid not null,
    payment_id uuid,
    created_at timestamptz not null,
    primary key (store_id, subscription_id, starts_at),
    foreign key (store_id, subscription_id) references subscriptions,
    foreign key (store_id, invoice_id) references invoices
);

alter table payments add column invoice_id uuid;
create index payments_store_id_subscription_id_created_at_id_idx on payments(store_id, subscription_id, created_at, id);
"""

BOOKS = """
create table credits(
    store_id uuid not null,
    id uuid not null,
    user_id uuid not null,
    currency char(3) not null,
    amount bigint not null check (amount <> 0),
    kind text not null check (kind in ('invoice', 'credit_note')),
    invoice_id uuid,
    credit_note_id uuid,
    created_at timestamptz not null,
    primary key (store_id, id),
    foreign key (store_id, user_id) references customers,
    foreign key (store_id, invoice_id) references invoices,
    foreign key (store_id, credit_note_id) references credit_notes
);
create index credits_store_id_user_id_created_at_id_idx on credits(store_id, user_id, created_at, id);

create table ledger_transactions(
    store_id uuid not null references stores,
    id uuid not null,
    kind text not null,
    source text not null,
    user_id uuid,
    created_at timestamptz not null,
    primary key (store_id, id)
);
create unique index ledger_transactions_source_key on ledger_transactions(store_id, source);
create index ledger_transactions_store_id_created_at_id_idx on ledger_transactions(store_id, created_at, id);

create table ledger_entries(
    store_id uuid not null,
    transaction_id uuid not null,
    position smallint not null,
    account text not null,
    amount bigint not null check (amount <> 0),
    currency char(3) not null,
    primary key (store_id, transaction_id, position),
    foreign key (store_id, transaction_id) references ledger_transactions
);
create index ledger_entries_store_id_account_currency_idx on ledger_entries(store_id, account, currency);
"""

GUARDS = """
create function dues_refuse_change() returns trigger language plpgsql as $$
begin
    raise exception '% is only ever added to', tg_table_name using errcode = 'restrict_violation';
end $$;

create trigger subscription_changes_refuse_change before update or delete on subscription_changes
    for each row execute function dues_refuse_change();
create trigger credits_refuse_change before update or delete on credits
    for each row execute function dues_refuse_change();
create trigger ledger_transactions_refuse_change before update or delete on ledger_transactions
    for each row execute function dues_refuse_change();
create trigger ledger_entries_refuse_change before update or delete on ledger_entries
    for each row execute function dues_refuse_change();
create trigger ledger_transactions_refuse_truncate before truncate on ledger_transactions
    for each statement execute function dues_refuse_change();
create trigger ledger_entries_refuse_truncate before truncate on ledger_entries
    for each statement execute function dues_refuse_change();

create function dues_require_balance() returns trigger language plpgsql as $$
begin
    if exists (
        select from ledger_entries e
        where e.store_id = new.store_id and e.transaction_id = new.transaction_id
        group by e.currency having sum(e.amount) <> 0
    ) then
        raise exception 'the entries of ledger transaction % do not add up to zero', new.transaction_id
            using errcode = 'check_violation';
    end if;
    return null;
end $$;

create constraint trigger ledger_entries_require_balance after insert on ledger_entries
    deferrable initially deferred for each row execute function dues_require_balance();

-- Of what is numbered nothing changes but that it is void, and how much of it was credited.
create function dues_refuse_change_of_final() returns trigger language plpgsql as $$
declare free text[] := array['status', 'voided_at', 'credited', 'version', 'updated_at'];
begin
    if tg_op = 'DELETE' or to_jsonb(new) - free is distinct from to_jsonb(old) - free
        or new.status <> old.status and new.status <> 'void'
    then
        raise exception '% % is final', tg_table_name, old.number using errcode = 'restrict_violation';
    end if;
    return new;
end $$;

create trigger invoices_refuse_change_of_final before update on invoices
    for each row when (old.number is not null) execute function dues_refuse_change_of_final();
create trigger invoices_refuse_delete_of_final before delete on invoices
    for each row when (old.number is not null) execute function dues_refuse_change_of_final();
create trigger credit_notes_refuse_change_of_final before update on credit_notes
    for each row when (old.number is not null) execute function dues_refuse_change_of_final();
create trigger credit_notes_refuse_delete_of_final before delete on credit_notes
    for each row when (old.number is not null) execute function dues_refuse_change_of_final();

create function dues_refuse_lines_of_final() returns trigger language plpgsql as $$
declare line invoice_lines := case when tg_op = 'DELETE' then old else new end;
begin
    if exists (select from invoices i where i.store_id = line.store_id and i.id = line.invoice_id
               and i.number is not null)
    then
        raise exception 'the invoice of this line is final' using errcode = 'restrict_violation';
    end if;
    return case when tg_op = 'DELETE' then old else new end;
end $$;

create trigger invoice_lines_refuse_change_of_final before insert or update or delete on invoice_lines
    for each row execute function dues_refuse_lines_of_final();
"""


def upgrade() -> None:
    for part in (PACKAGES, CUSTOMERS, SUBSCRIPTIONS, INVOICES, BOOKS, GUARDS):
        op.execute(part)


def downgrade() -> None:
    op.execute(
        "drop table ledger_entries, ledger_transactions, credits, subscription_periods, credit_notes, invoice_lines,"
        " invoices, number_counters, subscription_changes, subscriptions, trial_uses, customers"
    )
    op.execute(
        "drop function dues_refuse_change, dues_require_balance, dues_refuse_change_of_final,"
        " dues_refuse_lines_of_final"
    )
    op.execute("drop index payments_store_id_subscription_id_created_at_id_idx")
    op.execute("alter table payments drop column invoice_id")
    op.execute(
        "alter table packages drop constraint packages_interval_check, drop constraint packages_check,"
        " drop column interval_count,"
        " add constraint packages_interval_check check (interval in ('once', 'month', 'year'))"
    )
