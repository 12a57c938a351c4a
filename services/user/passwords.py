"""Hashing and checking passwords: slow by design, hence in threads of its own and with a bounded queue.

Argon2id (RFC 9106). A hash takes some 0.3 s of a core and 64 MiB, which is what makes guessing dear; so few
run at a time, some may wait, and the rest are refused at once instead of being kept past their deadlines.
"""

import asyncio
import base64
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Final, Self, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import VerifyMismatchError
from argon2.low_level import ARGON2_VERSION

from services.kernel import errors

T = TypeVar("T")

WAITING_MAX: Final = 16
"""As many as can be served within the 5 s that registering or signing in is given, two at a time."""


STRANGERS_SHARE: Final = 0.5
"""Of the room, for those who have no account yet: however many register, people get in who have one."""


class HashingBusy(errors.Busy):
    """Too many passwords to check at once; try again in a moment."""

    retry_after_s = 1.0


class Passwords:
    """Makes hashes for as long as the context manager."""

    def __init__(
        self,
        *,
        at_once: int,
        time_cost: int,
        memory_kib: int,
        parallelism: int,
        waiting_max: int = WAITING_MAX,
    ) -> None:
        """Costs as RFC 9106 has them: passes, KiB, lanes. They are part of each hash."""
        self._hasher = PasswordHasher(time_cost=time_cost, memory_cost=memory_kib, parallelism=parallelism)
        self._of_nobody = _unknown(self._hasher)
        self._threads = ThreadPoolExecutor(at_once, thread_name_prefix="argon2")
        room = at_once + waiting_max
        self._room = threading.BoundedSemaphore(room)
        self._strangers = threading.BoundedSemaphore(max(1, int(room * STRANGERS_SHARE)))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self._threads.shutdown, wait=True, cancel_futures=True)

    async def hash(self, password: str) -> str:
        """The hash in PHC format, salt and costs included. Raises HashingBusy."""
        return await self._queued(lambda: self._hasher.hash(password), self._room)

    async def hash_of_stranger(self, password: str) -> str:
        """The same for somebody who registers. Raises HashingBusy, too, when there are many of them."""
        return await self._queued(lambda: self._hasher.hash(password), self._strangers, self._room)

    async def verify(self, password_hash: str | None, password: str) -> bool:
        """Whether the password is the one of the hash. Raises HashingBusy.

        Without a hash the answer is no, after the same work: its time does not tell who has an account.
        """
        against = password_hash or self._of_nobody
        return await self._queued(lambda: _verified(self._hasher, against, password), self._room)

    def is_outdated(self, password_hash: str) -> bool:
        """Whether the hash was made at other costs than are wanted now."""
        return self._hasher.check_needs_rehash(password_hash)

    async def _queued(self, work: Callable[[], T], *rooms: threading.BoundedSemaphore) -> T:
        taken = _taken(rooms)
        # A caller that is cancelled leaves its hash running; room is given back when the thread has ended it.
        hashing = self._threads.submit(work)
        hashing.add_done_callback(lambda _: _give_back(taken))
        return await asyncio.wrap_future(hashing)


def _taken(rooms: Sequence[threading.BoundedSemaphore]) -> Sequence[threading.BoundedSemaphore]:
    """All of them, or none. Raises HashingBusy."""
    for number, room in enumerate(rooms):
        if not room.acquire(blocking=False):
            _give_back(rooms[:number])
            raise HashingBusy
    return rooms


def _give_back(rooms: Sequence[threading.BoundedSemaphore]) -> None:
    for room in rooms:
        room.release()


def _verified(hasher: PasswordHasher, password_hash: str, password: str) -> bool:
    try:
        return hasher.verify(password_hash, password)
    except VerifyMismatchError:
        return False


def _unknown(hasher: PasswordHasher) -> str:
    """A hash of the usual costs that is nobody's, made without the work: its digest is random."""
    costs = f"m={hasher.memory_cost},t={hasher.time_cost},p={hasher.parallelism}"
    salt, digest = (_base64(os.urandom(size)) for size in (hasher.salt_len, hasher.hash_len))
    return f"$argon2id$v={ARGON2_VERSION}${costs}${salt}${digest}"


def _base64(content: bytes) -> str:
    return base64.b64encode(content).rstrip(b"=").decode()
