"""An issuer of tokens with real keys, which says whatever a test wants it to."""

import base64
from typing import Any

import jwt
import orjson
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from services.chassis.identity.keys import Keys
from services.chassis.identity.tokens import ACCESS_TOKEN_TYPE, Issuer, Tokens
from services.kernel.clock import Clock

NAME = "bodega"
AUDIENCE = "bodega"
USER = "0199a1b2-0000-7000-8000-000000000001"
EDDSA = frozenset({"EdDSA"})


class TestIssuer:
    """Signs tokens with the keys it has; `published` is what it tells of them."""

    __test__ = False

    def __init__(
        self, clock: Clock, name: str = NAME, *, key: ed25519.Ed25519PrivateKey | None = None
    ) -> None:
        self.clock = clock
        self.name = name
        self.private: dict[str, ed25519.Ed25519PrivateKey] = {}
        self.published: dict[str, dict[str, str]] = {}
        self.fetches = 0
        self.is_away = False
        self.add_key("k1", key)

    def add_key(
        self, key_id: str, key: ed25519.Ed25519PrivateKey | None = None, *, publish: bool = True
    ) -> None:
        self.private[key_id] = key or ed25519.Ed25519PrivateKey.generate()
        if publish:
            self.publish(key_id)

    def publish(self, key_id: str) -> None:
        self.published[key_id] = {
            "kty": "OKP",
            "crv": "Ed25519",
            "alg": "EdDSA",
            "use": "sig",
            "kid": key_id,
            "x": _b64(self.raw(key_id)),
        }

    def raw(self, key_id: str) -> bytes:
        """The public key's bytes, as anybody can have them."""
        return self.private[key_id].public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    async def fetch(self) -> bytes:
        self.fetches += 1
        if self.is_away:
            raise ConnectionError("nobody there")
        return orjson.dumps({"keys": list(self.published.values())})

    def keys(self) -> Keys:
        return Keys(self.fetch, algorithms=EDDSA, clock=self.clock)

    def issuer(self, keys: Keys | None = None, **more: Any) -> Issuer:
        return Issuer(
            self.name,
            AUDIENCE,
            keys or self.keys(),
            EDDSA,
            **{"token_type": ACCESS_TOKEN_TYPE, **more},
        )

    async def trusted(self, **more: Any) -> Tokens:
        """A verifier that knows the keys published so far."""
        tokens = Tokens(self.clock)
        issuer = self.issuer(**more)
        await issuer.keys.look_again()
        tokens.trust(issuer)
        return tokens

    def claims(self, **other: Any) -> dict[str, Any]:
        """Those of a good token for USER, with others; None leaves one out."""
        now = int(self.clock.now().timestamp())
        made = {
            "iss": self.name,
            "aud": AUDIENCE,
            "sub": USER,
            "roles": ["customer"],
            "jti": "t-1",
            "iat": now,
            "nbf": now,
            "exp": now + 900,
            **other,
        }
        return {name: value for name, value in made.items() if value is not None}

    def token(
        self,
        *,
        key_id: str = "k1",
        algorithm: str = "EdDSA",
        key: Any = None,
        header: dict[str, Any] | None = None,
        **claims: Any,
    ) -> str:
        headers = {"typ": ACCESS_TOKEN_TYPE, "kid": key_id, **(header or {})}
        signing: Any = self.private[key_id] if key is None else key
        return jwt.encode(self.claims(**claims), signing, algorithm, headers=headers)


def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def unsigned(header: dict[str, Any], claims: dict[str, Any], signature: bytes = b"") -> str:
    return ".".join(_b64(part) for part in (orjson.dumps(header), orjson.dumps(claims), signature))


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
