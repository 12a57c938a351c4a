"""The connection beneath a channel, which gives way to a fresh one when our certificates change.

grpc's channels show one certificate for life. So a new channel is made beside the old one, takes over when it
stands, and the old one is closed when the last call on it has ended: no call notices.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Any, Final

import grpc

from services.chassis import tls
from services.chassis.telemetry import logger
from services.chassis.tls import Identity, TlsFiles, TlsRefused

LOOK_EVERY_S: Final = 1.0  # three stat calls, some microseconds
TAKE_OVER_MAX_S: Final = 10.0  # a neighbour that is down is tried again after the next look
LAST_CALLS_MAX_S: Final = 3600.0  # streams; whoever reads one resumes it

_log = logger("line")


class Line:
    """Calls to one target over TLS as the workload the files say, or in plaintext without any.

    `workload` is who must answer there. Make it in the event loop. Raises TlsRefused for files of no use, and
    for plaintext that would leave this machine, unless it may go anywhere.
    """

    def __init__(
        self,
        target: str,
        options: Sequence[tuple[str, Any]],
        *,
        files: TlsFiles | None,
        workload: str = "",
        plaintext_anywhere: bool = False,
    ) -> None:
        self.target = target
        self._options = tuple(options)
        self._ending: set[asyncio.Task[None]] = set()
        self._keeper: asyncio.Task[None] | None = None
        if files is None:
            if not (plaintext_anywhere or tls.stays_here(target)):
                raise TlsRefused(f"calls to {target} would leave this machine in plaintext")
            self.raw = grpc.aio.insecure_channel(target, options=self._options)
            return
        self._options += tls.channel_options(workload)
        self._identity = Identity(files)
        self._shown = self._identity.present()
        self.raw = self._opened(self._shown)
        self._keeper = asyncio.create_task(self._keep_fresh(), name=f"line-{target}")

    def unary_unary(self, path: str, *codec: Any) -> Callable[..., Any]:
        """As of grpc.aio.Channel."""
        return self._following(lambda raw: raw.unary_unary(path, *codec))

    def unary_stream(self, path: str, *codec: Any) -> Callable[..., Any]:
        """As of grpc.aio.Channel."""
        return self._following(lambda raw: raw.unary_stream(path, *codec))

    def get_state(self, *, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        return self.raw.get_state(try_to_connect)

    async def close(self, grace: float | None = None) -> None:
        tasks = [*self._ending, *([self._keeper] if self._keeper else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.raw.close(grace)

    def _following(self, make: Callable[[grpc.aio.Channel], Callable[..., Any]]) -> Callable[..., Any]:
        raw = self.raw
        wire = make(raw)
        if self._keeper is None:
            return wire

        def call(request: Any, **options: Any) -> Any:
            nonlocal raw, wire
            if raw is not self.raw:
                raw = self.raw
                wire = make(raw)
            return wire(request, **options)

        return call

    async def _keep_fresh(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            present = self._identity.present()
            if present is not self._shown:
                await self._take_over(present)

    async def _take_over(self, present: tls.Credentials) -> None:
        fresh = self._opened(present)
        try:
            async with asyncio.timeout(TAKE_OVER_MAX_S):
                await fresh.channel_ready()
        except TimeoutError:
            _log.warning("no connection with new certificates yet; the old one stays", target=self.target)
            await fresh.close()
            return
        except BaseException:
            await fresh.close()
            raise
        old, self.raw, self._shown = self.raw, fresh, present
        ending = asyncio.create_task(_ended(old), name=f"line-{self.target}-ending")
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)

    def _opened(self, shown: tls.Credentials) -> grpc.aio.Channel:
        return grpc.aio.secure_channel(self.target, tls.channel_credentials(shown), options=self._options)


async def _ended(old: grpc.aio.Channel) -> None:
    try:
        await old.close(LAST_CALLS_MAX_S)
    finally:
        with contextlib.suppress(asyncio.CancelledError):
            await old.close()
