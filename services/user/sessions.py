"""Sessions: how long one lives and what ends it. Pure.

A session has one refresh token at a time. Each use of it gives the next; a token presented again after it was
used is in two hands, and nobody can tell which are the owner's, so the session ends (RFC 9700, 4.14.2).
"""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from services.kernel import errors

IDLE_MAX: Final = timedelta(days=14)
"""A session that nobody used for so long is forgotten on some device."""

LIFE_MAX: Final = timedelta(days=90)
"""However often it is used, a password is asked for this often."""


class Ending(StrEnum):
    """Why a session ended before its time."""

    SIGNED_OUT = "SIGNED_OUT"
    SIGNED_OUT_ELSEWHERE = "SIGNED_OUT_ELSEWHERE"
    TOKEN_REUSED = "TOKEN_REUSED"  # noqa: S105 (a reason, no token)
    PASSWORD_CHANGED = "PASSWORD_CHANGED"  # noqa: S105
    ACCOUNT_STOPPED = "ACCOUNT_STOPPED"


class InvalidRefreshToken(errors.Unauthenticated):
    """The refresh token is not good, or no longer; sign in again."""


class SessionNotFound(errors.NotFound):
    """There is no session {session_id}."""


@dataclass(frozen=True, slots=True)
class Session:
    """Someone signed in somewhere."""

    id: str
    user_id: str
    created_at: datetime
    refreshed_at: datetime
    ended_at: datetime | None = None
    ending: Ending | None = None

    @classmethod
    def begin(cls, *, session_id: str, user_id: str, at: datetime) -> "Session":
        return cls(session_id, user_id, created_at=at, refreshed_at=at)

    @property
    def expires_at(self) -> datetime:
        return min(self.refreshed_at + IDLE_MAX, self.created_at + LIFE_MAX)

    def refresh(self, *, at: datetime) -> "Session":
        """The session, alive for longer. Raises InvalidRefreshToken if it is over."""
        if self.ended_at is not None or at >= self.expires_at:
            raise InvalidRefreshToken
        return replace(self, refreshed_at=at)

    def end(self, ending: Ending, *, at: datetime) -> "Session":
        """The session, over."""
        assert self.ended_at is None, "a session ends once"
        return replace(self, ended_at=at, ending=ending)


@dataclass(frozen=True, slots=True)
class RefreshToken:
    """What is known of a token that was given out: anything but the token."""

    hash: bytes = field(repr=False)
    session_id: str
    expires_at: datetime
    used_at: datetime | None = None

    @classmethod
    def of(cls, session: Session, token_hash: bytes) -> "RefreshToken":
        """The next one of a session."""
        return cls(token_hash, session.id, session.expires_at)
