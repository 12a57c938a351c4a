"""Which key signs when. Pure.

    published ──────────────── signs ─────────────── published until its last token has expired
              at least `lead`        one `period`

A key is published before it signs, so that who checks tokens knows it by then. If its making is late, the key
before it signs for longer; so no call ever fails for want of a rotation.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

TOKEN_LIFE: Final = timedelta(minutes=15)
"""How long an access token is good for: what is revoked is still believed for so long."""

SKEW_MAX: Final = timedelta(minutes=5)
"""How far clocks may be apart: a replica behind by as much still signs with the key of before."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key pair; the private half sealed."""

    id: str
    """What tokens call it (`kid`): the thumbprint of the public key (RFC 7638)."""

    public: bytes
    sealed_private: bytes = field(repr=False)
    sealed_with: str
    """Names the secret that opens it."""

    number: int
    """Counts the keys of this house: of two replicas that rotate at once, one gets the number."""

    created_at: datetime
    signs_from: datetime
    retires_at: datetime | None = None
    """When its last token has expired; None while it has no successor."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """How often the key changes, and how long before it is announced."""

    period: timedelta
    lead: timedelta

    def due(self, keys: Sequence[SigningKey], at: datetime, *, sealed_with: str) -> datetime | None:
        """When the key that has to be made now begins to sign; None while none has to.

        Keys that another secret sealed cannot be used: the first with a new secret signs at once, like the
        very first.
        """
        own = [key.signs_from for key in keys if key.sealed_with == sealed_with]
        if not own:
            return at
        change = max(own) + self.period
        return max(change, at + self.lead) if at >= change - self.lead else None


def signing(keys: Sequence[SigningKey], at: datetime, *, sealed_with: str) -> SigningKey | None:
    """The key that signs now; None if there is none that this secret opens."""
    begun = [key for key in keys if key.sealed_with == sealed_with and key.signs_from <= at]
    return max(begun, key=lambda key: key.signs_from, default=None)


def published(keys: Sequence[SigningKey], at: datetime) -> list[SigningKey]:
    """The keys that good tokens may be signed with, now or soon; newest first."""
    wanted = [key for key in keys if key.retires_at is None or key.retires_at > at]
    return sorted(wanted, key=lambda key: -key.number)


def retires_at(successor_signs_from: datetime) -> datetime:
    """When the last token of a key has expired, by anyone's clock."""
    return successor_signs_from + TOKEN_LIFE + SKEW_MAX
