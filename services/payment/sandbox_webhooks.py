"""The webhooks that the sandbox has still to send, kept in its books until they are taken."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

import sqlalchemy as sa

from services.chassis.storage.session import Row, Session
from services.chassis.storage.statement import Statement
from services.kernel.clock import to_micros

metadata = sa.MetaData()

webhooks = sa.Table(
    "webhooks",
    metadata,
    sa.Column("webhook_id", sa.Text, primary_key=True),
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("reference", sa.Text, nullable=False),
    sa.Column("times", sa.Integer, nullable=False),
    sa.Column("failures", sa.Integer, nullable=False),
    sa.Column("due_time", sa.BigInteger, nullable=False),
)

BATCH_MAX: Final = 50


@dataclass(frozen=True, slots=True)
class Webhook:
    """One thing to be told."""

    id: str
    type: str
    """E.g. `payment.captured`."""

    authorization: str
    times: int
    """How often it is still to be sent; an honest provider sends once what is taken."""

    failures: int = 0


class Post:
    """What waits to be sent."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, webhook: Webhook) -> None:
        self._session.run(
            _ADD,
            webhook_id=webhook.id,
            type=webhook.type,
            reference=webhook.authorization,
            times=webhook.times,
            failures=webhook.failures,
            due_time=0,
        )

    def due(self, *, now: datetime) -> list[Webhook]:
        """The longest waiting first."""
        return [_webhook(row) for row in self._session.all(_DUE, now=to_micros(now))]

    def sent(self, webhook: Webhook) -> None:
        """Once; it may have to be sent again."""
        if webhook.times > 1:
            self._session.run(_AGAIN, of_webhook_id=webhook.id, new_times=webhook.times - 1)
        else:
            self.drop(webhook)

    def put_off(self, webhook: Webhook, until: datetime) -> None:
        """It was not taken."""
        self._session.run(
            _PUT_OFF,
            of_webhook_id=webhook.id,
            new_failures=webhook.failures + 1,
            new_due_time=to_micros(until),
        )

    def drop(self, webhook: Webhook) -> None:
        self._session.run(_DROP, of_webhook_id=webhook.id)


def _webhook(row: Row) -> Webhook:
    return Webhook(row["webhook_id"], row["type"], row["reference"], row["times"], row["failures"])


_ONE: Final = webhooks.c.webhook_id == sa.bindparam("of_webhook_id")
_ADD: Final = Statement(
    sa.insert(webhooks).values({column.name: sa.bindparam(column.name) for column in webhooks.columns})
)
_DUE: Final = Statement(
    sa.select(webhooks)
    .where(webhooks.c.due_time <= sa.bindparam("now", type_=sa.BigInteger))
    .order_by(webhooks.c.due_time, webhooks.c.webhook_id)
    .limit(BATCH_MAX)
)
_AGAIN: Final = Statement(sa.update(webhooks).where(_ONE).values(times=sa.bindparam("new_times")))
_PUT_OFF: Final = Statement(
    sa.update(webhooks)
    .where(_ONE)
    .values(failures=sa.bindparam("new_failures"), due_time=sa.bindparam("new_due_time"))
)
_DROP: Final = Statement(sa.delete(webhooks).where(_ONE))
