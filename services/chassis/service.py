"""What every service has, opened in one place: a database, a line to the broker, a server, clock and ids.

A service's `__main__` adds what is its own:

    @asynccontextmanager
    async def assembled(settings: UserSettings) -> AsyncIterator[App]:
        async with opened(settings, Transaction, schema=Schema.beside(__file__)) as service:
            servicer = UserServicer(service.store, clock=service.clock, ids=service.ids)
            service.app.serve(add_UserServiceServicer_to_server, servicer, user_pb2.DESCRIPTOR)
            service.publish()
            service.forget(idempotency.RETENTION, outbox.RETENTION)
            yield service.app

    if __name__ == "__main__":
        main(UserSettings, "user", assembled)
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from bodega.operator.v1 import failpoint_pb2
from bodega.operator.v1.failpoint_pb2_grpc import add_FailpointServiceServicer_to_server
from google.protobuf.descriptor import FileDescriptor

from services.chassis import app, client
from services.chassis.announcer import Announcer
from services.chassis.app import App
from services.chassis.background import Work
from services.chassis.client.line import Line
from services.chassis.config import ServiceSettings
from services.chassis.events.consumer import Consumer, Reaction
from services.chassis.events.jetstream import JetStream
from services.chassis.events.moves import Moves
from services.chassis.events.relay import Relay
from services.chassis.failpoint_servicer import FailpointServicer
from services.chassis.feed import Feed
from services.chassis.flags import SHEDDING, Flag, Flags
from services.chassis.identity import trust
from services.chassis.identity.config import KEYS_RPC
from services.chassis.identity.tokens import Issuer, Tokens
from services.chassis.identity.workload import workload_of, workload_serving
from services.chassis.observed import observe_consumers, observe_denials, observe_outbox, observe_process
from services.chassis.paging import Pages
from services.chassis.server.access import Access
from services.chassis.storage import audit_trail
from services.chassis.storage.database import Store
from services.chassis.storage.denials import Denials
from services.chassis.storage.retention import Janitor, Retention
from services.chassis.storage.schema import Schema
from services.chassis.storage.session import Session
from services.kernel.clock import Clock, SystemClock
from services.kernel.ids import Ids, TimeOrderedIds

S = TypeVar("S", bound=ServiceSettings)
Tx = TypeVar("Tx")

Reactions = Mapping[str, Mapping[str, Reaction[Tx]]]
"""By the service whose events they are reactions to, then by the full name of the event."""


@dataclass(frozen=True, slots=True)
class Service(Generic[Tx]):
    """A service being put together. What it is told to do begins when its `app` runs."""

    name: str
    app: App
    store: Store[Tx]
    jetstream: JetStream
    clock: Clock
    ids: Ids
    secret: bytes = field(repr=False)
    """Keys digests that must come out the same in every replica, and for nobody else."""

    pages: Pages
    tokens: Tokens
    flags: Flags
    _open: AsyncExitStack

    def connect(self, target: str, *files: FileDescriptor) -> client.Channel:
        """A channel to a neighbour, for stubs of the services declared in `files`; closed with the service.

        One per target.
        """
        channel = client.connect(
            target,
            *files,
            tls=self.app.settings.tls,
            metrics=self.app.metrics,
            clock=self.clock,
            ids=self.ids,
        )
        self.on_close(channel.close)
        return channel

    def on_close(self, close: Callable[[], Awaitable[None]]) -> None:
        """Has `close` awaited when the service is closed."""
        self._open.push_async_callback(close)

    def trust(self, issuer: Issuer) -> None:
        """Has tokens of this issuer believed, and its keys kept fresh."""
        self.tokens.trust(issuer)
        self.app.background(f"keys of {issuer.name}", issuer.keys.run)

    def publish(self) -> None:
        """Has what the outbox holds told to the world."""
        relay = Relay(self.store, self.jetstream, service=self.name, clock=self.clock)
        observe_outbox(self.app.metrics, relay)
        self.app.background("relay", relay.run)

    def share(self, feed: Feed) -> None:
        """Has watchers of a feed woken by what other replicas write, too. Once."""
        if not self.store.one_writer:
            moves = Moves(feed, self.jetstream, service=self.name, instance=self.app.instance)
            self.app.background("moves", moves.run)

    def consume(self, reactions: Reactions[Tx]) -> None:
        """Has events of other services reacted to. Once."""
        listening = consumers(self.name, reactions, self.jetstream, self.store, clock=self.clock)
        observe_consumers(self.app.metrics, listening)
        for name, consumer in listening.items():
            self.alone(name, consumer.run)

    def forget(self, *retentions: Retention) -> None:
        """Has rows deleted that need not be kept, and the audit trail's when they are old. Once."""
        janitor = Janitor(self.store, *retentions, audit_trail.RETENTION, clock=self.clock)
        self.alone("janitor", janitor.run)

    def alone(self, name: str, work: Work) -> None:
        """Has work done beside the requests, by one of all replicas at a time."""
        self.app.background(name, lambda: self.store.alone(name, work))


