"""Moving a store to another Dues: where each is, and what refuses writes meanwhile. See dues/moves."""

from alembic import op

revision = "0039"
down_revision = "0038"

MOVES = """
create table store_moves(
    store_id uuid primary key,
    id uuid not null,
    state text not null
        check (state in ('holding', 'copying', 'switching', 'leaving', 'gone', 'arriving', 'here')),
    address text not null default '',
    changed_at timestamptz not null default now()
);

-- True for the one transaction that brings a store here, or takes it away: nobody else ever sees these two states.
create function store_is_on_its_way(store uuid) returns bool language sql stable as $$
    select exists (select from store_moves m where m.store_id = store and m.state in ('arriving', 'leaving'))
$$;
"""

# Triggers that call these exist only while a store is being moved (dues/moves/fence.py). The argument is the store.
FENCE = """
create function store_moves_refuse() returns trigger language plpgsql as $$
begin
    if tg_op = 'DELETE' and store_is_on_its_way(tg_argv[0]::uuid) then
        return old;
    end if;
    raise exception 'store % is being moved', tg_argv[0] using errcode = 'DU503';
end $$;

create function store_moves_refuse_of_post() returns trigger language plpgsql as $$
declare of_post uuid := case when tg_op = 'DELETE' then old.post_id else new.post_id end;
begin
    if exists (select from posts p where p.id = of_post and p.store_id = tg_argv[0]::uuid)
        and not (tg_op = 'DELETE' and store_is_on_its_way(tg_argv[0]::uuid))
    then
        raise exception 'store % is being moved', tg_argv[0] using errcode = 'DU503';
    end if;
    return case when tg_op = 'DELETE' then old else new end;
end $$;

-- No job of the store begins, and those that wait are on a queue that no worker asks for.
create function store_moves_hold_job() returns trigger language plpgsql as $$
begin
    if tg_op = 'UPDATE' and old.status = 'queued' and new.status = 'running' then
        return null;
    end if;
    if new.status = 'queued' and new.queue not like 'moving:%' then
        new.queue := 'moving:' || new.queue;
    end if;
    return new;
end $$;

-- After that no job of the store changes, but for what is noted of many stores' jobs at once: that they are due.
create function store_moves_refuse_job() returns trigger language plpgsql as $$
begin
    if tg_op = 'DELETE' and store_is_on_its_way(tg_argv[0]::uuid) then
        return old;
    end if;
    if tg_op = 'UPDATE' then
        if old.status = 'queued' and new.status = 'running' then
            return null;
        end if;
        if new.status = old.status and new.cancel_requested_at is not distinct from old.cancel_requested_at then
            return new;
        end if;
    end if;
    raise exception 'store % is being moved', tg_argv[0] using errcode = 'DU503';
end $$;
"""

_KEEP_DOCUMENT = """
create or replace function keep_document() returns trigger language plpgsql as $$
begin
    if tg_op = 'UPDATE' and old.content is null and row(new.store_id, new.id, new.kind, new.subject_id, new.number,
            new.user_id, new.payment_id, new.data, new.created_at)
        is not distinct from row(old.store_id, old.id, old.kind, old.subject_id, old.number,
            old.user_id, old.payment_id, old.data, old.created_at) then
        return new;
    end if;{moving}
    raise exception 'a document that was issued is kept as it is' using errcode = 'integrity_constraint_violation';
end $$;
"""
_REFUSE_CHANGE = """
create or replace function dues_refuse_change() returns trigger language plpgsql as $$
begin{moving}
    raise exception '% is only ever added to', tg_table_name using errcode = 'restrict_violation';
end $$;
"""
_REFUSE_CHANGE_OF_FINAL = """
create or replace function dues_refuse_change_of_final() returns trigger language plpgsql as $$
declare free text[] := array['status', 'voided_at', 'credited', 'version', 'updated_at'];
begin
    if tg_op = 'DELETE' or to_jsonb(new) - free is distinct from to_jsonb(old) - free
        or new.status <> old.status and new.status <> 'void'
    then{moving}
        raise exception '% % is final', tg_table_name, old.number using errcode = 'restrict_violation';
    end if;
    return new;
end $$;
"""
_REFUSE_LINES_OF_FINAL = """
create or replace function dues_refuse_lines_of_final() returns trigger language plpgsql as $$
declare line invoice_lines := case when tg_op = 'DELETE' then old else new end;
begin
    if exists (select from invoices i where i.store_id = line.store_id and i.id = line.invoice_id
               and i.number is not null){moving}
    then
        raise exception 'the invoice of this line is final' using errcode = 'restrict_violation';
    end if;
    return case when tg_op = 'DELETE' then old else new end;
end $$;
"""
_LEAVES = "tg_op = 'DELETE' and store_is_on_its_way(old.store_id)"


def upgrade() -> None:
    op.execute(MOVES)
    op.execute(FENCE)
    op.execute(_KEEP_DOCUMENT.format(moving=f"\n    if {_LEAVES} then return old; end if;"))
    op.execute(_REFUSE_CHANGE.format(moving=f"\n    if tg_level = 'ROW' and {_LEAVES} then return old; end if;"))
    op.execute(_REFUSE_CHANGE_OF_FINAL.format(moving=f"\n        if {_LEAVES} then return old; end if;"))
    op.execute(_REFUSE_LINES_OF_FINAL.format(moving="\n        and not store_is_on_its_way(line.store_id)"))


def downgrade() -> None:
    for function in (_KEEP_DOCUMENT, _REFUSE_CHANGE, _REFUSE_CHANGE_OF_FINAL, _REFUSE_LINES_OF_FINAL):
        op.execute(function.format(moving=""))
    op.execute(
        "drop function store_moves_refuse, store_moves_refuse_of_post, store_moves_hold_job, store_moves_refuse_job"
    )
    op.execute("drop table store_moves")
    op.execute("drop function store_is_on_its_way")
