"""Hashing passwords: slow by design, hence in threads of its own and with a bounded queue.

Argon2id (RFC 9106). A hash takes some 0.3 s of a core and 64 MiB, which is what makes guessing dear; so few
run at a time, some may wait, and the rest are refused at once instead of being kept past their deadlines.
"""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Final, Self

from argon2 import PasswordHasher

from services.kernel import errors

WAITING_MAX: Final = 16
"""As many as can be served within the 5 s that a registration is given, two at a time."""


class HashingBusy(errors.Unavailable):
    """Too many registrations at once; try again in a moment."""

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
        self._threads = ThreadPoolExecutor(at_once, thread_name_prefix="argon2")
        self._room = threading.BoundedSemaphore(at_once + waiting_max)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self._threads.shutdown, wait=True, cancel_futures=True)

    async def hash(self, password: str) -> str:
        """The hash in PHC format, salt and costs included. Raises HashingBusy."""
        if not self._room.acquire(blocking=False):
            raise HashingBusy
        # A caller that is cancelled leaves its hash running; room is given back when the thread has ended it.
        hashing = self._threads.submit(self._hasher.hash, password)
        hashing.add_done_callback(lambda _: self._room.release())
        return await asyncio.wrap_future(hashing)
