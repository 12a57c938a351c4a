"""Signing keys in and out of a transaction."""

from datetime import datetime, timedelta
from typing import Final

import sqlalchemy as sa

from services.chassis.storage.retention import Retention
from services.chassis.storage.session import Row, Session
from services.chassis.storage.statement import Statement, insert
from services.kernel.clock import from_micros, to_micros
from services.user.key_schedule import SigningKey
from services.user.tables import signing_keys

RETENTION: Final = Retention(signing_keys, signing_keys.c.retire_time, timedelta(0))
"""For the janitor: a retired key proves nothing any more, and must not be there to be stolen."""


class SigningKeys:
    """The keys of this house; a handful."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def all(self) -> list[SigningKey]:
        """Retired ones included, until the janitor comes."""
        return [_from_row(row) for row in self._session.all(_ALL)]

    def add(self, key: SigningKey, *, retires_others_at: datetime) -> bool:
        """Adds a key, and says when those before it retire; False, and nothing, if its number is taken."""
        added = self._session.run(
            _ADD,
            key_id=key.id,
            number=key.number,
            public_key=key.public,
            sealed_private_key=key.sealed_private,
            sealed_with=key.sealed_with,
            create_time=to_micros(key.created_at),
            sign_time=to_micros(key.signs_from),
        )
        if added:
            self._session.run(_RETIRE, before=key.number, at=to_micros(retires_others_at))
        return bool(added)


def _from_row(row: Row) -> SigningKey:
    return SigningKey(
        id=row["key_id"],
        public=row["public_key"],
        sealed_private=row["sealed_private_key"],
        sealed_with=row["sealed_with"],
        number=row["number"],
        created_at=from_micros(row["create_time"]),
        signs_from=from_micros(row["sign_time"]),
        retires_at=None if row["retire_time"] is None else from_micros(row["retire_time"]),
    )


_ALL: Final = Statement(sa.select(signing_keys).order_by(signing_keys.c.number))
_ADD: Final = Statement(
    insert(signing_keys)
    .values({c.name: sa.bindparam(c.name) for c in signing_keys.columns if c.name != "retire_time"})
    .on_conflict_do_nothing(index_elements=["number"])
)
_RETIRE: Final = Statement(
    sa.update(signing_keys)
    .where(signing_keys.c.number < sa.bindparam("before"), signing_keys.c.retire_time.is_(None))
    .values(retire_time=sa.bindparam("at"))
)
