"""Ed25519 key pairs: made, sealed, opened, shown as JWK."""

import base64
import hashlib
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from typing import Final

import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from services.user.key_schedule import SigningKey
from services.user.sealing import Seal

JWK_SET: Final = "application/jwk-set+json"

PURPOSE: Final = "signing keys"
"""What their seal is for."""


def generate(seal: Seal, *, at: datetime) -> SigningKey:
    """A new key pair that signs from now on, and is the first of its house."""
    pair = Ed25519PrivateKey.generate()
    public = pair.public_key().public_bytes_raw()
    key_id = _thumbprint(public)
    return SigningKey(
        id=key_id,
        public=public,
        sealed_private=seal.close(pair.private_bytes_raw(), about=key_id),
        sealed_with=seal.name,
        number=1,
        created_at=at,
        signs_from=at,
    )


def successor(key: SigningKey, *, number: int, signs_from: datetime) -> SigningKey:
    """The key in its place among the others."""
    return replace(key, number=number, signs_from=signs_from)


def opened(key: SigningKey, seal: Seal) -> Ed25519PrivateKey:
    """The private half. Raises SealBroken."""
    return Ed25519PrivateKey.from_private_bytes(seal.open(key.sealed_private, about=key.id))


def jwk_set(keys: Iterable[SigningKey]) -> bytes:
    """The public halves, as JSON."""
    shown = [{**_jwk(key.public), "kid": key.id, "use": "sig", "alg": "EdDSA"} for key in keys]
    return orjson.dumps({"keys": shown})


def _jwk(public: bytes) -> dict[str, str]:
    return {"crv": "Ed25519", "kty": "OKP", "x": _base64(public)}


def _thumbprint(public: bytes) -> str:
    """RFC 7638: of the required members, sorted, without a space."""
    return _base64(hashlib.sha256(orjson.dumps(_jwk(public), option=orjson.OPT_SORT_KEYS)).digest())


def _base64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
