"""Who may call a method: decided from its contract, the caller and the owner named in the request. Pure.

Default is deny: a method without any rule is nobody's.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from functools import reduce
from typing import Any, Final

from bodega.policy.v1 import policy_pb2
from google.protobuf.descriptor import Descriptor

from services.chassis.contract import ContractError, Method
from services.chassis.identity.caller import Caller
from services.kernel import errors

READ: Final = "read"
WRITE: Final = "write"


class NotSignedIn(errors.Unauthenticated):
    """Sign in to do this."""


class NotAllowed(errors.Forbidden):
    """You are not allowed to do this."""


class NotFound(errors.NotFound):
    """There is no such thing, or it is not yours."""


class Admitted(Enum):
    """In which quality a call was let in."""

    AS_USER = auto()
    """As whoever the token names, or as nobody where nobody is asked."""

    AS_GUEST = auto()
    """As anybody, where those with a role that the contract names beside `public` have a right to more."""

    AS_STAFF = auto()
    """As a user whose role it takes, since what is addressed is not theirs."""

    AS_WORKLOAD = auto()
    """As a service of the house, perhaps on a user's behalf."""

    IF_OWNER = auto()
    """As a user to whom the thing addressed must turn out to belong."""


@dataclass(frozen=True, slots=True)
class Rule:
    """The `access` of one method, compiled."""

    public: bool
    signed_in: bool
    owner: Callable[[Any], str] | None
    """The owner that a request names; an empty one is nobody's."""

    owner_of_resource: bool
    roles: frozenset[str]
    workloads: frozenset[str]
    scope: str
    """What an API key needs, e.g. `order:read`."""

    changes: bool
    """Whether a call may have effects."""

    def admit(self, request: Any, user: Caller, workload: str) -> Admitted:
        """Raises NotSignedIn, NotAllowed or NotFound: the same whatever there is, nothing was looked at."""
        if workload in self.workloads:
            return Admitted.AS_WORKLOAD
        if self.public:
            if not self.roles:
                return Admitted.AS_USER
            return Admitted.AS_STAFF if self._entrusts(user) else Admitted.AS_GUEST
        if not user.name:
            raise NotAllowed if workload else NotSignedIn
        if not self._is_within_scope(user):
            raise NotAllowed
        named = self.owner(request).lower() if self.owner else ""
        if self.signed_in or (named and named == user.user_id):
            return Admitted.AS_USER
        if not self.roles.isdisjoint(user.roles):
            return Admitted.AS_STAFF
        if self.owner_of_resource:
            return Admitted.IF_OWNER
        raise NotFound if named else NotAllowed

    def _entrusts(self, user: Caller) -> bool:
        return not self.roles.isdisjoint(user.roles) and self._is_within_scope(user)

    def _is_within_scope(self, user: Caller) -> bool:
        return user.scopes is None or self.scope in user.scopes


def rule(method: Method) -> Rule:
    """Raises ContractError for a method of ours without a policy, or with one that makes no sense."""
    if method.policy is None or not method.policy.HasField("access"):
        raise ContractError(f"{method.path} has no access policy: nobody could call it")
    access = method.policy.access
    return Rule(
        public=access.public,
        signed_in=access.signed_in,
        owner=_reader(method, access.owner) if access.owner else None,
        owner_of_resource=access.owner_of_resource,
        roles=frozenset(role_name(role) for role in access.roles),
        workloads=frozenset(access.workloads),
        scope=scope(method),
        changes=not method.is_read,
    )


def role_name(role: "policy_pb2.Role.ValueType") -> str:
    """`support` of ROLE_SUPPORT."""
    return policy_pb2.Role.Name(role).removeprefix("ROLE_").lower()


ROLES: Final = frozenset(role_name(role) for role in policy_pb2.Role.values() if role)
"""Every role there is."""


def scope(method: Method) -> str:
    """What an API key must be allowed for this method: the area it belongs to, to read or to write."""
    area = method.service.split(".")[-3] if method.service.count(".") > 1 else method.service
    return f"{area}:{READ if method.is_read else WRITE}"


def is_for_users(method: Method) -> bool:
    """Whether there is a user who may call it, and not services of the house alone."""
    given = method.policy.access.ListFields() if method.policy is not None else ()
    return any(field.name != "workloads" for field, _ in given)


def _reader(method: Method, path: str) -> Callable[[Any], str]:
    names = path.split(".")
    kind: Descriptor | None = method.descriptor.input_type
    for name in names:
        field = kind.fields_by_name.get(name) if kind is not None else None
        if field is None:
            raise ContractError(f"{method.path}: there is no field {path}, which should name the owner")
        kind = field.message_type
    if len(names) == 1:
        return lambda request: str(getattr(request, path))
    return lambda request: str(reduce(getattr, names, request))
