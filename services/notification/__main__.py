"""Starts the notification service: `python -m services.notification`."""

import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bodega.notification.v1 import notification_pb2
from bodega.notification.v1.notification_pb2_grpc import add_NotificationServiceServicer_to_server
from bodega.user.v1 import user_pb2
from bodega.user.v1.user_pb2_grpc import UserServiceStub

from services.chassis import client
from services.chassis.app import App
from services.chassis.events import inbox
from services.chassis.service import main, opened
from services.chassis.storage.schema import Schema
from services.notification.activation import ActivationLinks
from services.notification.channels import ChannelPort, Console
from services.notification.config import NotificationSettings
from services.notification.consumers import reactions
from services.notification.domain import Channel
from services.notification.mail import Mail, MailServer
from services.notification.recipients import Recipients
from services.notification.sender import Sender
from services.notification.servicer import NotificationServicer
from services.notification.store import Transaction


@asynccontextmanager
async def assembled(settings: NotificationSettings) -> AsyncIterator[App]:
    """The whole service, not yet serving."""
    async with opened(
        settings, lambda session, _ids: Transaction(session), schema=Schema.beside(__file__)
    ) as service:
        server, store, clock = service.app, service.store, service.clock
        servicer = NotificationServicer(store, service.pages)
        server.serve(add_NotificationServiceServicer_to_server, servicer, notification_pb2.DESCRIPTOR)
        users = service.connect(settings.user_target, user_pb2.DESCRIPTOR)
        # The console stays for what was written down before there was a mail server.
        channels: dict[Channel, ChannelPort] = {Channel.CONSOLE: Console(sys.stdout.buffer, clock=clock)}
        if settings.smtp_host:
            channels[Channel.EMAIL] = _mail(settings, users)
        new = Channel.EMAIL if Channel.EMAIL in channels else Channel.CONSOLE
        sender = Sender(store, channels, clock=clock)
        server.check("channel", sender.gets_through, required=False)
        service.alone("sender", sender.run)
        service.consume(reactions(channel=new, clock=clock))
        service.forget(inbox.RETENTION)
        yield server


def _mail(settings: NotificationSettings, users: client.Channel) -> Mail:
    # The sender repeats what fails; only one layer may.
    stub = UserServiceStub(users.without_retries())
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
    links = ActivationLinks(stub, settings.activation_page)
    return Mail(mail_server, Recipients(stub), links, sender=settings.mail_sender)


if __name__ == "__main__":
    main(NotificationSettings, "notification", assembled)
