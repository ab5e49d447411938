"""What customers are found by: the words of the name and the e-mail address that a store is shown of them.

Kept by triggers, so that no write can forget to. Of a name like `Anne-Marie O'Neill` these are `anne-marie`, `o'neill`
and their parts; of an address the whole, what is before and behind the @, and the parts of that. Accents are left out.
"""

from alembic import op

revision = "0034"
down_revision = "0033"

TABLE = """
create table customer_words(
    store_id uuid not null references stores,
    word text collate "C" not null,
    user_id uuid not null,
    primary key (store_id, word, user_id),
    foreign key (store_id, user_id) references customers on delete cascade
);
create index customer_words_store_id_user_id_idx on customer_words(store_id, user_id);
"""
FUNCTIONS = r"""
create function dues_plain(words text) returns text language sql immutable parallel safe as $$
    select regexp_replace(lower(normalize(words, nfkd)), U&'[\0300-\036F]', '', 'g')
$$;

create function dues_customer_words(name text, email text) returns table(word text)
    language sql immutable parallel safe as $$
    select distinct left(w.word, 200) from (
        select regexp_split_to_table(dues_plain(name), '\s+') as word
        union all select regexp_split_to_table(dues_plain(name), '[\s!-/:-@[-`{-~]+')
        union all select dues_plain(email)
        union all select unnest(string_to_array(dues_plain(email), '@'))
        union all select regexp_split_to_table(dues_plain(email), '[!-/:-@[-`{-~]+')
    ) w where w.word <> ''
$$;

create function dues_note_customer() returns trigger language plpgsql as $$
begin
    if tg_op = 'UPDATE' then
        delete from customer_words w where w.store_id = new.store_id and w.user_id = new.user_id;
    end if;
    insert into customer_words(store_id, word, user_id)
    select new.store_id, w.word, new.user_id
    from users u, dues_customer_words(coalesce(new.name, u.name), coalesce(new.email, u.email)) w
    where u.id = new.user_id;
    return null;
end $$;

create function dues_note_customers() returns trigger language plpgsql as $$
begin
    delete from customer_words w using customers c
    where c.user_id = new.id and w.store_id = c.store_id and w.user_id = c.user_id;
    insert into customer_words(store_id, word, user_id)
    select c.store_id, w.word, c.user_id
    from customers c, dues_customer_words(coalesce(c.name, new.name), coalesce(c.email, new.email)) w
    where c.user_id = new.id;
    return null;
end $$;
"""
TRIGGERS = """
create trigger customers_note_new after insert on customers
    for each row execute function dues_note_customer();
create trigger customers_note_words after update of name, email on customers
    for each row when ((old.name, old.email) is distinct from (new.name, new.email))
    execute function dues_note_customer();
create trigger users_note_words after update of name, email on users
    for each row when ((old.name, old.email) is distinct from (new.name, new.email))
    execute function dues_note_customers();
"""


def upgrade() -> None:
    op.execute(TABLE)
    op.execute(FUNCTIONS)
    op.execute(TRIGGERS)


def downgrade() -> None:
    op.execute("drop trigger users_note_words on users")
    op.execute("drop trigger customers_note_words on customers")
    op.execute("drop trigger customers_note_new on customers")
    op.execute("drop function dues_note_customers, dues_note_customer, dues_customer_words, dues_plain")
    op.execute("drop table customer_words")
