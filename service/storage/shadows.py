"""The counts of shadows in SQL: rows are added to what is there, by any number of servers. They are no change of the
service's state, so the audit trail says nothing of them.
"""

from collections.abc import Iterable

from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite

from service.ports import ShadowCount
from service.storage.database import Database
from service.storage.tables import shadow_counts
from service.storage.times import utc


class SqlShadowBook:
    """The counts of shadows in a database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, counts: Iterable[ShadowCount]) -> None:
        """Adds rows to what there is."""
        rows = [vars(count) for count in counts]
        if not rows:
            return
        insert = sqlite.insert if self._database.path is not None else postgresql.insert
        made = insert(shadow_counts)
        upsert = made.on_conflict_do_update(
            index_elements=list(shadow_counts.primary_key.columns),
            set_={"rows": shadow_counts.c.rows + made.excluded.rows},
        )
        with self._database.step() as step:
            step.execute(upsert, rows)

    def counts(self, model: str, shadow: str) -> list[ShadowCount]:
        """All counts of a shadow, the oldest hour first."""
        columns = shadow_counts.c
        wanted = select(shadow_counts).where(columns.model == model, columns.shadow == shadow)
        with self._database.look() as step:
            rows = step.execute(wanted.order_by(columns.hour, columns.answered_by, columns.answered, columns.would))
            return [
                ShadowCount(model, shadow, utc(row.hour), row.answered_by, row.answered, row.would, row.rows)
                for row in rows
            ]