@asynccontextmanager
async def opened(
    settings: ServiceSettings,
    open_transaction: Callable[[Session, Ids], Tx],
    *,
    flags: Iterable[Flag[Any]] = (),
    schema: Schema | None = None,
) -> AsyncIterator[Service[Tx]]:
    """Opens what every service has; leaving closes it.

    `flags` are those of the service itself. Until the database has been migrated to its `schema`, the service
    is not ready.
    """
    clock = SystemClock()
    ids = TimeOrderedIds(clock)
    secret = settings.request_digest_secret.get_secret_value().encode()
    store = Store(
        settings.database_url,
        open_transaction=lambda session: open_transaction(session, ids),
        clock=clock,
        secret=secret,
        schema=schema,
    )
    jetstream = JetStream.connect(settings.nats_url, name=settings.service, tls=settings.tls)
    tokens = Tokens(clock)
    denials = Denials(store, clock=clock)
    server = App(settings, access=Access(tokens, workload_of), denied=denials.note, clock=clock)
    server.serve(
        add_FailpointServiceServicer_to_server,
        FailpointServicer(production=settings.production),
        failpoint_pb2.DESCRIPTOR,
    )
    server.background("denials", denials.run)
    announcer = Announcer(server, jetstream, started_at=clock.now())
    server.background("announcer", announcer.run)
    observe_denials(server.metrics, denials)
    heeded = Flags((SHEDDING, *flags), service=settings.service, file=settings.flags_file)
    server.heed(heeded)
    server.check("database", store.ready)
    server.check("events", jetstream.ready, required=False)
    observe_process(server.metrics, store)
    async with store, jetstream, AsyncExitStack() as open_things:
        pages = Pages(secret, clock=clock)
        service = Service(
            settings.service,
            server,
            store,
            jetstream,
            clock,
            ids,
            secret,
            pages,
            tokens,
            heeded,
            open_things,
        )
        _trust_others(service, settings)
        yield service


def _trust_others(service: Service[Tx], settings: ServiceSettings) -> None:
    """Everyone whose word the settings tell us to take."""
    identity = settings.identity
    if identity.keys_target:
        target = identity.keys_target
        line = Line(target, client.options(target), files=settings.tls, workload=workload_serving(KEYS_RPC))
        service.on_close(line.close)
        service.trust(trust.own(identity, trust.from_rpc(line.unary_unary(KEYS_RPC)), clock=service.clock))
    for outside in identity.oidc:
        service.trust(trust.external(outside, clock=service.clock))


def consumers(
    name: str, reactions: Reactions[Tx], jetstream: JetStream, store: Store[Tx], *, clock: Clock
) -> dict[str, Consumer[Tx]]:
    """A durable consumer for each service that is listened to, named after both: `notification-order`."""
    return {
        f"{name}-{other}": Consumer(
            jetstream, store, name=f"{name}-{other}", service=other, reactions=to_other, clock=clock
        )
        for other, to_other in reactions.items()
    }


def main(kind: type[S], name: str, assembled: Callable[[S], AbstractAsyncContextManager[App]]) -> None:
    """A service as a program: assembled from its settings, it serves until it is told to stop."""

    async def run(settings: S) -> None:
        async with assembled(settings) as server:
            await server.run()

    app.main(run(app.begin(kind, name)))
