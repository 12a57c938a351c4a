"""Payment methods in and out of a transaction. Tokens go in, and come out for the provider alone."""

from dataclasses import replace
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa

from services.chassis.events.envelope import envelope
from services.chassis.events.outbox import Outbox
from services.chassis.storage.session import Row, Session
from services.chassis.storage.statement import Statement
from services.kernel.clock import from_micros, to_micros
from services.kernel.ids import Ids
from services.payment import events
from services.payment.methods import (
    Card,
    MethodEvent,
    PaymentMethod,
    PaymentMethodAdded,
    PaymentMethodNotFound,
    PaymentMethodRemoved,
)
from services.payment.tables import REMAINING, payment_methods


class Methods:
    """The ways to pay of every user."""

    def __init__(self, session: Session, outbox: Outbox, ids: Ids) -> None:
        self._session = session
        self._outbox = outbox
        self._ids = ids

    def get(self, payment_method_id: str) -> PaymentMethod:
        """Also a removed one. Raises PaymentMethodNotFound."""
        row = self._session.one(_FIND, of_id=payment_method_id)
        if row is None:
            raise PaymentMethodNotFound(payment_method_id=payment_method_id)
        return from_row(row)

    def usable(self, payment_method_id: str, *, user_id: str) -> PaymentMethod:
        """One the user can pay with. Raises PaymentMethodNotFound, for those of others too."""
        method = self.get(payment_method_id).usable()
        if method.user_id != user_id:
            raise PaymentMethodNotFound(payment_method_id=payment_method_id)
        return method

    def token(self, payment_method_id: str) -> str:
        """What the provider knows the method by; also of a removed one, to finish what was begun with it."""
        row = self._session.one(_FIND, of_id=payment_method_id)
        if row is None:
            raise PaymentMethodNotFound(payment_method_id=payment_method_id)
        token: str = row["provider_token"]
        return token

    def add(self, method: PaymentMethod, token: str) -> PaymentMethod:
        """The user's first one becomes the default whatever it says."""
        if not self._session.one(_NEWEST, of_user_id=method.user_id):
            method = _default(method)
        if method.is_default:
            self._session.run(_CLEAR_DEFAULT, of_user_id=method.user_id)
        self._session.run(_ADD, **_row(method, token))
        self._tell(PaymentMethodAdded(method.id, method.user_id), method.created_at)
        return method

    def make_default(self, method: PaymentMethod) -> PaymentMethod:
        self._session.run(_CLEAR_DEFAULT, of_user_id=method.user_id)
        self._session.run(_MAKE_DEFAULT, of_id=method.id)
        return _default(method)

    def remove(self, removed: PaymentMethod) -> None:
        """The user's newest remaining one becomes the default if this was it."""
        at = removed.removed_at
        assert at is not None
        was_default = self.get(removed.id).is_default
        self._session.run(_REMOVE, of_id=removed.id, new_remove_time=to_micros(at))
        newest = self._session.one(_NEWEST, of_user_id=removed.user_id)
        if was_default and newest is not None:
            self._session.run(_MAKE_DEFAULT, of_id=newest["payment_method_id"])
        self._tell(PaymentMethodRemoved(removed.id, removed.user_id), at)

    def _tell(self, event: MethodEvent, at: datetime) -> None:
        message = events.method_to_message(event)
        self._outbox.add(envelope("payment", event.payment_method_id, message, id=self._ids.new(), at=at))


def from_row(row: Row) -> PaymentMethod:
    """The method that a row of `payment_methods` holds, without its token."""
    return PaymentMethod(
        id=row["payment_method_id"],
        user_id=row["user_id"],
        provider=row["provider"],
        card=Card(row["brand"], row["last_four"]),
        created_at=from_micros(row["create_time"]),
        is_default=bool(row["is_default"]),
        removed_at=None if row["remove_time"] is None else from_micros(row["remove_time"]),
    )


def _default(method: PaymentMethod) -> PaymentMethod:
    return replace(method, is_default=True)


def _row(method: PaymentMethod, token: str) -> dict[str, Any]:
    return {
        "payment_method_id": method.id,
        "user_id": method.user_id,
        "provider": method.provider,
        "provider_token": token,
        "brand": method.card.brand,
        "last_four": method.card.last_four,
        "is_default": method.is_default,
        "create_time": to_micros(method.created_at),
        "remove_time": None,
    }


_BY_ID: Final = payment_methods.c.payment_method_id == sa.bindparam("of_id")
_FIND: Final = Statement(sa.select(payment_methods).where(_BY_ID))
_NEWEST: Final = Statement(
    sa.select(payment_methods.c.payment_method_id)
    .where(payment_methods.c.user_id == sa.bindparam("of_user_id"), REMAINING)
    .order_by(payment_methods.c.create_time.desc(), payment_methods.c.payment_method_id.desc())
    .limit(1)
)
_ADD: Final = Statement(
    sa.insert(payment_methods).values({c.name: sa.bindparam(c.name) for c in payment_methods.columns})
)
_CLEAR_DEFAULT: Final = Statement(
    sa.update(payment_methods)
    .where(payment_methods.c.user_id == sa.bindparam("of_user_id"), sa.text("is_default"))
    .values(is_default=sa.false())
)
_MAKE_DEFAULT: Final = Statement(sa.update(payment_methods).where(_BY_ID).values(is_default=sa.true()))
_REMOVE: Final = Statement(
    sa.update(payment_methods)
    .where(_BY_ID)
    .values(is_default=sa.false(), remove_time=sa.bindparam("new_remove_time"))
)
