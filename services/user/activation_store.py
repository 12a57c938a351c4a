"""Activation tokens in and out of a transaction: at most one an account, and only its hash."""

from typing import Final

import sqlalchemy as sa

from services.chassis.storage.retention import Retention
from services.chassis.storage.session import Session
from services.chassis.storage.statement import Statement, insert
from services.kernel.clock import from_micros, to_micros
from services.user.activation import LIFETIME, Activation
from services.user.tables import activations

RETENTION: Final = Retention(activations, activations.c.issue_time, LIFETIME)
"""For the janitor: an expired token is as good as none."""


class Activations:
    """The token that each account waits for."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def find(self, user_id: str) -> Activation | None:
        row = self._session.one(_FIND, of_user_id=user_id)
        if row is None:
            return None
        return Activation(row["user_id"], row["proof"], from_micros(row["issue_time"]))

    def put(self, activation: Activation) -> None:
        """In place of the one before."""
        self._session.run(
            _PUT,
            user_id=activation.user_id,
            proof=activation.proof,
            issue_time=to_micros(activation.issued_at),
        )

    def drop(self, user_id: str) -> None:
        self._session.run(_DROP, of_user_id=user_id)


_OF: Final = activations.c.user_id == sa.bindparam("of_user_id")
_FIND: Final = Statement(sa.select(activations).where(_OF))
_ADD: Final = insert(activations).values({c.name: sa.bindparam(c.name) for c in activations.columns})
_PUT: Final = Statement(
    _ADD.on_conflict_do_update(
        index_elements=["user_id"],
        set_={name: _ADD.excluded[name] for name in ("proof", "issue_time")},
    )
)
_DROP: Final = Statement(sa.delete(activations).where(_OF))
