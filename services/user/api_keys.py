"""API keys: by which programs act in a user's name. Pure.

A key is 256 random bits. Of its secret a SHA-256 is kept, and that suffices: passwords are hashed slowly
because people choose them, and nobody guesses this. It is found by its hash, and the hash opens nothing.
"""

import hashlib
import secrets
import string
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from services.kernel import errors
from services.user.domain import State, User

PREFIX: Final = "bodega_"
"""By which whoever scans repositories and logs for secrets knows ours: `bodega_[0-9A-Za-z]{43}`."""

_ALPHABET: Final = string.digits + string.ascii_letters  # a double click selects all of it
_CHARACTERS: Final = 43  # of 62, which makes 256 bits
_ENDING: Final = 4

KEYS_MAX: Final = 20
"""Good at a time for one user: several programs, each with a key to be replaced by the next."""

TOKEN_LIFE: Final = timedelta(minutes=5)
"""Of access tokens for keys: a key that has leaked and is revoked should be worth nothing soon."""

USE_NOTED_EVERY: Final = timedelta(hours=1)
"""Precise enough to see which key nobody uses; a write a use would make every call of a program a write."""


class ApiKeyNotFound(errors.NotFound):
    """The user has no API key {api_key_id}."""


class TooManyApiKeys(errors.TooMuch):
    """No more than {limit} API keys at a time; revoke one that is not needed."""


class UnknownScope(errors.Invalid):
    """There is no scope {scope}."""

    field = "scopes"


class ExpireTimePassed(errors.Invalid):
    """A key that is no longer good when it is made is of no use to anybody."""

    field = "expire_time"


class InvalidApiKey(errors.Unauthenticated):
    """The API key is not valid."""


class UserNotActive(errors.WrongState):
    """Account {user_id} is {state}; only an active one has API keys made for it."""


@dataclass(frozen=True, slots=True)
class ApiKeyCreated:
    api_key_id: str
    user_id: str
    scopes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ApiKeyRevoked:
    api_key_id: str
    user_id: str


KeyEvent = ApiKeyCreated | ApiKeyRevoked


@dataclass(frozen=True, slots=True)
class ApiKey:
    """One key: anything but its secret."""

    id: str
    user_id: str
    name: str
    scopes: tuple[str, ...]
    secret_hash: bytes = field(repr=False)
    ending: str
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None
    """To within USE_NOTED_EVERY."""

    @classmethod
    def make(
        cls,
        user: User,
        secret: str,
        *,
        key_id: str,
        name: str,
        scopes: Iterable[str],
        expires_at: datetime | None,
        at: datetime,
    ) -> "ApiKey":
        """A new key. Raises UserNotActive, and ExpireTimePassed."""
        if user.state is not State.ACTIVE:
            raise UserNotActive(user_id=user.id, state=user.state)
        if expires_at is not None and expires_at <= at:
            raise ExpireTimePassed
        found_by, ending = secret_hash(secret), secret[-_ENDING:]
        return cls(key_id, user.id, name, tuple(sorted(scopes)), found_by, ending, at, expires_at)

    def is_good(self, *, at: datetime) -> bool:
        return self.revoked_at is None and (self.expires_at is None or at < self.expires_at)

    def problem(self, owner: User, *, at: datetime) -> str:
        """Why nobody can act with it now; empty if somebody can."""
        if not self.is_good(at=at):
            return "revoked" if self.revoked_at is not None else "expired"
        return "" if owner.state is State.ACTIVE else f"owner is {owner.state}"

    def tokens_end(self, *, at: datetime) -> datetime:
        """Until when an access token that it is exchanged for now is good."""
        end = at + TOKEN_LIFE
        return end if self.expires_at is None else min(end, self.expires_at)

    def is_use_worth_noting(self, *, at: datetime) -> bool:
        return self.last_used_at is None or at - self.last_used_at >= USE_NOTED_EVERY


def new_secret() -> str:
    return PREFIX + "".join(secrets.choice(_ALPHABET) for _ in range(_CHARACTERS))


def secret_hash(secret: str) -> bytes:
    """What is kept of a secret, and what it is found by."""
    return hashlib.sha256(secret.encode()).digest()


def check_scopes(wanted: Iterable[str], known: frozenset[str]) -> None:
    """Raises UnknownScope for the first that no service has."""
    for scope in wanted:
        if scope not in known:
            raise UnknownScope(scope=scope)
