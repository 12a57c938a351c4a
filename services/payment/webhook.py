"""Webhooks signed as https://www.standardwebhooks.com has it. Pure.

The signature is an HMAC-SHA256 over `id.timestamp.body`, in base64 behind `v1,`; a header may carry several,
separated by spaces, while a secret is being changed.
"""

import base64
import binascii
import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Final

from services.kernel import errors

TOLERANCE_S: Final = 300  # as the standard proposes: what was recorded cannot be played back later
ID_CHARS_MAX: Final = 255
TIMESTAMP_DIGITS_MAX: Final = 12

SECRET_PREFIX: Final = "whsec_"  # noqa: S105 (what secrets begin with)
_VERSION: Final = "v1,"


class WebhookSignatureInvalid(errors.Forbidden):
    """Provider {provider} did not sign this webhook, or not within the last five minutes."""


class WebhookMalformed(errors.Invalid):
    """The body is none of the events that provider {provider} sends."""

    field = "event"


@dataclass(frozen=True, slots=True)
class Signed:
    """The three headers; empty where one is missing."""

    id: str = ""
    timestamp: str = ""
    signature: str = ""

    @classmethod
    def of(cls, metadata: Iterable[tuple[str, str | bytes]]) -> "Signed":
        found = {name: value for name, value in metadata if isinstance(value, str)}
        return cls(*(found.get(f"webhook-{part}", "") for part in ("id", "timestamp", "signature")))

    def as_metadata(self) -> tuple[tuple[str, str], ...]:
        return (
            ("webhook-id", self.id),
            ("webhook-timestamp", self.timestamp),
            ("webhook-signature", self.signature),
        )


def key(secret: str) -> bytes:
    """The bytes of a secret written `whsec_<base64>`. Raises ValueError."""
    if not secret.startswith(SECRET_PREFIX):
        raise ValueError(f"must begin with {SECRET_PREFIX}")
    try:
        decoded = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except binascii.Error:
        raise ValueError(f"must be base64 behind {SECRET_PREFIX}") from None
    if not decoded:
        raise ValueError("must not be empty")
    return decoded


def sign(key: bytes, *, id: str, at: datetime, body: bytes) -> Signed:  # noqa: A002 (as the standard calls it)
    """The headers for a webhook that is sent now; a repeat has the same id."""
    timestamp = str(int(at.timestamp()))
    return Signed(id, timestamp, _VERSION + _digest(key, id, timestamp, body))


def is_signed(key: bytes, signed: Signed, body: bytes, *, now: datetime) -> bool:
    """Whether one of the signatures is right (compared in constant time) and the timestamp is of now."""
    digits = signed.timestamp
    if not (0 < len(signed.id) <= ID_CHARS_MAX and _is_number(digits)):
        return False
    if abs(now.timestamp() - int(digits)) > TOLERANCE_S:
        return False
    right = (_VERSION + _digest(key, signed.id, digits, body)).encode()
    return any(hmac.compare_digest(one.encode(), right) for one in signed.signature.split(" "))


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= TIMESTAMP_DIGITS_MAX


def _digest(key: bytes, id_: str, timestamp: str, body: bytes) -> str:
    content = f"{id_}.{timestamp}.".encode() + body
    return base64.b64encode(hmac.digest(key, content, sha256)).decode()
