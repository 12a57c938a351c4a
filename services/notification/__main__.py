"""Starts the notification service: `python -m services.notification`."""

import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from bodega.notification.v1 import notification_pb2
from bodega.notification.v1.notification_pb2_grpc import add_NotificationServiceServicer_to_server
from bodega.user.v1 import user_pb2
from bodega.user.v1.user_pb2_grpc import UserServiceStub

from services.chassis import app, client
from services.chassis.events import inbox
from services.chassis.events.jetstream import JetStream
from services.chassis.observed import observe
from services.chassis.paging import Pages
from services.chassis.storage.database import Store
from services.chassis.storage.retention import Janitor
from services.kernel.clock import SystemClock
from services.notification.channels import ChannelPort, Console
from services.notification.config import NotificationSettings
from services.notification.consumers import consumers
from services.notification.domain import Channel, State
from services.notification.mail import Mail, MailServer
from services.notification.recipients import Recipients
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
    server = app.App(settings, clock=clock)
    async with (
        store,
        JetStream.connect(settings.nats_url, name=SERVICE) as jetstream,
        client.connect(settings.user_target, user_pb2.DESCRIPTOR, metrics=server.metrics) as users,
    ):
        servicer = NotificationServicer(store, Pages(secret, clock=clock))
        server.serve(add_NotificationServiceServicer_to_server, servicer, notification_pb2.DESCRIPTOR)
        server.check("database", lambda: store.read(lambda tx: tx.notifications.count(State.PENDING)))
        server.check("events", jetstream.ready, required=False)
        # The console stays for what was written down before there was a mail server.
        channels: dict[Channel, ChannelPort] = {Channel.CONSOLE: Console(sys.stdout.buffer, clock=clock)}
        if settings.smtp_host:
            channels[Channel.EMAIL] = _mail(settings, users)
        new = Channel.EMAIL if Channel.EMAIL in channels else Channel.CONSOLE
        listening = consumers(jetstream, store, channel=new, clock=clock)
        observe(server.metrics, store, consumers=listening)
        for name, consumer in listening.items():
            server.background(name, consumer.run)
        server.background("sender", Sender(store, channels, clock=clock).run)
        server.background("janitor", Janitor(store, inbox.RETENTION, clock=clock).run)
        yield server


def _mail(settings: NotificationSettings, users: client.Channel) -> Mail:
    # The sender repeats what fails; only one layer may.
    recipients = Recipients(UserServiceStub(users.without_retries()))
    username, password = settings.smtp_username, settings.smtp_password
    encrypted = settings.smtp_security != "none"
    mail_server = MailServer(
        settings.smtp_host,
        settings.mail_port,
        settings.smtp_security,
        settings.smtp_timeout_s,
        username=username.get_secret_value() if username else None,
        password=password.get_secret_value() if password else None,
        tls=ssl.create_default_context(cafile=settings.smtp_ca_file) if encrypted else None,
    )
    return Mail(mail_server, recipients, sender=settings.mail_sender)


if __name__ == "__main__":
    main()
