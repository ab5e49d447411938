"""Tables of imports, of the rows that they refused, and of the names by which stores know what they brought along."""

from uuid import UUID

from sqlalchemy import ForeignKey, ForeignKeyConstraint, LargeBinary
from sqlalchemy.orm import Mapped, mapped_column

from dues.accounts.models import User
from dues.postgres import Model, Versioned
from dues.stores.models import Store


class Import(Versioned, Model):
    """An import that was asked for. `bytes` is the size of its file, decoded; `upload_key` its name in the file store.

    `position` is the byte up to which the file has been read, and `line` the number of lines before it. Of its `rows`,
    headings not counted, so many were `created`, `updated`, `unchanged` and `refused`; `file_key` names the file that
    tells of those that were refused, `sha256` is that file's in hexadecimal.
    """

    __tablename__ = "imports"

    store_id: Mapped[UUID] = mapped_column(ForeignKey(Store.id), primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    requested_by: Mapped[UUID] = mapped_column(ForeignKey(User.id))
    kind: Mapped[str]
    format: Mapped[str]
    status: Mapped[str] = mapped_column(default="pending")
    bytes: Mapped[int]
    upload_key: Mapped[str | None]
    position: Mapped[int] = mapped_column(default=0)
    line: Mapped[int] = mapped_column(default=0)
    rows: Mapped[int] = mapped_column(default=0)
    created: Mapped[int] = mapped_column(default=0)
    updated: Mapped[int] = mapped_column(default=0)
    unchanged: Mapped[int] = mapped_column(default=0)
    refused: Mapped[int] = mapped_column(default=0)
    file_key: Mapped[str | None]
    file_bytes: Mapped[int | None]
    sha256: Mapped[str | None]
    job_id: Mapped[UUID | None]


class ImportRefusal(Model):
    """A row that was refused: the number of its first line, its external id where it has one that can be read, and what
    is wrong with which of its fields."""

    __tablename__ = "import_refusals"
    __table_args__ = (ForeignKeyConstraint(["store_id", "import_id"], ["imports.store_id", "imports.id"]),)

    store_id: Mapped[UUID] = mapped_column(primary_key=True)
    import_id: Mapped[UUID] = mapped_column(primary_key=True)
    line: Mapped[int] = mapped_column(primary_key=True)
    external_id: Mapped[str]
    code: Mapped[str]
    pointer: Mapped[str]
    detail: Mapped[str]


class ExternalId(Model):
    """By which name a store knows one of its rows. `digest` is of the row as it was imported last."""

    __tablename__ = "external_ids"

    store_id: Mapped[UUID] = mapped_column(ForeignKey(Store.id), primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)
    external_id: Mapped[str] = mapped_column(primary_key=True)
    row_id: Mapped[UUID]
    digest: Mapped[bytes] = mapped_column(LargeBinary)
