"""Telling the others, in the transaction of what is told."""

from collections.abc import Iterable

from services.chassis.events.envelope import envelope
from services.chassis.events.outbox import Outbox
from services.chassis.storage.session import Session
from services.inventory import events
from services.kernel.ids import Ids

SERVICE = "inventory"


class Announcements:
    """What a transaction has to say to the world."""

    def __init__(self, session: Session, ids: Ids) -> None:
        self._outbox = Outbox(session)
        self._ids = ids

    def tell(self, happened: Iterable[events.Event]) -> None:
        """Publishes these events, in this order, if the transaction commits."""
        for event in happened:
            aggregate_id, message = events.to_message(event)
            self._outbox.add(envelope(SERVICE, aggregate_id, message, id=self._ids.new(), at=event.at))
