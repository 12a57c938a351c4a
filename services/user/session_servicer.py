"""The RPCs of sessions, in proto order."""

from datetime import datetime
from typing import Any, Final

import grpc
from bodega.user.v1 import session_pb2 as pb
from bodega.user.v1 import session_pb2_grpc
from google.api.httpbody_pb2 import HttpBody
from google.protobuf.empty_pb2 import Empty
from google.protobuf.wrappers_pb2 import BytesValue

from services.chassis import wire
from services.chassis.server.address import address_of, site
from services.chassis.storage.database import Store
from services.chassis.storage.idempotency import call
from services.kernel.clock import Clock
from services.kernel.errors import DomainError
from services.kernel.ids import Ids
from services.user import session_convert, signing_keys
from services.user.domain import State, User
from services.user.published_keys import PublishedKeys
from services.user.sealing import Seal
from services.user.session_search import SessionSearch
from services.user.sessions import Ending, InvalidRefreshToken, RefreshToken, Session, SessionNotFound
from services.user.sign_in import Attempts, InvalidCredentials
from services.user.store import Transaction
from services.user.tokens import AccessTokens, Claims, new_refresh_token, refresh_token_hash

Context = grpc.aio.ServicerContext[Any, Any]

_REPLY: Final = "reply of RefreshSession"


class SessionServicer(session_pb2_grpc.SessionServiceServicer):
    """Signs people in, keeps them signed in, signs them out."""

    def __init__(
        self,
        store: Store[Transaction],
        search: SessionSearch,
        attempts: Attempts,
        access_tokens: AccessTokens,
        keys: PublishedKeys,
        *,
        clock: Clock,
        ids: Ids,
    ) -> None:
        self._store = store
        self._search = search
        self._attempts = attempts
        self._access_tokens = access_tokens
        self._keys = keys
        self._clock = clock
        self._ids = ids

    async def CreateSession(self, request: pb.CreateSessionRequest, context: Context) -> pb.SessionTokens:
        attempt = await self._attempts.by_email(
            request.email, request.password, site=site(address_of(context))
        )
        session_id, token_id, refresh_token = self._ids.new(), self._ids.new(), new_refresh_token()
        now = self._clock.now()

        def begin(tx: Transaction) -> pb.SessionTokens | DomainError:
            user = attempt.settle(tx, at=now)
            if user is None:
                return InvalidCredentials()
            tx.users.tell(user.sign_in(session_id, at=now))
            session = Session.begin(session_id=session_id, user_id=user.id, at=now)
            tx.sessions.add(session)
            return self._tokens(tx, session, user, refresh_token, token_id=token_id, at=now)

        outcome = await self._store.write(begin)
        if isinstance(outcome, DomainError):  # told only now that the failure is on disk
            raise outcome
        return outcome

    async def RefreshSession(self, request: pb.RefreshSessionRequest, context: Context) -> pb.SessionTokens:
        # Who repeats the call has the token that opens the reply; who has the database has not.
        seal = Seal(request.refresh_token.encode(), _REPLY)
        token_hash = refresh_token_hash(request.refresh_token)
        token_id, next_token = self._ids.new(), new_refresh_token()
        now = self._clock.now()

        def refresh(tx: Transaction) -> BytesValue | DomainError:
            token = tx.sessions.token(token_hash)
            if token is None:
                raise InvalidRefreshToken
            session = tx.sessions.get(token.session_id)
            if token.used_at is not None:
                tx.sessions.end(session, Ending.TOKEN_REUSED, at=now)
                return InvalidRefreshToken()
            user = tx.users.get(session.user_id)
            if user.state is not State.ACTIVE:
                raise InvalidRefreshToken
            refreshed = session.refresh(at=now)
            tx.sessions.use(token, at=now)
            tx.sessions.save(refreshed)
            reply = self._tokens(tx, refreshed, user, next_token, token_id=token_id, at=now)
            return BytesValue(value=seal.close(reply.SerializeToString(), about=_REPLY))

        sealed = await self._store.once(call(request), refresh)
        return pb.SessionTokens.FromString(seal.open(sealed.value, about=_REPLY))

    async def RevokeSession(self, request: pb.RevokeSessionRequest, context: Context) -> Empty:
        token_hash, now = refresh_token_hash(request.refresh_token), self._clock.now()

        def revoke(tx: Transaction) -> Empty:
            token = tx.sessions.token(token_hash)
            if token is not None:
                tx.sessions.end(tx.sessions.get(token.session_id), Ending.SIGNED_OUT, at=now)
            return Empty()

        return await self._store.once(call(request), revoke)

    async def RevokeUserSessions(self, request: pb.RevokeUserSessionsRequest, context: Context) -> Empty:
        user_id, session_id = wire.uuid_key(request.user_id), wire.uuid_key(request.session_id)
        now = self._clock.now()

        def revoke(tx: Transaction) -> Empty:
            if not session_id:
                tx.sessions.end_all(tx.users.get(user_id).id, Ending.SIGNED_OUT_ELSEWHERE, at=now)
                return Empty()
            session = tx.sessions.get(session_id)
            if session.user_id != user_id:
                raise SessionNotFound(session_id=session_id)
            tx.sessions.end(session, Ending.SIGNED_OUT_ELSEWHERE, at=now)
            return Empty()

        return await self._store.once(call(request), revoke)

    async def ListSessions(
        self, request: pb.ListSessionsRequest, context: Context
    ) -> pb.ListSessionsResponse:
        return await self._search.sessions(request, at=self._clock.now())

    async def ListSigningKeys(self, request: pb.ListSigningKeysRequest, context: Context) -> HttpBody:
        return HttpBody(content_type=signing_keys.JWK_SET, data=await self._keys.key_set())

    def _tokens(
        self,
        tx: Transaction,
        session: Session,
        user: User,
        refresh_token: str,
        *,
        token_id: str,
        at: datetime,
    ) -> pb.SessionTokens:
        tx.sessions.give(RefreshToken.of(session, refresh_token_hash(refresh_token)))
        claims = Claims(token_id, user.id, user.roles, session.id)
        access = self._access_tokens.mint(tx.signing_keys.all(), claims, at=at)
        return session_convert.tokens_to_proto(session, access, refresh_token)
