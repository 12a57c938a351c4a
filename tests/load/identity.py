"""The buyer's access token, signed with a key that every process of a measurement knows."""

from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from services.chassis.identity import trust
from services.chassis.identity.config import IdentitySettings
from services.chassis.identity.tokens import Tokens
from services.kernel.clock import SystemClock
from tests.chassis.identity.issuer import TestIssuer
from tests.load import messages

_KEY: Final = Ed25519PrivateKey.from_private_bytes(b"a key that opens nothing, public")
_LIFE_S: Final = 3600


def authorization() -> tuple[str, str]:
    """The header of a call that the buyer makes."""
    token = _issuer().token(
        sub=messages.USER_ID,
        jti="0199a1b2-0000-7000-8000-000000000009",
        sid="0199a1b2-0000-7000-8000-000000000008",
        exp=int(SystemClock().now().timestamp()) + _LIFE_S,
    )
    return "authorization", f"Bearer {token}"


async def tokens() -> Tokens:
    """What verifies it."""
    clock = SystemClock()
    issuer = trust.own(IdentitySettings(), _issuer().fetch, clock=clock)
    await issuer.keys.look_again()
    made = Tokens(clock)
    made.trust(issuer)
    return made


def _issuer() -> TestIssuer:
    return TestIssuer(SystemClock(), key=_KEY)
