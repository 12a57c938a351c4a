"""API keys in and out of a transaction."""

from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa

from services.chassis.events.envelope import envelope
from services.chassis.events.outbox import Outbox
from services.chassis.storage.session import Row, Session
from services.chassis.storage.statement import Statement
from services.kernel.clock import from_micros, to_micros
from services.kernel.ids import Ids
from services.user import events
from services.user.api_keys import (
    KEYS_MAX,
    ApiKey,
    ApiKeyCreated,
    ApiKeyNotFound,
    ApiKeyRevoked,
    KeyEvent,
    TooManyApiKeys,
)
from services.user.tables import UNREVOKED, api_keys


class ApiKeys:
    """The keys of every user."""

    def __init__(self, session: Session, outbox: Outbox, ids: Ids) -> None:
        self._session = session
        self._outbox = outbox
        self._ids = ids

    def get(self, user_id: str, api_key_id: str) -> ApiKey:
        """Raises ApiKeyNotFound, for the keys of others too."""
        row = self._session.one(_FIND, of_user_id=user_id, of_id=api_key_id)
        if row is None:
            raise ApiKeyNotFound(api_key_id=api_key_id)
        return from_row(row)

    def find(self, secret_hash: bytes) -> ApiKey | None:
        """The key with that secret, whether it is good or not."""
        row = self._session.one(_FIND_BY_SECRET, of_secret_hash=secret_hash)
        return None if row is None else from_row(row)

    def unrevoked(self, user_id: str) -> list[ApiKey]:
        return [from_row(row) for row in self._session.all(_FIND_UNREVOKED, of_user_id=user_id)]

    def add(self, key: ApiKey) -> None:
        """Raises TooManyApiKeys."""
        good = [one for one in self.unrevoked(key.user_id) if one.is_good(at=key.created_at)]
        if len(good) >= KEYS_MAX:
            raise TooManyApiKeys(limit=KEYS_MAX)
        self._session.run(_ADD, **_row(key))
        self._tell(ApiKeyCreated(key.id, key.user_id, key.scopes), key.created_at)

    def revoke(self, key: ApiKey, *, at: datetime) -> None:
        """Nothing if it was revoked before."""
        if self._session.run(_REVOKE, of_id=key.id, new_revoke_time=to_micros(at)):
            self._tell(ApiKeyRevoked(key.id, key.user_id), at)

    def revoke_all(self, user_id: str, *, at: datetime) -> None:
        for key in self.unrevoked(user_id):
            self.revoke(key, at=at)

    def note_use(self, key: ApiKey, *, at: datetime) -> None:
        self._session.run(_NOTE_USE, of_id=key.id, new_last_use_time=to_micros(at))

    def _tell(self, event: KeyEvent, at: datetime) -> None:
        message = events.key_to_message(event)
        self._outbox.add(envelope("user", event.api_key_id, message, id=self._ids.new(), at=at))


def from_row(row: Row) -> ApiKey:
    """The key that a row of `api_keys` holds."""
    return ApiKey(
        id=row["api_key_id"],
        user_id=row["user_id"],
        name=row["name"],
        scopes=tuple(row["scopes"].split()),
        secret_hash=row["secret_hash"],
        ending=row["ending"],
        created_at=from_micros(row["create_time"]),
        expires_at=_time(row["expire_time"]),
        revoked_at=_time(row["revoke_time"]),
        last_used_at=_time(row["last_use_time"]),
    )


def _time(micros: int | None) -> datetime | None:
    return None if micros is None else from_micros(micros)


def _row(key: ApiKey) -> dict[str, Any]:
    return {
        "api_key_id": key.id,
        "user_id": key.user_id,
        "name": key.name,
        "scopes": " ".join(key.scopes),
        "secret_hash": key.secret_hash,
        "ending": key.ending,
        "create_time": to_micros(key.created_at),
        "expire_time": None if key.expires_at is None else to_micros(key.expires_at),
        "revoke_time": None,
        "last_use_time": None,
    }


_BY_ID: Final = api_keys.c.api_key_id == sa.bindparam("of_id")
_OF_USER: Final = api_keys.c.user_id == sa.bindparam("of_user_id")
_FIND: Final = Statement(sa.select(api_keys).where(_BY_ID, _OF_USER))
_FIND_BY_SECRET: Final = Statement(
    sa.select(api_keys).where(api_keys.c.secret_hash == sa.bindparam("of_secret_hash"))
)
_FIND_UNREVOKED: Final = Statement(sa.select(api_keys).where(UNREVOKED, _OF_USER))
_ADD: Final = Statement(sa.insert(api_keys).values({c.name: sa.bindparam(c.name) for c in api_keys.columns}))
_REVOKE: Final = Statement(
    sa.update(api_keys).where(_BY_ID, UNREVOKED).values(revoke_time=sa.bindparam("new_revoke_time"))
)
_NOTE_USE: Final = Statement(
    sa.update(api_keys).where(_BY_ID).values(last_use_time=sa.bindparam("new_last_use_time"))
)
