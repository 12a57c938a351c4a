"""Starts the notification service: `python -m services.notification`."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from bodega.notification.v1 import notification_pb2
from bodega.notification.v1.notification_pb2_grpc import add_NotificationServiceServicer_to_server

from services.chassis import app
from services.chassis.events import inbox
from services.chassis.events.jetstream import JetStream
from services.chassis.paging import Pages
from services.chassis.storage.database import Store
from services.chassis.storage.retention import Janitor
from services.kernel.clock import SystemClock
from services.notification.channels import Console
from services.notification.config import NotificationSettings
from services.notification.consumers import consumers
from services.notification.domain import Channel, State
from services.notification.sender import Sender
from services.notification.servicer import NotificationServicer
from services.notification.store import Transaction

SERVICE: Final = "notification"


def main() -> None:
    app.main(run(app.begin(NotificationSettings, SERVICE)))


async def run(settings: NotificationSettings) -> None:
    """Serves until it is told to stop. The database must have been migrated."""
    async with assembled(settings) as server:
        await server.run()


@asynccontextmanager
async def assembled(settings: NotificationSettings) -> AsyncIterator[app.App]:
    """The whole service, not yet serving."""
    clock = SystemClock()
    secret = settings.request_digest_secret.get_secret_value().encode()
    store = Store(settings.database_url, open_transaction=Transaction, clock=clock, secret=secret)
    async with store, JetStream.connect(settings.nats_url, name=SERVICE) as jetstream:
        server = app.App(settings, clock=clock)
        servicer = NotificationServicer(store, Pages(secret, clock=clock))
        server.serve(add_NotificationServiceServicer_to_server, servicer, notification_pb2.DESCRIPTOR)
        server.check("database", lambda: store.read(lambda tx: tx.notifications.count(State.PENDING)))
        server.check("events", jetstream.ready, required=False)
        for name, consumer in consumers(jetstream, store, channel=Channel.CONSOLE, clock=clock).items():
            server.background(name, consumer.run)
        server.background("sender", Sender(store, Console(sys.stdout.buffer, clock=clock), clock=clock).run)
        server.background("janitor", Janitor(store, inbox.RETENTION, clock=clock).run)
        yield server


if __name__ == "__main__":
    main()
