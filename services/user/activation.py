"""Activation tokens: how the owner of an address shows that mail reaches them. Pure.

A token is derived, not drawn: for the same request it is the same token. So nothing but a hash of it is kept,
and a letter that is sent twice, because nobody knows whether the first one went out, has the same link twice.
"""

import base64
import hashlib
import hmac
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from services.kernel import errors
from services.user.domain import State, User, UserNotActivatable

LIFETIME: Final = timedelta(hours=48)
"""A weekend: letters are read late, and what lies about in mailboxes should not work for ever."""


class ActivationRefused(errors.Forbidden):
    """There is nothing that this token activates."""


@dataclass(frozen=True, slots=True)
class Activation:
    """What is kept of a token."""

    user_id: str
    proof: bytes = field(repr=False)
    issued_at: datetime

    @property
    def expires_at(self) -> datetime:
        return self.issued_at + LIFETIME

    def admits(self, token: str, user: User, *, at: datetime) -> bool:
        """Whether the token is the one issued, for the address that the account has now, and in time."""
        return hmac.compare_digest(self.proof, _proof(token, user)) and at < self.expires_at


def issue(user: User, *, secret: bytes, request_id: str, at: datetime) -> tuple[str, Activation]:
    """A token for an inactive account, and what to keep of it. Raises UserNotActivatable."""
    if user.state is not State.INACTIVE:
        raise UserNotActivatable(user_id=user.id, state=user.state)
    said = f"activation\0{user.id}\0{user.details.email_key}\0{request_id}"
    token = base64.urlsafe_b64encode(hmac.digest(secret, said.encode(), "sha256")).decode().rstrip("=")
    return token, Activation(user.id, _proof(token, user), at)


def redeem(user: User | None, activation: Activation | None, token: str, *, at: datetime) -> User:
    """The account, activated. Raises ActivationRefused, whatever is wrong with the token."""
    if user is None or activation is None or not activation.admits(token, user, at=at):
        raise ActivationRefused
    return user.activate(at=at)


def _proof(token: str, user: User) -> bytes:
    # Plain SHA-256: 256 bits cannot be guessed, so there is nothing to make dear. With the address, because
    # the token shows that mail reaches that one, and no other.
    return hashlib.sha256(f"{token}\0{user.details.email_key}".encode()).digest()
