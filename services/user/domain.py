"""Accounts: what may become of them.

Pure. A command returns the account with what happened pending, and `save` writes both; it returns the account
itself if nothing is left to do, and refuses aloud otherwise.
"""

from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from services.kernel import errors


class State(StrEnum):
    """Where an account stands."""

    INACTIVE = "INACTIVE"
    ACTIVE = "ACTIVE"
    SUSPENDED = "SUSPENDED"
    DEACTIVATED = "DEACTIVATED"


class Role(StrEnum):
    """What an account is trusted with."""

    CUSTOMER = "CUSTOMER"
    SUPPORT = "SUPPORT"
    WAREHOUSE = "WAREHOUSE"
    ADMIN = "ADMIN"


class UserNotFound(errors.NotFound):
    """There is no user {user_id}."""


class EmailTaken(errors.AlreadyExists):
    """Another account has this e-mail address."""


class UsernameTaken(errors.AlreadyExists):
    """Another account has the username {username}."""


class StaleEtag(errors.Stale):
    """User {user_id} has changed since the etag {etag}; it is at {current_etag}."""


class UserDeactivated(errors.WrongState):
    """Account {user_id} has ended."""


class UserNotActivatable(errors.WrongState):
    """Account {user_id} is {state}; only an inactive one can be activated."""


class UserNotSuspendable(errors.WrongState):
    """Account {user_id} is {state}; only an active one can be suspended."""


class UserNotReinstatable(errors.WrongState):
    """Account {user_id} is {state}; only a suspended one can be reinstated."""


class LastAdministrator(errors.WrongState):
    """Nobody but {user_id} administers the shop; trust another account with it first."""


class AccountNotActivated(errors.WrongState):
    """Account {user_id} has not been activated yet."""


class AccountSuspended(errors.WrongState):
    """Account {user_id} is suspended; an administrator can say why."""


@dataclass(frozen=True, slots=True)
class Registered:
    username: str


@dataclass(frozen=True, slots=True)
class Activated:
    pass


@dataclass(frozen=True, slots=True)
class Updated:
    changed_fields: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Suspended:
    pass


@dataclass(frozen=True, slots=True)
class Reinstated:
    pass


@dataclass(frozen=True, slots=True)
class Deactivated:
    pass


@dataclass(frozen=True, slots=True)
class RoleGranted:
    role: Role


@dataclass(frozen=True, slots=True)
class RoleRevoked:
    role: Role


@dataclass(frozen=True, slots=True)
class SignedIn:
    session_id: str


Fact = (
    Registered
    | Activated
    | Updated
    | Suspended
    | Reinstated
    | Deactivated
    | RoleGranted
    | RoleRevoked
    | SignedIn
)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to an account. Says nothing personal: events are read by many."""

    user_id: str
    at: datetime
    fact: Fact


@dataclass(frozen=True, slots=True)
class Profile:
    """How to address an account's owner."""

    display_name: str = field(default="", repr=False)
    phone_number: str = field(default="", repr=False)
    language_code: str = ""


def email_key(email: str) -> str:
    """What e-mail addresses are compared by: two that differ in case reach one mailbox."""
    return email.casefold()


@dataclass(frozen=True, slots=True)
class Details:
    """What the owner of an account may change."""

    email: str = field(repr=False)
    username: str
    profile: Profile = Profile()

    @property
    def email_key(self) -> str:
        """What e-mail addresses are compared by."""
        return email_key(self.email)

    @property
    def username_key(self) -> str:
        """What usernames are compared by: `Ada` and `ada` must not pass for each other."""
        return self.username.casefold()

    def differences(self, other: "Details") -> tuple[str, ...]:
        """Paths of the fields in which the other differs, as the contract spells them."""
        own = {name: getattr(self, name) == getattr(other, name) for name in ("email", "username")}
        nested = {
            f"profile.{name}": getattr(self.profile, name) == getattr(other.profile, name)
            for name in Profile.__slots__
        }
        return tuple(path for path, same in {**own, **nested}.items() if not same)


@dataclass(frozen=True, slots=True)
class Preferences:
    """What an account's owner wishes."""

    marketing_since: datetime | None = None
    """Since when they agree to get offers; None: they do not."""


