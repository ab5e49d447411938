"""The base of every table's model."""

from datetime import datetime
from typing import Any, ClassVar

from msgspec import UNSET, Struct, to_builtins
from msgspec.structs import asdict
from sqlalchemy import BigInteger, DateTime, MetaData, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, declared_attr, mapped_column

from dues.clock import now


class Model(DeclarativeBase):
    """Base of every table's model. Constraints are named as PostgreSQL itself would, so migrations read alike."""

    metadata = MetaData(
        naming_convention={
            "pk": "%(table_name)s_pkey",
            "uq": "%(table_name)s_%(column_0_N_name)s_key",
            "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
            "ix": "%(table_name)s_%(column_0_N_name)s_idx",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        str: Text(),
        int: BigInteger(),
        datetime: DateTime(timezone=True),
    }


class Versioned:
    """Columns of every row that changes: `version` counts its changes, for ETags and If-Match, and guards each
    ORM update, so that two writers never overwrite one another unseen."""

    version: Mapped[int] = mapped_column(default=1)
    created_at: Mapped[datetime] = mapped_column(default=now)
    updated_at: Mapped[datetime] = mapped_column(default=now, onupdate=now)

    @declared_attr.directive
    @classmethod
    def __mapper_args__(cls) -> dict[str, Any]:
        return {"version_id_col": cls.version}

    def apply(self, change: Struct) -> None:
        """Set the attributes that `change` has a value for; those that are UNSET stay as they are. A Struct among them
        is one of JSON."""
        for name, value in asdict(change).items():
            if value is not UNSET:
                setattr(self, name, to_builtins(value) if isinstance(value, Struct) else value)
