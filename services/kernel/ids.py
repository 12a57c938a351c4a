"""Identifiers: UUIDv7, so that rows made together lie together (RFC 9562, section 5.7)."""

import hashlib
import secrets
import uuid
from typing import Protocol

from services.kernel.clock import Clock, to_micros

_VERSION_5 = 0x5 << 76
_VERSION_7 = 0x7 << 76
_VARIANT = 0b10 << 62
_UNMARKED = ~(0xF << 76 | 0b11 << 62)


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
        return _text((millis << 80) | _VERSION_7 | (high << 64) | _VARIANT | low)


def derived(*parts: str) -> str:
    """The same identifier for the same parts, always (UUIDv5): what a repeated step calls itself by."""
    name = "\x1f".join(parts).encode()
    hashed = int.from_bytes(hashlib.sha1(_NAMESPACE + name, usedforsecurity=False).digest()[:16])
    return _text(hashed & _UNMARKED | _VERSION_5 | _VARIANT)


def _text(number: int) -> str:
    """A UUID in its usual writing; `uuid.UUID` would take three times as long."""
    digits = f"{number:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


_NAMESPACE = uuid.UUID("5d2d8f0e-5b1c-5c0e-9d0a-6b6f64656761").bytes
