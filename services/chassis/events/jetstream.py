"""JetStream as the house uses it: one connection per process, a stream per service."""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Final, NoReturn, Self
from urllib.parse import urlsplit

from nats.js import api
from nats.js.errors import BadRequestError, NotFoundError

from services.chassis.events.connection import BROKER_ERRORS, Connection
from services.chassis.events.inbox import STREAM_KEEPS
from services.chassis.policy.backoff import Backoff
from services.chassis.telemetry import logger
from services.chassis.tls import Identity, TlsFiles, TlsRefused, is_loopback

CONNECT_BACKOFF: Final = Backoff(first_s=0.05, max_s=1.0)
"""A broker that restarts is found again within a second, and not asked a hundred times meanwhile."""

STREAM_BYTES_MAX: Final = 4 * 1024**3
"""Some ten million events. A full stream refuses new ones, which then wait in the outbox, where a metric
shows them; dropping old ones instead would lose facts for consumers that are down."""

DUPLICATE_WINDOW_S: Final = 600.0
"""How long a stream recognises an event id: longer than a relay that died between an acknowledgement and
its note takes to come back. Behind it stands the consumers' inbox."""

_NAME_IN_USE: Final = 10058  # there is such a stream, but configured otherwise

_log = logger(__name__)


@dataclass(frozen=True, slots=True)
class Stream:
    """What a broker says about a stream."""

    name: str
    epoch: str
    """When it was created; a stream that was lost and made again has another one."""

    first_seq: int
    last_seq: int


def stream_name(service: str) -> str:
    """`order` tells its facts in the stream `BODEGA_ORDER`."""
    return f"BODEGA_{service.upper()}"


class JetStream:
    """Keeps one connection to the broker standing, for as long as the context manager.

    Entering never waits for the broker: a service starts and serves without it, and events flow as soon as
    it is there.
    """

    def __init__(
        self,
        url: str,
        *,
        name: str,
        tls: TlsFiles | None = None,
        replicas: int = 1,
        random: Callable[[], float] = random.random,
    ) -> None:
        self._identity = Identity(tls) if tls else None
        self._url = url
        self._name = name
        self._replicas = replicas
        self._random = random
        self._standing: Connection | None = None
        self._changed = asyncio.Condition()

    @classmethod
    def connect(cls, url: str, *, name: str, tls: TlsFiles | None = None, replicas: int = 1) -> "JetStream":
        """To be entered (`async with`); `url` may name several servers, separated by commas.

        `tls` says who we are; without it we speak plaintext, and only to this machine. Raises TlsRefused.
        """
        if tls is None and not all(is_loopback(urlsplit(one).hostname or "") for one in url.split(",")):
            raise TlsRefused(f"events for {url} would leave this machine in plaintext")
        return cls(url, name=name, tls=tls, replicas=replicas)

    async def __aenter__(self) -> Self:
        self._keeper = asyncio.create_task(self._keep_connected(), name=f"nats:{self._name}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._keeper.cancel()
        await asyncio.wait({self._keeper})

    @property
    def standing(self) -> Connection | None:
        """The connection, if there is one at this moment."""
        connection = self._standing
        return connection if connection is not None and not connection.is_broken else None

    async def connection(self) -> Connection:
        """The connection, waiting for it as long as it takes."""
        async with self._changed:
            while (connection := self.standing) is None:
                await self._changed.wait()
        return connection

    async def on_each(self, work: Callable[[Connection], Awaitable[None]]) -> NoReturn:
        """Does work on a connection until that breaks, and then on the next one."""
        while True:
            connection = await self.connection()
            with contextlib.suppress(*BROKER_ERRORS):
                await work(connection)

    async def ready(self) -> bool:
        """Whether the broker answers; for readiness checks."""
        connection = self.standing
        if connection is None:
            return False
        try:
            await connection.ask(connection.jetstream.account_info())
        except BROKER_ERRORS:
            return False
        return True

    async def ensure_stream(self, connection: Connection, service: str) -> Stream:
        """Makes the service's stream, or brings it up to date. Raises one of BROKER_ERRORS."""
        return await ensure_stream(
            connection, stream_name(service), f"bodega.{service}.>", replicas=self._replicas
        )

    @property
    def replicas(self) -> int:
        return self._replicas

    async def _keep_connected(self) -> None:
        failures = 0
        while True:
            connection = Connection()
            try:
                await connection.open(self._url, name=self._name, identity=self._identity)
                failures = 0
                await self._stand(connection)
                _log.warning("connection to nats lost")
            except Exception as error:  # noqa: BLE001 (whatever the client raises, everything here waits for us)
                failures += 1
                if failures == 1:
                    _log.warning("no connection to nats, trying on", error=repr(error))
                await asyncio.sleep(CONNECT_BACKOFF.delay_s(failures, self._random))

    async def _stand(self, connection: Connection) -> None:
        try:
            async with self._changed:
                self._standing = connection
                self._changed.notify_all()
            _log.info("connected to nats")
            await connection.broken()
        finally:
            self._standing = None
            await connection.close()


async def ensure_stream(connection: Connection, name: str, subjects: str, *, replicas: int) -> Stream:
    """Makes a stream, or brings it up to date."""
    config = api.StreamConfig(
        name=name,
        subjects=[subjects],
        retention=api.RetentionPolicy.LIMITS,
        storage=api.StorageType.FILE,
        discard=api.DiscardPolicy.NEW,
        max_age=STREAM_KEEPS.total_seconds(),
        max_bytes=STREAM_BYTES_MAX,
        duplicate_window=DUPLICATE_WINDOW_S,
        num_replicas=replicas,
    )
    try:
        info = await connection.ask(connection.jetstream.stream_info(name))
        # The cluster is the operator's: copies that they gave a stream are never taken away.
        config.num_replicas = max(replicas, info.config.num_replicas or 0)
        if _differs(info.config, config):
            info = await connection.ask(connection.jetstream.update_stream(config))
    except NotFoundError:
        info = await _create(connection, config)
    return Stream(
        name=name, epoch=str(info.created), first_seq=info.state.first_seq, last_seq=info.state.last_seq
    )


async def _create(connection: Connection, config: api.StreamConfig) -> api.StreamInfo:
    try:
        return await connection.ask(connection.jetstream.add_stream(config))
    except BadRequestError as error:
        if error.err_code != _NAME_IN_USE:
            raise
        return await connection.ask(connection.jetstream.update_stream(config))  # another was first


def _differs(there: api.StreamConfig, wanted: api.StreamConfig) -> bool:
    names = ("subjects", "discard", "max_age", "max_bytes", "duplicate_window", "num_replicas")
    return any(getattr(there, name) != getattr(wanted, name) for name in names)
