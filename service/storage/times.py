"""Times as they come out of a database."""

from datetime import UTC, datetime


def utc(at: datetime) -> datetime:
    """A kept time with its zone, which SQLite gives back without; all of ours are UTC."""
    return at if at.tzinfo else at.replace(tzinfo=UTC)
