"""Who is at which unfinished payment: leases, in the transaction of what they are taken for.

A lease only saves work: two drivers on one payment ask the provider with the same key and get the same
answer.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

import sqlalchemy as sa

from services.chassis.storage.session import Session
from services.chassis.storage.statement import Statement, insert
from services.kernel.clock import to_micros
from services.payment.tables import unfinished


@dataclass(frozen=True, slots=True)
class Lease:
    """Who works on a payment, and until when nobody else does."""

    driver: str
    now: datetime
    until: datetime


class Work:
    """The payments for which something is still to be done at the provider."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def take(self, order_id: str, lease: Lease) -> bool:
        """Whether the payment is the driver's now; not if someone else is at it."""
        until = to_micros(lease.until)
        taken = self._session.run(
            _TAKE,
            order_id=order_id,
            driver=lease.driver,
            leased_until=until,
            due_time=until,
            failures=0,
            now=to_micros(lease.now),
        )
        return taken == 1

    def failures(self, order_id: str) -> int:
        """How often in a row it came to nothing."""
        row = self._session.one(_FIND, of_order_id=order_id)
        return row["failures"] if row else 0

    def put_off(self, order_id: str, until: datetime) -> None:
        """It came to nothing: anyone may take it, and the reconciler will at that time."""
        self._session.run(_PUT_OFF, of_order_id=order_id, new_due_time=to_micros(until))

    def wake(self, order_id: str, *, now: datetime) -> None:
        """Something is to be done at once, by whoever comes first."""
        if not self._session.run(_WAKE, of_order_id=order_id, new_due_time=to_micros(now)):
            micros = to_micros(now)
            self._session.run(_ADD, order_id=order_id, driver="", leased_until=0, due_time=micros, failures=0)

    def done(self, order_id: str) -> None:
        """Nothing is left to do."""
        self._session.run(_DONE, of_order_id=order_id)

    def due(self, *, now: datetime, rows_max: int) -> list[str]:
        """Orders whose payment somebody should take up, the longest waiting first."""
        rows = self._session.all(_DUE, now=to_micros(now), rows_max=rows_max)
        return [row["order_id"] for row in rows]

    def release_all(self, driver: str, *, now: datetime) -> int:
        """What a driver of this name was at when it died is free again; how much that was."""
        return self._session.run(_RELEASE_ALL, of_driver=driver, new_due_time=to_micros(now))


_ONE: Final = unfinished.c.order_id == sa.bindparam("of_order_id")
_FIND: Final = Statement(sa.select(unfinished).where(_ONE))
_ADD: Final = Statement(
    sa.insert(unfinished).values({c.name: sa.bindparam(c.name) for c in unfinished.columns})
)
_new: Final = insert(unfinished).values({c.name: sa.bindparam(c.name) for c in unfinished.columns})
_TAKE: Final = Statement(
    _new.on_conflict_do_update(
        index_elements=["order_id"],
        set_={name: _new.excluded[name] for name in ("driver", "leased_until", "due_time")},
        where=unfinished.c.leased_until <= sa.bindparam("now", type_=sa.BigInteger),
    )
)
_PUT_OFF: Final = Statement(
    sa.update(unfinished)
    .where(_ONE)
    .values(
        leased_until=sa.literal_column("0"),
        due_time=sa.bindparam("new_due_time"),
        failures=unfinished.c.failures + sa.literal_column("1"),
    )
)
_WAKE: Final = Statement(
    sa.update(unfinished)
    .where(_ONE)
    .values(leased_until=sa.literal_column("0"), due_time=sa.bindparam("new_due_time"))
)
_DONE: Final = Statement(sa.delete(unfinished).where(_ONE))
_DUE: Final = Statement(
    sa.select(unfinished.c.order_id)
    .where(unfinished.c.due_time <= sa.bindparam("now"))
    .order_by(unfinished.c.due_time)
    .limit(sa.bindparam("rows_max", type_=sa.Integer))
)
_RELEASE_ALL: Final = Statement(
    sa.update(unfinished)
    .where(unfinished.c.driver == sa.bindparam("of_driver"))
    .values(leased_until=sa.literal_column("0"), due_time=sa.bindparam("new_due_time"))
)
