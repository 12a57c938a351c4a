"""From settings to the issuers that are trusted, and where their keys come from."""

from collections.abc import Awaitable, Callable
from typing import Final

from google.api.httpbody_pb2 import HttpBody

from services.chassis.identity.config import IdentitySettings, OidcIssuer
from services.chassis.identity.keys import FETCH_MAX_S, Fetch, Keys
from services.chassis.identity.tokens import ACCESS_TOKEN_TYPE, Issuer
from services.kernel.clock import Clock

KEY_SET_BYTES_MAX: Final = 256 * 1024

_OWN_ALGORITHMS: Final = frozenset({"EdDSA"})


def own(settings: IdentitySettings, fetch: Fetch, *, clock: Clock) -> Issuer:
    """The shop's own issuer."""
    keys = Keys(fetch, algorithms=_OWN_ALGORITHMS, clock=clock)
    return Issuer(settings.issuer, settings.audience, keys, _OWN_ALGORITHMS, token_type=ACCESS_TOKEN_TYPE)


def external(settings: OidcIssuer, *, clock: Clock) -> Issuer:
    """One from outside."""
    algorithms = frozenset[str](settings.algorithms)
    return Issuer(
        settings.issuer,
        settings.audience,
        Keys(from_url(str(settings.jwks_url)), algorithms=algorithms, clock=clock),
        algorithms,
        roles_claim=settings.roles_claim,
        roles=settings.roles,
        user_claim=settings.user_claim,
    )


def from_rpc(call: Callable[..., Awaitable[bytes]]) -> Fetch:
    """Keys by ListSigningKeys, called with bytes: what it takes is empty, what it answers an HttpBody."""

    async def fetch() -> bytes:
        body = HttpBody.FromString(await call(b"", timeout=FETCH_MAX_S))
        return bytes(body.data)

    return fetch


def from_url(url: str) -> Fetch:
    """Keys over HTTP."""

    async def fetch() -> bytes:
        import httpx  # noqa: PLC0415 (most shops have no issuer but their own)

        async with (
            httpx.AsyncClient(timeout=FETCH_MAX_S, follow_redirects=False) as client,
            client.stream("GET", url) as answer,
        ):
            answer.raise_for_status()
            found = b""
            async for part in answer.aiter_bytes():
                found += part
                if len(found) > KEY_SET_BYTES_MAX:
                    raise ValueError(f"a key set of more than {KEY_SET_BYTES_MAX} bytes")
            return found

    return fetch
