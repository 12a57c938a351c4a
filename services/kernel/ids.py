"""Identifiers: UUIDv7, so that rows made together lie together (RFC 9562, section 5.7)."""

import secrets
import uuid
from typing import Protocol

from services.kernel.clock import Clock, to_micros

_VERSION_7 = 0x7 << 76
_VARIANT = 0b10 << 62


class Ids(Protocol):
    """Where programs get new identifiers."""

    def new(self) -> str:
        """A fresh identifier, unlike any other."""


class TimeOrderedIds:
    """UUIDv7 in its usual 36 characters: 48 bits of milliseconds, then 74 random bits."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def new(self) -> str:
        millis = to_micros(self._clock.now()) // 1000
        random = secrets.randbits(74)
        high, low = random >> 62, random & ((1 << 62) - 1)
        return str(uuid.UUID(int=(millis << 80) | _VERSION_7 | (high << 64) | _VARIANT | low))


def derived(*parts: str) -> str:
    """The same identifier for the same parts, always (UUIDv5): what a repeated step calls itself by."""
    return str(uuid.uuid5(_NAMESPACE, "\x1f".join(parts)))


_NAMESPACE = uuid.UUID("5d2d8f0e-5b1c-5c0e-9d0a-6b6f64656761")
