"""Answers a read from its last good reply while its target is not there, if the contract allows.

The request at hand is told how old the reply was: see `context.note_stale`.
"""

from collections.abc import Callable, Hashable
from typing import Any, Final, NamedTuple

import grpc

from services.chassis import context, status
from services.chassis.client.layer import Outgoing, Send
from services.chassis.contract import Method
from services.chassis.metrics import Metrics
from services.kernel.recent import Recent

REPLIES_MAX: Final = 1000  # per target: those that many ask for, not everything there is
REPLY_BYTES_MAX: Final = 64 * 1024  # so that all of them are 64 MB at the very worst


class _Kept(NamedTuple):
    reply: bytes
    """Not the message: whoever was given that may change it."""

    at: float


class Fallback:
    """The last good replies of one target."""

    def __init__(self, metrics: Metrics, monotonic: Callable[[], float]) -> None:
        self._metrics = metrics
        self._monotonic = monotonic
        self._kept: Recent[Hashable, _Kept] = Recent(REPLIES_MAX)

    def around(self, method: Method, inner: Send) -> Send:
        if not method.cache_s:
            return inner

        async def remembered(call: Outgoing) -> Any:
            key = _key(method, call)
            try:
                reply = await inner(call)
            except grpc.aio.AioRpcError as error:
                if error.code() not in status.WEATHER:
                    raise
                kept = self._kept.get(key)
                age_s = self._monotonic() - kept.at if kept else 0.0
                if kept is None or age_s > method.cache_s:
                    raise
                self._metrics.stale_replies.labels(method.service, method.name).inc()
                context.note_stale(age_s)
                return method.reply_type.FromString(kept.reply)
            self._keep(key, reply)
            return reply

        return remembered

    def _keep(self, key: Hashable, reply: Any) -> None:
        raw = reply.SerializeToString()
        if len(raw) > REPLY_BYTES_MAX:
            self._kept.pop(key, None)  # it is not the last one any more
            return
        self._kept[key] = _Kept(raw, self._monotonic())


def _key(method: Method, call: Outgoing) -> Hashable:
    """What the reply depends on: the question, and who asks it unless everybody is told the same."""
    asked = call.request.SerializeToString(deterministic=True)
    if method.is_same_for_all:
        return (method.path, asked)
    request = context.current()
    return (method.path, asked, request.caller if request else None)
