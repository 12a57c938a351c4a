"""The tokens given to callers: access tokens that anyone can check, refresh tokens that only we know.

An access token is a JWT in the profile of RFC 9068, signed with Ed25519 (RFC 8037). A refresh token is 256
random bits, of which only the hash is kept.
"""

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from services.chassis.identity.tokens import ACCESS_TOKEN_TYPE
from services.kernel import errors
from services.user import key_schedule, signing_keys
from services.user.domain import Role
from services.user.key_schedule import TOKEN_LIFE, SigningKey
from services.user.sealing import Seal

REFRESH_TOKEN_PREFIX: Final = "bodega_rt_"  # noqa: S105 (by which scanners find leaked ones)
_REFRESH_TOKEN_BYTES: Final = 32


class NoSigningKey(errors.Unavailable):
    """There is no key to sign with yet; try again in a moment."""

    retry_after_s = 1.0


@dataclass(frozen=True, slots=True)
class Claims:
    """What an access token says of who carries it."""

    token_id: str
    user_id: str
    roles: tuple[Role, ...]
    session_id: str = ""
    """Empty where there is no session, as for an API key."""

    scopes: tuple[str, ...] | None = None
    """What an API key is good for, e.g. `order:read`; None: for all that its owner may do."""


@dataclass(frozen=True, slots=True)
class AccessToken:
    """A token and its end."""

    text: str = field(repr=False)
    expires_at: datetime


class AccessTokens:
    """Signs access tokens with the keys that its seal opens."""

    def __init__(self, seal: Seal, *, issuer: str, audience: str) -> None:
        self._seal = seal
        self._issuer = issuer
        self._audience = audience
        self._opened: dict[str, Ed25519PrivateKey] = {}

    def mint(
        self, keys: Sequence[SigningKey], claims: Claims, *, at: datetime, until: datetime | None = None
    ) -> AccessToken:
        """An access token, good from now on for TOKEN_LIFE, or until then if that is earlier.

        Raises NoSigningKey.
        Some 0.1 ms, so it may be called in a transaction.
        """
        key = key_schedule.signing(keys, at, sealed_with=self._seal.name)
        if key is None:
            raise NoSigningKey
        now = at.replace(microsecond=0)  # JWTs count whole seconds
        expires_at = now + TOKEN_LIFE
        if until is not None:
            expires_at = min(expires_at, until.replace(microsecond=0))
        said: dict[str, Any] = {
            "iss": self._issuer,
            "aud": self._audience,
            "sub": claims.user_id,
            "roles": [role.lower() for role in claims.roles],
            "jti": claims.token_id,
            "iat": now,
            "nbf": now,
            "exp": expires_at,
        }
        if claims.session_id:
            said["sid"] = claims.session_id
        if claims.scopes is not None:
            said["scopes"] = list(claims.scopes)
        headers = {"typ": ACCESS_TOKEN_TYPE, "kid": key.id}
        return AccessToken(jwt.encode(said, self._private(key), "EdDSA", headers), expires_at)

    def _private(self, key: SigningKey) -> Ed25519PrivateKey:
        """Opened once: a key never changes."""
        private = self._opened.get(key.id)
        if private is None:
            private = self._opened[key.id] = signing_keys.opened(key, self._seal)
        return private


def new_refresh_token() -> str:
    return REFRESH_TOKEN_PREFIX + secrets.token_urlsafe(_REFRESH_TOKEN_BYTES)


def refresh_token_hash(token: str) -> bytes:
    """What is kept of a refresh token. Nobody guesses 256 bits, so it need not be slow."""
    return hashlib.sha256(token.encode()).digest()
