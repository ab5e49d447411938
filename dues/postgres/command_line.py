"""Commands of `flask` as an operator meets them: what the servers refuse is told in one line, without a traceback."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click
import psycopg2
from flask.cli import AppGroup
from redis import RedisError
from sqlalchemy.exc import SQLAlchemyError

from dues.errors import Problem
from dues.postgres.changing import Busy, Refused, Session, changing
from dues.postgres.release import wrong_release_of
from dues.postgres.sessions import WrongSession
from dues.postgres.sqlstate import refusal_of, told
from dues.settings import settings


@contextmanager
def refusals() -> Iterator[None]:
    """Where PostgreSQL, Redis or Dues refuse what the block asks for, raise one line about it instead, with which a
    command ends. A bug keeps its own error. Raises: click.ClickException."""
    try:
        yield
    except Problem as refused:
        raise click.ClickException(refused.detail) from refused
    except WrongSession as wrong:
        raise click.ClickException(str(wrong)) from wrong
    except RedisError as error:
        raise click.ClickException(f"Redis is not available: {error}") from error
    except (psycopg2.Error, SQLAlchemyError) as error:
        mismatch = wrong_release_of(error)
        if (said := mismatch.told if mismatch else refusal_of(error)) is None:
            raise
        raise click.ClickException(said) from error


class Command(click.Command):
    """A command that ends with status 1 and one line where it is refused what it asks for."""

    def invoke(self, ctx: click.Context) -> Any:
        with refusals():
            return super().invoke(ctx)


class Group(Command, AppGroup):
    """Commands of this kind under one name. Each runs in the application's context, in which its refusals are told."""

    command_class = Command


@contextmanager
def session_of_command() -> Iterator[Session]:
    """A session that alone changes tables, for a command, which tells what is refused."""
    try:
        with changing(settings(), lambda line: click.echo(f"  {line}")) as session:
            yield session
    except (Busy, Refused) as refused:
        raise click.ClickException(str(refused)) from refused
    except psycopg2.Error as error:
        raise click.ClickException(told(error)) from error
