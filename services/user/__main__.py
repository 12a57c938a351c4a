"""Starts the user service: `python -m services.user`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bodega.user.v1 import user_pb2
from bodega.user.v1.user_pb2_grpc import add_UserServiceServicer_to_server

from services.chassis.app import App
from services.chassis.events import outbox
from services.chassis.service import main, opened
from services.chassis.storage import idempotency
from services.user import activation_store
from services.user.config import UserSettings
from services.user.passwords import Passwords
from services.user.search import Search
from services.user.servicer import UserServicer
from services.user.store import Transaction


@asynccontextmanager
async def assembled(settings: UserSettings) -> AsyncIterator[App]:
    """The whole service, not yet serving."""
    passwords = Passwords(
        at_once=settings.password_hashes_at_once,
        time_cost=settings.password_time_cost,
        memory_kib=settings.password_memory_kib,
        parallelism=settings.password_parallelism,
    )
    async with opened(settings, Transaction) as service, passwords:
        search = Search(service.store, service.pages)
        servicer = UserServicer(
            service.store,
            search,
            passwords,
            clock=service.clock,
            ids=service.ids,
            secret=settings.request_digest_secret.get_secret_value().encode(),
        )
        service.app.serve(add_UserServiceServicer_to_server, servicer, user_pb2.DESCRIPTOR)
        service.app.check("database", lambda: service.store.read(lambda tx: tx.users.check()))
        service.publish()
        service.forget(idempotency.RETENTION, outbox.RETENTION, activation_store.RETENTION)
        yield service.app


if __name__ == "__main__":
    main(UserSettings, "user", assembled)
