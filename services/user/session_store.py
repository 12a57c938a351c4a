"""Sessions and their refresh tokens in and out of a transaction."""

from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa

from services.chassis.storage.faults import StaleVersion
from services.chassis.storage.retention import Retention
from services.chassis.storage.session import Row
from services.chassis.storage.session import Session as Database
from services.chassis.storage.statement import Statement
from services.kernel.clock import from_micros, to_micros
from services.user.sessions import Ending, RefreshToken, Session, SessionNotFound
from services.user.tables import LIVE, refresh_tokens, sessions

SESSIONS_KEPT: Final = timedelta(days=30)

RETENTIONS: Final = (
    # Longer than any of its tokens, and long enough for who asks what happened.
    Retention(sessions, sessions.c.expire_time, SESSIONS_KEPT),
    # Once it has expired it is refused whether it was used or not.
    Retention(refresh_tokens, refresh_tokens.c.expire_time, timedelta(0)),
)
"""For the janitor."""


class Sessions:
    """Who is signed in."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, session_id: str) -> Session:
        """Raises SessionNotFound."""
        row = self._database.one(_FIND, session_id=session_id)
        if row is None:
            raise SessionNotFound(session_id=session_id)
        return from_row(row)

    def of_user(self, user_id: str) -> list[Session]:
        """An account's sessions that nobody has ended."""
        return [from_row(row) for row in self._database.all(_FIND_OF_USER, user_id=user_id)]

    def add(self, session: Session) -> None:
        """Writes a new session."""
        self._database.run(_ADD, **_row(session))

    def save(self, session: Session) -> None:
        """Writes what has become of a session. Raises StaleVersion if it has ended since it was loaded."""
        row = _row(session)
        changed = {f"new_{name}": row[name] for name in _CHANGING}
        if not self._database.run(_CHANGE, of_session_id=session.id, **changed):
            raise StaleVersion(stream_id=session.id, expected_version=0)

    def end(self, session: Session, ending: Ending, *, at: datetime) -> None:
        """Ends a session; nothing if it has ended."""
        if session.ended_at is None:
            self.save(session.end(ending, at=at))

    def end_all(self, user_id: str, ending: Ending, *, at: datetime, but: str = "") -> None:
        """Ends all of an account's sessions, but perhaps one."""
        for session in self.of_user(user_id):
            if session.id != but:
                self.end(session, ending, at=at)

    def token(self, token_hash: bytes) -> RefreshToken | None:
        """The token of this hash, if it ever was given out and is not too old to be known."""
        row = self._database.one(_FIND_TOKEN, token_hash=token_hash)
        return None if row is None else _token_from_row(row)

    def give(self, token: RefreshToken) -> None:
        """Writes a new token."""
        self._database.run(
            _ADD_TOKEN,
            token_hash=token.hash,
            session_id=token.session_id,
            expire_time=to_micros(token.expires_at),
        )

    def use(self, token: RefreshToken, *, at: datetime) -> None:
        """Marks a token as used. Raises StaleVersion if someone else did since it was loaded."""
        if not self._database.run(_USE_TOKEN, of_token_hash=token.hash, new_use_time=to_micros(at)):
            raise StaleVersion(stream_id=f"refresh token of session {token.session_id}", expected_version=0)


def from_row(row: Row) -> Session:
    """The session that a row of `sessions` holds."""
    ended, ending = row["end_time"], row["ending"]
    return Session(
        id=row["session_id"],
        user_id=row["user_id"],
        created_at=from_micros(row["create_time"]),
        refreshed_at=from_micros(row["refresh_time"]),
        ended_at=None if ended is None else from_micros(ended),
        ending=None if ending is None else Ending(ending),
    )


def _token_from_row(row: Row) -> RefreshToken:
    used = row["use_time"]
    return RefreshToken(
        hash=row["token_hash"],
        session_id=row["session_id"],
        expires_at=from_micros(row["expire_time"]),
        used_at=None if used is None else from_micros(used),
    )


def _row(session: Session) -> dict[str, Any]:
    return {
        "session_id": session.id,
        "user_id": session.user_id,
        "create_time": to_micros(session.created_at),
        "refresh_time": to_micros(session.refreshed_at),
        "expire_time": to_micros(session.expires_at),
        "end_time": None if session.ended_at is None else to_micros(session.ended_at),
        "ending": None if session.ending is None else str(session.ending),
    }


_CHANGING: Final = ("refresh_time", "expire_time", "end_time", "ending")

_FIND: Final = Statement(sa.select(sessions).where(sessions.c.session_id == sa.bindparam("session_id")))
_FIND_OF_USER: Final = Statement(
    sa.select(sessions).where(LIVE, sessions.c.user_id == sa.bindparam("user_id"))
)
_ADD: Final = Statement(sa.insert(sessions).values({c.name: sa.bindparam(c.name) for c in sessions.columns}))
_CHANGE: Final = Statement(
    sa.update(sessions)
    .where(sessions.c.session_id == sa.bindparam("of_session_id"), LIVE)
    .values({name: sa.bindparam(f"new_{name}") for name in _CHANGING})
)
_FIND_TOKEN: Final = Statement(
    sa.select(refresh_tokens).where(refresh_tokens.c.token_hash == sa.bindparam("token_hash"))
)
_ADD_TOKEN: Final = Statement(
    sa.insert(refresh_tokens).values(
        {name: sa.bindparam(name) for name in ("token_hash", "session_id", "expire_time")}
    )
)
_USE_TOKEN: Final = Statement(
    sa.update(refresh_tokens)
    .where(refresh_tokens.c.token_hash == sa.bindparam("of_token_hash"), refresh_tokens.c.use_time.is_(None))
    .values(use_time=sa.bindparam("new_use_time"))
)
