"""Facts: what services wrote into their outboxes against what the streams have and what was done about it."""

from itertools import groupby
from typing import Final

import sqlalchemy as sa

from services.chassis.events import inbox, outbox
from services.cli.audit.books import Books, CrossCheck, Differences
from services.notification.templates import SOMETIMES, TEMPLATES

PUBLISHERS: Final = ("user", "inventory", "order", "payment")

_OUTBOX: Final = outbox.define(sa.MetaData())
_INBOX: Final = inbox.define(sa.MetaData())


def _published(books: Books) -> Differences:
    """Of the last day, which is what outboxes keep."""
    rows = {
        service: books.databases[service]
        .execute(
            sa.select(
                _OUTBOX.c.event_id, _OUTBOX.c.aggregate_id, _OUTBOX.c.type, _OUTBOX.c.stream_seq
            ).order_by(_OUTBOX.c.aggregate_id, _OUTBOX.c.seq)
        )
        .all()
        for service in PUBLISHERS
    }
    found = Differences()
    for service in PUBLISHERS:
        events = books.told.events[service]
        found.count("facts", len(rows[service]))
        found.count("in_streams", len(events))
        for aggregate_id, facts in groupby(rows[service], lambda row: row.aggregate_id):
            before = 0
            for fact in facts:
                entry = events.get(fact.event_id)
                if entry is None:
                    if fact.stream_seq is None or fact.stream_seq >= books.told.first[service]:
                        found.add(fact.event_id, f"{fact.type} of {aggregate_id}: not in the stream")
                elif entry.sequence < before:
                    found.add(fact.event_id, f"{fact.type} of {aggregate_id}: told out of order")
                else:
                    before = entry.sequence
    return found


def _received(books: Books) -> Differences:
    told = books.told
    known: dict[str, set[str]] = {}
    for row in books.notification.execute(sa.select(_INBOX.c.consumer, _INBOX.c.event_id)):
        known.setdefault(row.consumer, set()).add(row.event_id)
    found = Differences({"dead_letters": len(told.dead)})
    for service, templates in TEMPLATES.items():
        received = known.get(f"notification-{service}", set())
        for event_id, entry in told.events[service].items():
            if entry.type in templates and entry.type not in SOMETIMES:
                found.count("facts")
                if event_id not in received:
                    given_up = f", given up by {told.dead[event_id]}" if event_id in told.dead else ""
                    found.add(event_id, f"{entry.type} {event_id}: not received by notification{given_up}")
    return found


CHECKS: Final = (
    CrossCheck(
        "told.published",
        "Every fact of the last day is in its stream, in order per aggregate.",
        _published,
        needs_streams=True,
    ),
    CrossCheck(
        "told.received",
        "Every fact that people are told of had its effect in notification.",
        _received,
        needs_streams=True,
    ),
)
"""Only what consumers exist for can be checked; notification is the one there is."""
