"""API keys: who gives one is given an access token for it, which is all that anyone behind the edge knows of.

A token is kept until shortly before it expires, a refusal for a few seconds: whoever asks a hundred times a
second with a key costs one exchange in minutes, whatever the key is worth.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC
from typing import Final

import grpc
from bodega.user.v1.api_key_pb2 import ExchangeApiKeyRequest, ExchangeApiKeyResponse

from services.kernel import errors
from services.kernel.clock import Clock
from services.kernel.recent import Recent

EXCHANGE_RPC: Final = "/bodega.user.v1.ApiKeyService/ExchangeApiKey"
EXCHANGE_MAX_S: Final = 2.0

REMEMBERED_MAX: Final = 4096  # the oldest go first
REFUSAL_KEPT_S: Final = 5.0  # a key that was just made works at once; one that is guessed costs little
BEFORE_EXPIRY_S: Final = 30.0  # tokens must still be good when they arrive, and at whoever is called next
KEY_CHARS_MAX: Final = 256  # ours have 50; a longer one is no reason to ask

_REFUSED: Final = frozenset(
    {
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.FAILED_PRECONDITION,
    }
)

Exchange = Callable[[str], Awaitable[tuple[str, float]]]
"""Gives an access token for a key, and the seconds that it is good for. Raises grpc.aio.AioRpcError."""


class InvalidApiKey(errors.Unauthenticated):
    """The API key is not valid: it was mistyped, revoked, or has expired."""


@dataclass(frozen=True, slots=True)
class _Kept:
    token: str
    """Empty: the key was refused."""

    until: float


class ApiKeys:
    """Exchanges keys for tokens, each once for all who wait."""

    def __init__(self, exchange: Exchange, clock: Clock) -> None:
        self._exchange = exchange
        self._monotonic = clock.monotonic
        self._kept: Recent[bytes, _Kept] = Recent(REMEMBERED_MAX)
        self._asking: dict[bytes, asyncio.Task[_Kept]] = {}

    async def token(self, key: str) -> str:
        """An access token. Raises InvalidApiKey, or AioRpcError or Unavailable if it cannot be found out."""
        if not 1 <= len(key) <= KEY_CHARS_MAX:
            raise InvalidApiKey
        digest = digest_of(key.encode())
        kept = self._kept.get(digest)
        if kept is None or kept.until <= self._monotonic():
            kept = await self._asked(key, digest)
        if not kept.token:
            raise InvalidApiKey
        return kept.token

    async def _asked(self, key: str, digest: bytes) -> _Kept:
        asking = self._asking.get(digest)
        if asking is None:
            asking = self._asking[digest] = asyncio.create_task(self._ask(key), name="api key")
            asking.add_done_callback(lambda task: self._answered(digest, task))
        return await asyncio.shield(asking)  # whoever leaves must not take the answer from the others

    async def _ask(self, key: str) -> _Kept:
        now = self._monotonic()
        try:
            token, good_for_s = await self._exchange(key)
        except grpc.aio.AioRpcError as error:
            if error.code() not in _REFUSED:
                raise
            return _Kept("", now + REFUSAL_KEPT_S)
        return _Kept(token, now + max(0.0, good_for_s - BEFORE_EXPIRY_S))

    def _answered(self, digest: bytes, task: "asyncio.Task[_Kept]") -> None:
        del self._asking[digest]
        if task.cancelled() or task.exception() is not None:
            return  # nothing is known of the key; the next one asks again
        self._kept[digest] = task.result()


def by_rpc(call: Callable[..., Awaitable[bytes]], clock: Clock) -> Exchange:
    """By ExchangeApiKey, called with bytes."""

    async def exchange(key: str) -> tuple[str, float]:
        request = ExchangeApiKeyRequest(api_key=key)
        answer = await call(request.SerializeToString(), timeout=EXCHANGE_MAX_S)
        response = ExchangeApiKeyResponse.FromString(answer)
        ends = response.expire_time.ToDatetime(UTC)
        return response.access_token, (ends - clock.now()).total_seconds()

    return exchange


def digest_of(key: bytes) -> bytes:
    """What stands for a key wherever it is remembered or counted: memory should not hold keys themselves."""
    return hashlib.sha256(key).digest()
