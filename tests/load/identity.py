"""The buyer's access token, signed with a key that every process of a measurement knows."""

import base64
import time
from typing import Final

import jwt
import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from services.chassis.identity import trust
from services.chassis.identity.config import IdentitySettings
from services.chassis.identity.tokens import ACCESS_TOKEN_TYPE, Tokens
from services.kernel.clock import SystemClock
from tests.load import messages

_KEY: Final = Ed25519PrivateKey.from_private_bytes(b"a key that opens nothing, public")
_KEY_ID: Final = "bench"
_LIFE_S: Final = 3600


def authorization() -> tuple[str, str]:
    """The header of a call that the buyer makes."""
    now = int(time.time())
    claims = {
        "iss": "bodega",
        "aud": "bodega",
        "sub": messages.USER_ID,
        "roles": ["customer"],
        "jti": "0199a1b2-0000-7000-8000-000000000009",
        "sid": "0199a1b2-0000-7000-8000-000000000008",
        "iat": now,
        "nbf": now,
        "exp": now + _LIFE_S,
    }
    token = jwt.encode(claims, _KEY, "EdDSA", headers={"typ": ACCESS_TOKEN_TYPE, "kid": _KEY_ID})
    return "authorization", f"Bearer {token}"


async def tokens() -> Tokens:
    """What verifies it."""

    async def keys() -> bytes:
        raw = _KEY.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        x = base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
        return orjson.dumps(
            {"keys": [{"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "kid": _KEY_ID, "x": x}]}
        )

    clock = SystemClock()
    issuer = trust.own(IdentitySettings(), keys, clock=clock)
    await issuer.keys.look_again()
    made = Tokens(clock)
    made.trust(issuer)
    return made
