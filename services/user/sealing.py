"""Sealing what has to lie in the database, so that who steals the database cannot read it.

AES-256-GCM under a key that HKDF-SHA256 (RFC 5869) derives from a secret and a purpose; so one secret serves
several purposes, and what was sealed for one opens for no other.
"""

import os
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_KEY_BYTES: Final = 32
_NAME_BYTES: Final = 8
_NONCE_BYTES: Final = 12  # random: a seal closes far fewer than the 2³² that NIST SP 800-38D allows


class SealBroken(Exception):
    """What was sealed was changed, belongs to something else, or was sealed with another secret."""


class Seal:
    """Closes and opens, with one secret for one purpose."""

    def __init__(self, secret: bytes, purpose: str) -> None:
        derived = HKDF(SHA256(), _KEY_BYTES + _NAME_BYTES, salt=None, info=purpose.encode()).derive(secret)
        self._cipher = AESGCM(derived[:_KEY_BYTES])
        self.name = derived[_KEY_BYTES:].hex()
        """Tells what was sealed with which secret, and nothing about the secret."""

    def close(self, content: bytes, *, about: str) -> bytes:
        """The content, sealed. It opens only as being about the same: none can be put in another's place."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, content, about.encode())

    def open(self, sealed: bytes, *, about: str) -> bytes:
        """Raises SealBroken."""
        try:
            return self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], about.encode())
        except (InvalidTag, ValueError):
            raise SealBroken from None
