"""The time: always UTC, always asked for here, so that tests can move it."""

from datetime import UTC, datetime


def now() -> datetime:
    return datetime.now(UTC)


def rfc3339(moment: datetime) -> str:
    """As PostgreSQL writes it in JSON in a UTC session: `2026-11-20T14:39:00.123456+00:00`."""
    return moment.astimezone(UTC).isoformat()
