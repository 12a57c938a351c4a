"""Starts the user service: `python -m services.user`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from bodega.user.v1 import user_pb2
from bodega.user.v1.user_pb2_grpc import add_UserServiceServicer_to_server

from services.chassis import app
from services.chassis.events import outbox
from services.chassis.events.jetstream import JetStream
from services.chassis.events.relay import Relay
from services.chassis.observed import observe
from services.chassis.paging import Pages
from services.chassis.storage import idempotency
from services.chassis.storage.database import Store
from services.chassis.storage.retention import Janitor
from services.kernel.clock import SystemClock
from services.kernel.ids import TimeOrderedIds
from services.user.config import UserSettings
from services.user.passwords import Passwords
from services.user.search import Search
from services.user.servicer import UserServicer
from services.user.store import Transaction

SERVICE: Final = "user"


def main() -> None:
    app.main(run(app.begin(UserSettings, SERVICE)))


async def run(settings: UserSettings) -> None:
    """Serves until it is told to stop. The database must have been migrated."""
    async with assembled(settings) as server:
        await server.run()


@asynccontextmanager
async def assembled(settings: UserSettings) -> AsyncIterator[app.App]:
    """The whole service, not yet serving."""
    clock = SystemClock()
    ids = TimeOrderedIds(clock)
    secret = settings.request_digest_secret.get_secret_value().encode()
    store = Store(
        settings.database_url,
        open_transaction=lambda session: Transaction(session, ids),
        clock=clock,
        secret=secret,
    )
    passwords = Passwords(
        at_once=settings.password_hashes_at_once,
        time_cost=settings.password_time_cost,
        memory_kib=settings.password_memory_kib,
        parallelism=settings.password_parallelism,
    )
    async with store, passwords, JetStream.connect(settings.nats_url, name=SERVICE) as jetstream:
        server = app.App(settings, clock=clock)
        search = Search(store, Pages(secret, clock=clock))
        servicer = UserServicer(store, search, passwords, clock=clock, ids=ids)
        server.serve(add_UserServiceServicer_to_server, servicer, user_pb2.DESCRIPTOR)
        server.check("database", lambda: store.read(lambda tx: tx.users.check()))
        server.check("events", jetstream.ready, required=False)
        relay = Relay(store, jetstream, service=SERVICE, clock=clock)
        observe(server.metrics, store, relay=relay)
        server.background("relay", relay.run)
        server.background("janitor", Janitor(store, idempotency.RETENTION, outbox.RETENTION, clock=clock).run)
        yield server


if __name__ == "__main__":
    main()
