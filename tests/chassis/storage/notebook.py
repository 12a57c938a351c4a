"""A small service's worth of tables: notes, some of which belong to others."""

from dataclasses import dataclass

import sqlalchemy as sa

from services.chassis.storage import audit_trail, event_store, idempotency
from services.chassis.storage.database import Store
from services.chassis.storage.event_store import EventStore
from services.chassis.storage.session import Session
from services.chassis.storage.statement import Statement

metadata = sa.MetaData()
idempotency.define(metadata)
audit_trail.define(metadata)
events = EventStore(event_store.define(metadata, "story_events"))
notes = sa.Table(
    "notes",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("parent_id", sa.Text, sa.ForeignKey("notes.id", deferrable=True, initially="DEFERRED")),
)

ADD = Statement(sa.insert(notes))
TEXT = Statement(sa.select(notes.c.text).where(notes.c.id == sa.bindparam("of_id")))
COUNT = Statement(sa.select(sa.func.count().label("rows")).select_from(notes))


@dataclass(frozen=True)
class Transaction:
    session: Session

    def add(self, note_id: str, text: str = "", parent_id: str | None = None) -> None:
        self.session.run(ADD, id=note_id, text=text, parent_id=parent_id)

    def text(self, note_id: str) -> str | None:
        row = self.session.one(TEXT, of_id=note_id)
        return row["text"] if row else None

    def count(self) -> int:
        row = self.session.one(COUNT)
        return int(row["rows"]) if row else 0


Notes = Store[Transaction]
