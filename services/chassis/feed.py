"""Who waits for what to change: watchers by topic, woken after the commit that changed it.

A feed carries no data, only that there is something new: a watcher that was woken reads what it needs, so
that it can be neither ahead of the database nor behind what it already has. However slow a watcher is, it
costs one flag. Transactions announce with `session.after_commit(lambda: feed.moved(topic))`.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from services.kernel import errors

WATCHERS_MAX: Final = 10_000  # of one process; each holds a stream, its task and its buffers


class TooManyWatchers(errors.TooMuch):
    """There are as many watchers here as can be served; try again later."""


class Feed:
    """The watchers of one process. Belongs to one event loop."""

    def __init__(self, *, watchers_max: int = WATCHERS_MAX) -> None:
        self._watchers_max = watchers_max
        self._topics: dict[str, set[asyncio.Event]] = {}
        self._count = 0
        self.closed = False
        """Whether watchers should end: this process is about to."""

    @property
    def watchers(self) -> int:
        """How many watch right now."""
        return self._count

    def moved(self, topic: str) -> None:
        """Wakes whoever watches the topic."""
        for news in self._topics.get(topic, ()):
            news.set()

    def close(self) -> None:
        """Wakes everyone, to end: a stream that goes on holds up the drain. They resume elsewhere."""
        self.closed = True
        for topic in self._topics:
            self.moved(topic)

    @contextmanager
    def watching(self, topic: str) -> Iterator["Watch"]:
        """Watches a topic while inside. Read what there is only afterwards: then nothing is missed.

        Raises TooManyWatchers.
        """
        if self._count >= self._watchers_max:
            raise TooManyWatchers
        news = asyncio.Event()
        self._count += 1
        self._topics.setdefault(topic, set()).add(news)
        try:
            yield Watch(news)
        finally:
            self._count -= 1
            self._topics[topic].discard(news)
            if not self._topics[topic]:
                del self._topics[topic]


class Watch:
    """One watcher's ear."""

    def __init__(self, news: asyncio.Event) -> None:
        self._news = news

    async def news(self, *, timeout_s: float) -> bool:
        """Waits until the topic has moved since the last time this returned; False if it did not in time."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._news.wait()
        except TimeoutError:
            return False
        self._news.clear()
        return True
