"""The RPCs of API keys, in proto order."""

from contextlib import suppress
from datetime import datetime
from typing import Any

import grpc
from bodega.user.v1 import api_key_pb2 as pb
from bodega.user.v1 import api_key_pb2_grpc
from google.protobuf.empty_pb2 import Empty

from services.chassis import context as request_context
from services.chassis import wire
from services.chassis.policy.access import NotAllowed
from services.chassis.storage.database import Store
from services.chassis.storage.idempotency import call
from services.chassis.telemetry import logger
from services.kernel.clock import Clock
from services.kernel.errors import Stale, Unavailable
from services.kernel.ids import Ids
from services.user import api_key_convert, api_keys
from services.user.api_key_search import ApiKeySearch
from services.user.api_keys import ApiKey, InvalidApiKey
from services.user.store import Transaction
from services.user.tokens import AccessTokens, Claims

Context = grpc.aio.ServicerContext[Any, Any]

_log = logger(__name__)


class ApiKeyServicer(api_key_pb2_grpc.ApiKeyServiceServicer):
    """Makes keys, shows them, ends them, and takes them for what they are worth."""

    def __init__(
        self,
        store: Store[Transaction],
        search: ApiKeySearch,
        access_tokens: AccessTokens,
        *,
        scopes: frozenset[str],
        clock: Clock,
        ids: Ids,
    ) -> None:
        """The scopes are those that there are."""
        self._store = store
        self._search = search
        self._access_tokens = access_tokens
        self._scopes = scopes
        self._clock = clock
        self._ids = ids

    async def CreateApiKey(
        self, request: pb.CreateApiKeyRequest, context: Context
    ) -> pb.CreateApiKeyResponse:
        _refuse_keys()
        api_keys.check_scopes(request.scopes, self._scopes)
        key_id, secret, now = self._ids.new(), api_keys.new_secret(), self._clock.now()

        def create(tx: Transaction) -> pb.CreateApiKeyResponse:
            key = ApiKey.make(
                tx.users.get(wire.uuid_key(request.user_id)),
                secret,
                key_id=key_id,
                name=request.name,
                scopes=request.scopes,
                expires_at=api_key_convert.expiry(request),
                at=now,
            )
            tx.api_keys.add(key)
            return pb.CreateApiKeyResponse(api_key=api_key_convert.key_to_proto(key), secret=secret)

        return await self._store.once(call(request), create)

    async def ListApiKeys(self, request: pb.ListApiKeysRequest, context: Context) -> pb.ListApiKeysResponse:
        return await self._search.keys(request)

    async def RevokeApiKey(self, request: pb.RevokeApiKeyRequest, context: Context) -> Empty:
        now = self._clock.now()

        def revoke(tx: Transaction) -> Empty:
            user_id, key_id = wire.uuid_key(request.user_id), wire.uuid_key(request.api_key_id)
            tx.api_keys.revoke(tx.api_keys.get(user_id, key_id), at=now)
            return Empty()

        return await self._store.once(call(request), revoke)

    async def ExchangeApiKey(
        self, request: pb.ExchangeApiKeyRequest, context: Context
    ) -> pb.ExchangeApiKeyResponse:
        now, found_by = self._clock.now(), api_keys.secret_hash(request.api_key)
        key = await self._store.read(lambda tx: tx.api_keys.find(found_by))
        if key is None:
            raise _refused("unknown")
        owner, signing_keys = await self._store.read(
            lambda tx: (tx.users.get(key.user_id), tx.signing_keys.all())
        )
        if problem := key.problem(owner, at=now):
            raise _refused(problem, key.id)
        claims = Claims(self._ids.new(), owner.id, owner.roles, scopes=key.scopes)
        token = self._access_tokens.mint(signing_keys, claims, at=now, until=key.tokens_end(at=now))
        await self._note_use(key, at=now)
        return pb.ExchangeApiKeyResponse(
            access_token=token.text, expire_time=wire.timestamp(token.expires_at), api_key_id=key.id
        )

    async def _note_use(self, key: ApiKey, *, at: datetime) -> None:
        """Now and then; a database that is busy must not keep anybody from using their key."""
        if key.is_use_worth_noting(at=at):
            with suppress(Unavailable, Stale):
                await self._store.write(lambda tx: tx.api_keys.note_use(key, at=at))


def _refused(why: str, api_key_id: str = "") -> InvalidApiKey:
    """The same answer whatever is wrong; the log knows."""
    _log.info("API key refused", why=why, api_key_id=api_key_id)
    return InvalidApiKey()


def _refuse_keys() -> None:
    """A key may be lost without its owner's whole account being lost, so it makes no other keys."""
    asked = request_context.current()
    if asked is not None and asked.caller.scopes is not None:
        raise NotAllowed
