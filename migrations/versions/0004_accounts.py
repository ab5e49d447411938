"""Verified e-mail addresses, codes that are mailed to them, and counts of what is tried on an account.

Of a code only its hash is kept; a code that was used is deleted. What is counted lies under a hash, so that the table
names no address that somebody typed. Counting needs no log: after a crash every window begins anew.
"""

from alembic import op

revision = "0004"
down_revision = "0003"

CODES = """
create table account_codes(
    id uuid primary key,
    user_id uuid not null references users,
    purpose text not null check (purpose in ('verify-email', 'reset-password')),
    email text not null,
    code_hash bytea not null constraint account_codes_code_hash_key unique,
    created_at timestamptz not null default now(),
    expires_at timestamptz not null
);
create index account_codes_user_id_idx on account_codes(user_id);
create index account_codes_expires_at_idx on account_codes(expires_at);
"""

ATTEMPTS = """
create unlogged table account_attempts(
    key bytea primary key,
    used integer not null,
    ends_at timestamptz not null
);
create index account_attempts_ends_at_idx on account_attempts(ends_at);
"""


def upgrade() -> None:
    op.execute("alter table users add column email_verified_at timestamptz")
    op.execute(CODES)
    op.execute(ATTEMPTS)


def downgrade() -> None:
    op.execute("drop table account_attempts, account_codes")
    op.execute("alter table users drop column email_verified_at")