@dataclass(frozen=True, slots=True)
class User:
    """An account."""

    id: str
    details: Details
    password_hash: str = field(repr=False)
    created_at: datetime
    updated_at: datetime
    state: State = State.INACTIVE
    roles: tuple[Role, ...] = (Role.CUSTOMER,)
    suspension_reason: str = ""
    preferences: Preferences = Preferences()
    version: int = 0
    """How many events it has had; 0 for one that was never saved."""

    pending_events: tuple[Event, ...] = ()
    """What happened since it was loaded; saved with it."""

    @classmethod
    def register(cls, *, user_id: str, details: Details, password_hash: str, at: datetime) -> "User":
        new = cls(id=user_id, details=details, password_hash=password_hash, created_at=at, updated_at=at)
        return new._happened(Registered(details.username), at)

    @property
    def administers(self) -> bool:
        """Whether its owner can run the shop."""
        return self.state is State.ACTIVE and Role.ADMIN in self.roles

    @property
    def etag(self) -> str:
        """Changes with every change; opaque to callers."""
        return f"v{self.version}"

    def expect(self, etag: str) -> "User":
        """Itself, if the etag is current or empty; else raises StaleEtag."""
        if etag and etag != self.etag:
            raise StaleEtag(user_id=self.id, etag=etag, current_etag=self.etag)
        return self

    def update(self, details: Details, *, at: datetime) -> "User":
        """The account with new details. Raises UserDeactivated once it has ended."""
        if self.state is State.DEACTIVATED:
            raise UserDeactivated(user_id=self.id)
        changed = self.details.differences(details)
        if not changed:
            return self
        return self._happened(Updated(changed), at, details=details)

    def prefer(self, *, marketing_opt_in: bool, at: datetime) -> "User":
        """The account with other wishes. Raises UserDeactivated once it has ended."""
        if self.state is State.DEACTIVATED:
            raise UserDeactivated(user_id=self.id)
        if marketing_opt_in == (self.preferences.marketing_since is not None):
            return self  # who agrees again has agreed since the first time
        wished = Preferences(marketing_since=at if marketing_opt_in else None)
        return self._happened(Updated(("preferences.marketing_opt_in",)), at, preferences=wished)

    def change_password(self, password_hash: str, *, at: datetime) -> "User":
        """The account with another password. Raises UserDeactivated once it has ended."""
        if self.state is State.DEACTIVATED:
            raise UserDeactivated(user_id=self.id)
        return self._happened(Updated(("password",)), at, password_hash=password_hash)

    def sign_in(self, session_id: str, *, at: datetime) -> Event:
        """What there is to tell of it: signing in changes nothing about an account.

        Raises AccountNotActivated, AccountSuspended or UserDeactivated: only an active account can be used.
        """
        match self.state:
            case State.INACTIVE:
                raise AccountNotActivated(user_id=self.id)
            case State.SUSPENDED:
                raise AccountSuspended(user_id=self.id)
            case State.DEACTIVATED:
                raise UserDeactivated(user_id=self.id)
            case State.ACTIVE:
                return Event(self.id, at, SignedIn(session_id))

    def activate(self, *, at: datetime) -> "User":
        """Raises UserNotActivatable for a suspended or ended account."""
        if self.state is State.ACTIVE:
            return self
        if self.state is not State.INACTIVE:
            raise UserNotActivatable(user_id=self.id, state=self.state)
        return self._happened(Activated(), at, state=State.ACTIVE)

    def suspend(self, *, reason: str, at: datetime) -> "User":
        """Raises UserNotSuspendable for an inactive or ended account; a suspended one keeps its reason."""
        if self.state is State.SUSPENDED:
            return self
        if self.state is not State.ACTIVE:
            raise UserNotSuspendable(user_id=self.id, state=self.state)
        return self._happened(Suspended(), at, state=State.SUSPENDED, suspension_reason=reason)

    def reinstate(self, *, at: datetime) -> "User":
        """Raises UserNotReinstatable for an inactive or ended account."""
        if self.state is State.ACTIVE:
            return self
        if self.state is not State.SUSPENDED:
            raise UserNotReinstatable(user_id=self.id, state=self.state)
        return self._happened(Reinstated(), at, state=State.ACTIVE, suspension_reason="")

    def deactivate(self, *, at: datetime) -> "User":
        """Ends the account, wherever it stands; its address and name are free from then on."""
        if self.state is State.DEACTIVATED:
            return self
        return self._happened(Deactivated(), at, state=State.DEACTIVATED, suspension_reason="")

    def grant(self, role: Role, *, at: datetime) -> "User":
        """The account trusted with the role. Raises UserDeactivated once it has ended."""
        return self._trusted({*self.roles, role}, RoleGranted(role), at)

    def revoke(self, role: Role, *, at: datetime) -> "User":
        """The account trusted with the role no longer. Raises UserDeactivated once it has ended."""
        return self._trusted({*self.roles} - {role}, RoleRevoked(role), at)

    def _trusted(self, wanted: set[Role], fact: Fact, at: datetime) -> "User":
        if self.state is State.DEACTIVATED:
            raise UserDeactivated(user_id=self.id)
        if wanted == {*self.roles}:
            return self
        return self._happened(fact, at, roles=tuple(role for role in Role if role in wanted))

    def take_over(self, *, password_hash: str, at: datetime) -> "User":
        """The account as an administrator's, with another password.

        Raises UserNotActivatable if it is suspended.
        """
        changed = self._happened(Updated(("password",)), at, password_hash=password_hash)
        return changed.activate(at=at).grant(Role.ADMIN, at=at)

    def _happened(self, fact: Fact, at: datetime, **changes: Any) -> "User":
        event = Event(self.id, at, fact)
        return replace(self, **changes, updated_at=at, pending_events=(*self.pending_events, event))
