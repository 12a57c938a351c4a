"""The RPCs of accounts, in proto order."""

from collections.abc import Callable
from typing import Any

import grpc
from bodega.user.v1 import user_pb2 as pb
from bodega.user.v1 import user_pb2_grpc
from google.protobuf.empty_pb2 import Empty

from services.chassis import context as request_context
from services.chassis import wire
from services.chassis.storage.database import Store
from services.chassis.storage.idempotency import call
from services.kernel.clock import Clock
from services.kernel.errors import DomainError
from services.kernel.ids import Ids
from services.user import activation, convert
from services.user.domain import Role, User
from services.user.passwords import Passwords
from services.user.search import Search
from services.user.sessions import Ending
from services.user.sign_in import Attempts, WrongPassword
from services.user.store import Transaction

Context = grpc.aio.ServicerContext[Any, Any]


class UserServicer(user_pb2_grpc.UserServiceServicer):
    """Opens accounts, shows them, changes them, ends them."""

    def __init__(
        self,
        store: Store[Transaction],
        search: Search,
        passwords: Passwords,
        attempts: Attempts,
        *,
        clock: Clock,
        ids: Ids,
        secret: bytes,
    ) -> None:
        """The secret is what activation tokens are derived from."""
        self._store = store
        self._search = search
        self._passwords = passwords
        self._attempts = attempts
        self._clock = clock
        self._ids = ids
        self._secret = secret

    async def RegisterUser(self, request: pb.RegisterUserRequest, context: Context) -> pb.User:
        this = call(request)
        known = await self._store.recall(this, pb.User)  # before hashing, so that a repeat costs nothing
        if known is not None:
            return await self._whole(known)
        password_hash = await self._passwords.hash_of_stranger(request.password)
        details = convert.registered_details(request)
        user_id, now = self._ids.new(), self._clock.now()

        def register(tx: Transaction) -> pb.User:
            user = User.register(user_id=user_id, details=details, password_hash=password_hash, at=now)
            return convert.user_to_proto(tx.users.save(user))

        return await self._whole(await self._store.once(this, register))

    async def GetUser(self, request: pb.GetUserRequest, context: Context) -> pb.User:
        return convert.user_to_proto(await self._user(request.user_id))

    async def ListUsers(self, request: pb.ListUsersRequest, context: Context) -> pb.ListUsersResponse:
        return await self._search.users(request)

    async def UpdateUser(self, request: pb.UpdateUserRequest, context: Context) -> pb.User:
        now = self._clock.now()

        def update(user: User) -> User:
            details = convert.updated_details(user, request.user, request.update_mask)
            return user.expect(request.user.etag).update(details, at=now)

        return await self._move(request, request.user.user_id, update)

    async def ActivateUser(self, request: pb.ActivateUserRequest, context: Context) -> pb.User:
        now = self._clock.now()
        if not request.activation_token:
            _refuse_guests()
            return await self._move(request, request.user_id, lambda user: user.activate(at=now))

        def redeem(tx: Transaction) -> pb.User:
            user_id = wire.uuid_key(request.user_id)
            user, issued = tx.users.find(user_id), tx.activations.find(user_id)
            user = activation.redeem(user, issued, request.activation_token, at=now)
            tx.activations.drop(user_id)
            return convert.user_to_proto(tx.users.save(user))

        return await self._whole(await self._store.once(call(request), redeem))

    async def IssueActivationToken(
        self, request: pb.IssueActivationTokenRequest, context: Context
    ) -> pb.IssueActivationTokenResponse:
        now = self._clock.now()

        def issue(tx: Transaction) -> pb.IssueActivationTokenResponse:
            user = tx.users.get(wire.uuid_key(request.user_id))
            token, issued = activation.issue(user, secret=self._secret, request_id=request.request_id, at=now)
            tx.activations.put(issued)
            return pb.IssueActivationTokenResponse(
                activation_token=token, expire_time=wire.timestamp(issued.expires_at)
            )

        return await self._store.write(issue)  # not `once`: a repeat leads to the same token by itself

    async def SuspendUser(self, request: pb.SuspendUserRequest, context: Context) -> pb.User:
        now = self._clock.now()
        return await self._move(
            request, request.user_id, lambda user: user.suspend(reason=request.reason, at=now)
        )

    async def ReinstateUser(self, request: pb.ReinstateUserRequest, context: Context) -> pb.User:
        now = self._clock.now()
        return await self._move(request, request.user_id, lambda user: user.reinstate(at=now))

    async def ChangePassword(self, request: pb.ChangePasswordRequest, context: Context) -> Empty:
        this = call(request)
        known = await self._store.recall(this, Empty)  # before the password is judged: it is another by now
        if known is not None:
            return known
        user_id = wire.uuid_key(request.user_id)
        attempt = await self._attempts.of_owner(user_id, request.current_password)
        new_hash = await self._passwords.hash(request.new_password) if attempt.is_right else ""
        now, signed_in_with = self._clock.now(), _session_at_hand()

        def change(tx: Transaction) -> Empty | DomainError:
            user = attempt.settle(tx, at=now)
            if user is None:
                return WrongPassword()
            tx.users.save(user.change_password(new_hash, at=now))
            tx.sessions.end_all(user.id, Ending.PASSWORD_CHANGED, at=now, but=signed_in_with)
            return Empty()

        return await self._store.once(this, change)

    async def DeactivateUser(self, request: pb.DeactivateUserRequest, context: Context) -> Empty:
        now = self._clock.now()

        def deactivate(tx: Transaction) -> Empty:
            tx.users.move(wire.uuid_key(request.user_id), lambda user: user.deactivate(at=now))
            return Empty()

        return await self._store.once(call(request), deactivate)

    async def GetPreferences(self, request: pb.GetPreferencesRequest, context: Context) -> pb.Preferences:
        return convert.preferences_to_proto(await self._user(request.user_id))

    async def UpdatePreferences(
        self, request: pb.UpdatePreferencesRequest, context: Context
    ) -> pb.Preferences:
        now, wanted = self._clock.now(), request.preferences

        def prefer(user: User) -> User:
            return user.expect(wanted.etag).prefer(marketing_opt_in=wanted.marketing_opt_in, at=now)

        def preferred(tx: Transaction) -> pb.Preferences:
            return convert.preferences_to_proto(tx.users.move(wire.uuid_key(wanted.user_id), prefer))

        return await self._store.once(call(request), preferred)

    async def GrantRole(self, request: pb.GrantRoleRequest, context: Context) -> pb.User:
        now, role = self._clock.now(), convert.role_from_proto(request.role)
        return await self._move(request, request.user_id, lambda user: user.grant(role, at=now))

    async def RevokeRole(self, request: pb.RevokeRoleRequest, context: Context) -> pb.User:
        now, role = self._clock.now(), convert.role_from_proto(request.role)
        return await self._move(request, request.user_id, lambda user: user.revoke(role, at=now))

    async def CreateAdministrator(self, request: pb.CreateAdministratorRequest, context: Context) -> pb.User:
        this = call(request)
        known = await self._store.recall(this, pb.User)
        if known is not None:
            return await self._whole(known)
        password_hash = await self._passwords.hash(request.password)
        details = convert.administrator_details(request)
        user_id, now = self._ids.new(), self._clock.now()

        def create(tx: Transaction) -> pb.User:
            self._attempts.forgive(tx, request.email)  # who knew the last password may have locked it
            user = tx.users.find_by_email(details.email_key)
            if user is not None:
                user = user.take_over(password_hash=password_hash, at=now)
                tx.sessions.end_all(user.id, Ending.PASSWORD_CHANGED, at=now)
                tx.api_keys.revoke_all(user.id, at=now)
            else:
                new = User.register(user_id=user_id, details=details, password_hash=password_hash, at=now)
                user = new.activate(at=now).grant(Role.ADMIN, at=now)
            return convert.user_to_proto(tx.users.save(user))

        return await self._whole(await self._store.once(this, create))

    async def _move(
        self,
        request: pb.UpdateUserRequest
        | pb.ActivateUserRequest
        | pb.SuspendUserRequest
        | pb.ReinstateUserRequest
        | pb.GrantRoleRequest
        | pb.RevokeRoleRequest,
        user_id: str,
        move: Callable[[User], User],
    ) -> pb.User:
        def moved(tx: Transaction) -> pb.User:
            return convert.user_to_proto(tx.users.move(wire.uuid_key(user_id), move))

        return await self._whole(await self._store.once(call(request), moved))

    async def _whole(self, reply: pb.User) -> pb.User:
        """The reply itself, or, if it was remembered and hence lacks what is personal, completed."""
        if reply.email:
            return reply
        return convert.with_personal_data(reply, await self._user(reply.user_id))

    async def _user(self, user_id: str) -> User:
        return await self._store.read(lambda tx: tx.users.get(wire.uuid_key(user_id)))


def _session_at_hand() -> str:
    """The session that the call is made with; empty if it is made with none."""
    request = request_context.current()
    return request.caller.session_id if request else ""


def _refuse_guests() -> None:
    """Raises ActivationRefused for who needs a token, which is everybody but those the contract names."""
    asked = request_context.current()
    if asked is not None and asked.is_guest:
        raise activation.ActivationRefused
