"""Starts the user service: `python -m services.user`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from bodega.user.v1 import api_key_pb2, session_pb2, user_pb2
from bodega.user.v1.api_key_pb2_grpc import add_ApiKeyServiceServicer_to_server
from bodega.user.v1.session_pb2_grpc import add_SessionServiceServicer_to_server
from bodega.user.v1.user_pb2_grpc import add_UserServiceServicer_to_server

from services.chassis.app import App
from services.chassis.events import outbox
from services.chassis.identity import trust
from services.chassis.service import main, opened
from services.chassis.storage import idempotency
from services.chassis.storage.schema import Schema
from services.user import activation_store, key_store, lockout_store, scopes, session_store, signing_keys
from services.user.api_key_search import ApiKeySearch
from services.user.api_key_servicer import ApiKeyServicer
from services.user.config import UserSettings
from services.user.key_rotation import KeyRotation
from services.user.passwords import Passwords
from services.user.published_keys import PublishedKeys
from services.user.sealing import Seal
from services.user.search import Search
from services.user.servicer import UserServicer
from services.user.session_search import SessionSearch
from services.user.session_servicer import SessionServicer
from services.user.sign_in import Attempts
from services.user.store import Transaction
from services.user.tokens import AccessTokens

RETENTIONS: Final = (
    idempotency.RETENTION,
    outbox.RETENTION,
    activation_store.RETENTION,
    *session_store.RETENTIONS,
    lockout_store.RETENTION,
    key_store.RETENTION,
)


@asynccontextmanager
async def assembled(settings: UserSettings) -> AsyncIterator[App]:
    """The whole service, not yet serving."""
    passwords = Passwords(
        at_once=settings.password_hashes_at_once,
        time_cost=settings.password_time_cost,
        memory_kib=settings.password_memory_kib,
        parallelism=settings.password_parallelism,
    )
    identity = settings.identity
    seal = Seal(settings.signing_key_secret.get_secret_value().encode(), signing_keys.PURPOSE)
    access_tokens = AccessTokens(seal, issuer=identity.issuer, audience=identity.audience)
    async with opened(settings, Transaction, schema=Schema.beside(__file__)) as service, passwords:
        store, clock, ids = service.store, service.clock, service.ids
        attempts = Attempts(store, passwords, clock=clock, secret=service.secret)
        users = UserServicer(
            store,
            Search(store, service.pages),
            passwords,
            attempts,
            clock=clock,
            ids=ids,
            secret=service.secret,
        )
        published = PublishedKeys(store, clock=clock)
        sessions = SessionServicer(
            store,
            SessionSearch(store, service.pages),
            attempts,
            access_tokens,
            published,
            clock=clock,
            ids=ids,
        )
        api_keys = ApiKeyServicer(
            store,
            ApiKeySearch(store, service.pages),
            access_tokens,
            scopes=scopes.known(),
            clock=clock,
            ids=ids,
        )
        rotation = KeyRotation(store, settings.key_schedule, seal, clock=clock)
        service.trust(trust.own(identity, published.key_set, clock=clock))
        service.app.serve(add_UserServiceServicer_to_server, users, user_pb2.DESCRIPTOR)
        service.app.serve(add_SessionServiceServicer_to_server, sessions, session_pb2.DESCRIPTOR)
        service.app.serve(add_ApiKeyServiceServicer_to_server, api_keys, api_key_pb2.DESCRIPTOR)
        service.app.check("signing keys", rotation.check)
        service.app.background("key rotation", rotation.run)
        service.publish()
        service.forget(*RETENTIONS)
        yield service.app


if __name__ == "__main__":
    main(UserSettings, "user", assembled)
