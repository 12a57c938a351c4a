"""Judging a password: the same work, time and answer whether the account exists or not.

    attempt = await attempts.by_email(email, password, site=…)   may they try? if so, one check of one hash
    # in the transaction that acts on it:
    user = attempt.settle(tx, at=now)                        None, and a failure more, if it was wrong

Whether they may try is asked again in the transaction, where attempts come one after the other: of a hundred
that arrive at once, no more are judged than if each had waited for the one before.
"""

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from services.chassis.storage.database import Store
from services.kernel import errors
from services.kernel.clock import Clock
from services.user.domain import User, email_key
from services.user.lockout import OF_ACCOUNT, OF_ADDRESS, Failures, Limit
from services.user.passwords import Passwords
from services.user.store import Transaction

_PURPOSE: Final = b"failed attempts"


class InvalidCredentials(errors.Unauthenticated):
    """E-mail address or password is wrong."""


class WrongPassword(errors.Invalid):
    """The current password is another."""

    field = "current_password"


class PasswordJustChanged(errors.Stale):
    """The password of this account changed a moment ago; try again."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """Someone named an account and gave a password, which was checked."""

    counted_by: tuple[Failures, ...]
    """Whose failure it is: the account's first."""

    user: User | None
    """The account as it was when its password was checked; None if there is none."""

    is_right: bool

    new_hash: str = ""
    """The right password, where the account keeps it in a hash of other costs than are wanted now."""

    def settle(self, tx: Transaction, *, at: datetime) -> User | None:
        """The account as it is now; or None, and the failure is counted.

        Raises SignInLocked, and PasswordJustChanged if it was another password that was checked.
        """
        tx.lockouts.check(self.counted_by, at=at)
        if self.user is None or not self.is_right:
            tx.lockouts.fail(self.counted_by, at=at)
            return None
        user = tx.users.get(self.user.id)
        if user.password_hash != self.user.password_hash:
            raise PasswordJustChanged
        tx.lockouts.forget(self.counted_by[0])
        if self.new_hash:
            tx.users.rehash(user, self.new_hash)
        return user


class Attempts:
    """Lets people try, and has their passwords checked."""

    def __init__(
        self, store: Store[Transaction], passwords: Passwords, *, clock: Clock, secret: bytes
    ) -> None:
        self._store = store
        self._passwords = passwords
        self._clock = clock
        self._key = hmac.digest(secret, _PURPOSE, hashlib.sha256)

    async def by_email(self, email: str, password: str, *, site: str) -> Attempt:
        """Raises SignInLocked while the account or the site may not try, and HashingBusy."""
        counted_by = [self._subject("account", email_key(email), OF_ACCOUNT)]
        if site:
            counted_by.append(self._subject("site", site, OF_ADDRESS))
        return await self._judged(
            tuple(counted_by), lambda tx: tx.users.find_by_email(email_key(email)), password
        )

    async def of_owner(self, user_id: str, password: str) -> Attempt:
        """The same for someone who is signed in: strangers at the door do not lock the owner in.

        Raises UserNotFound too.
        """
        counted_by = (self._subject("owner", user_id, OF_ACCOUNT),)
        return await self._judged(counted_by, lambda tx: tx.users.get(user_id), password)

    def forgive(self, tx: Transaction, email: str) -> None:
        """Forgets how often the account of an address was tried in vain, but not from where."""
        tx.lockouts.forget(self._subject("account", email_key(email), OF_ACCOUNT))

    async def _judged(
        self, counted_by: tuple[Failures, ...], find: Callable[[Transaction], User | None], password: str
    ) -> Attempt:
        now = self._clock.now()

        def admitted(tx: Transaction) -> User | None:
            tx.lockouts.check(counted_by, at=now)  # who may not try gets no hash computed for them
            return find(tx)

        user = await self._store.read(admitted)
        if user is None:
            return Attempt(counted_by, None, is_right=await self._passwords.verify(None, password))
        is_right = await self._passwords.verify(user.password_hash, password)
        outdated = is_right and self._passwords.is_outdated(user.password_hash)
        new_hash = await self._passwords.hash(password) if outdated else ""
        return Attempt(counted_by, user, is_right, new_hash)

    def _subject(self, kind: str, name: str, limit: Limit) -> Failures:
        """By a keyed digest: what people mistype for their address may be anything, their password too."""
        return Failures(hmac.digest(self._key, f"{kind} {name}".encode(), hashlib.sha256), limit)
