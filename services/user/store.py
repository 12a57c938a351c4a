"""Accounts in and out of a transaction."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import sqlalchemy as sa

from services.chassis.events.envelope import envelope
from services.chassis.events.outbox import Outbox
from services.chassis.storage.faults import StaleVersion
from services.chassis.storage.session import Row, Session
from services.chassis.storage.statement import Statement
from services.kernel.clock import from_micros, to_micros
from services.kernel.ids import Ids
from services.user import events
from services.user.activation_store import Activations
from services.user.api_key_store import ApiKeys
from services.user.domain import (
    Details,
    EmailTaken,
    Event,
    LastAdministrator,
    Preferences,
    Profile,
    Role,
    State,
    User,
    UsernameTaken,
    UserNotFound,
)
from services.user.key_store import SigningKeys
from services.user.lockout_store import Lockouts
from services.user.session_store import Sessions
from services.user.sessions import Ending
from services.user.tables import STAFF, STANDING, users


class Transaction:
    """What a transaction of this service works with."""

    def __init__(self, session: Session, ids: Ids) -> None:
        self.api_keys = ApiKeys(session, Outbox(session), ids)
        self.activations = Activations(session)
        self.sessions = Sessions(session)
        self.lockouts = Lockouts(session)
        self.signing_keys = SigningKeys(session)
        self.users = Users(session, Outbox(session), ids, self.sessions)


class Users:
    """The accounts, each an aggregate of its own."""

    def __init__(self, session: Session, outbox: Outbox, ids: Ids, sessions: Sessions) -> None:
        self._session = session
        self._outbox = outbox
        self._ids = ids
        self._sessions = sessions

    def get(self, user_id: str) -> User:
        """Raises UserNotFound."""
        user = self.find(user_id)
        if user is None:
            raise UserNotFound(user_id=user_id)
        return user

    def find(self, user_id: str) -> User | None:
        row = self._session.one(_FIND, user_id=user_id)
        return from_row(row) if row is not None else None

    def find_by_email(self, email_key: str) -> User | None:
        """The account that has the address and has not ended."""
        row = self._session.one(_FIND_BY_EMAIL, email_key=email_key)
        return from_row(row) if row is not None else None

    def move(self, user_id: str, move: Callable[[User], User]) -> User:
        """Loads an account, changes it and saves it.

        Raises UserNotFound, what `move` and `save` raise, and LastAdministrator if nobody would be left
        to run the shop.
        """
        user = self.get(user_id)
        moved = move(user)
        if user.administers and not moved.administers and not self._has_administrator_besides(user_id):
            raise LastAdministrator(user_id=user_id)
        return self.save(moved)

    def save(self, user: User) -> User:
        """Writes the account with its events; nothing if nothing happened.

        One that may not be used is signed out with it, whoever stopped it.
        Raises EmailTaken or UsernameTaken, and StaleVersion if someone else saved it since it was loaded.
        """
        if not user.pending_events:
            return user
        if user.state is not State.DEACTIVATED:
            self._check_free(user)
        saved = replace(user, version=user.version + len(user.pending_events), pending_events=())
        if user.version == 0:
            self._session.run(_ADD, **_row(saved))
        else:
            self._change(saved, user.version)
        if saved.state is not State.ACTIVE:
            self._sessions.end_all(saved.id, Ending.ACCOUNT_STOPPED, at=saved.updated_at)
        for event in user.pending_events:
            self.tell(event)
        return saved

    def rehash(self, user: User, password_hash: str) -> None:
        """Keeps the same password in another hash: no change of the account, and nothing to tell."""
        self._session.run(
            _REHASH, of_user_id=user.id, of_password_hash=user.password_hash, new_password_hash=password_hash
        )

    def tell(self, event: Event) -> None:
        """Publishes what happened to an account."""
        message = events.to_message(event)
        self._outbox.add(envelope("user", event.user_id, message, id=self._ids.new(), at=event.at))

    def _has_administrator_besides(self, user_id: str) -> bool:
        return any(
            from_row(row).administers for row in self._session.all(_STAFF) if row["user_id"] != user_id
        )

    def _check_free(self, user: User) -> None:
        """The unique indexes stand behind this; here the answer gets its words."""
        details = user.details
        others = self._session.all(
            _FIND_LIKE, user_id=user.id, email_key=details.email_key, username_key=details.username_key
        )
        if any(other["email_key"] == details.email_key for other in others):
            raise EmailTaken
        if others:
            raise UsernameTaken(username=details.username)

    def _change(self, saved: User, expected_version: int) -> None:
        row = _row(saved)
        new = {f"new_{name}": row[name] for name in _CHANGING}
        if not self._session.run(_CHANGE, of_user_id=saved.id, of_version=expected_version, **new):
            raise StaleVersion(stream_id=saved.id, expected_version=expected_version)


def from_row(row: Row) -> User:
    """The account that a row of `users` holds."""
    profile = Profile(row["display_name"], row["phone_number"], row["language_code"])
    opted_in = row["marketing_opt_in_time"]
    return User(
        id=row["user_id"],
        details=Details(row["email"], row["username"], profile),
        password_hash=row["password_hash"],
        created_at=from_micros(row["create_time"]),
        updated_at=from_micros(row["update_time"]),
        state=State(row["state"]),
        roles=tuple(map(Role, row["roles"].split())),
        suspension_reason=row["suspension_reason"],
        preferences=Preferences(None if opted_in is None else from_micros(opted_in)),
        version=row["version"],
    )


def _row(user: User) -> dict[str, Any]:
    details, opted_in = user.details, user.preferences.marketing_since
    return {
        "user_id": user.id,
        "email": details.email,
        "email_key": details.email_key,
        "username": details.username,
        "username_key": details.username_key,
        "password_hash": user.password_hash,
        "display_name": details.profile.display_name,
        "phone_number": details.profile.phone_number,
        "language_code": details.profile.language_code,
        "state": str(user.state),
        "roles": " ".join(user.roles),
        "suspension_reason": user.suspension_reason,
        "marketing_opt_in_time": to_micros(opted_in) if opted_in else None,
        "version": user.version,
        "create_time": to_micros(user.created_at),
        "update_time": to_micros(user.updated_at),
    }


_CHANGING: Final = [c.name for c in users.columns if c.name not in ("user_id", "create_time")]

_FIND: Final = Statement(sa.select(users).where(users.c.user_id == sa.bindparam("user_id")))
_FIND_BY_EMAIL: Final = Statement(
    sa.select(users).where(STANDING, users.c.email_key == sa.bindparam("email_key"))
)
_STAFF: Final = Statement(sa.select(users).where(STAFF))
_FIND_LIKE: Final = Statement(
    sa.select(users.c.email_key, users.c.username_key).where(
        STANDING,
        users.c.user_id != sa.bindparam("user_id"),
        sa.or_(
            users.c.email_key == sa.bindparam("email_key"),
            users.c.username_key == sa.bindparam("username_key"),
        ),
    )
)
_ADD: Final = Statement(sa.insert(users).values({c.name: sa.bindparam(c.name) for c in users.columns}))
_CHANGE: Final = Statement(
    sa.update(users)
    .where(users.c.user_id == sa.bindparam("of_user_id"), users.c.version == sa.bindparam("of_version"))
    .values({name: sa.bindparam(f"new_{name}") for name in _CHANGING})
)
_REHASH: Final = Statement(
    sa.update(users)
    .where(
        users.c.user_id == sa.bindparam("of_user_id"),
        users.c.password_hash == sa.bindparam("of_password_hash"),
    )
    .values(password_hash=sa.bindparam("new_password_hash"))
)
