"""Who waits for what to change: watchers by topic, woken after the commit that changed it.

A feed carries no data, only that there is something new: a watcher that was woken reads what it needs, so
that it can be neither ahead of the database nor behind what it already has. However slow a watcher is, it
costs one flag. Transactions announce with `session.after_commit(lambda: feed.moved(topic))`.

What other replicas write is announced by `events.moves`.

Watchers of one topic mostly want to read the same: `watch.shared(read)` reads it once for all of them. Who
wants the newest state only (levels of stock) shares that; who wants every version in order (events of an
order) shares the log so far and keeps a place in it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from services.kernel import errors

WATCHERS_MAX: Final = 10_000  # of one process; each holds a stream, its task and its buffers

T = TypeVar("T")


class TooManyWatchers(errors.TooMuch):
    """There are as many watchers here as can be served; try again later."""


@dataclass(slots=True, eq=False)
class _Topic:
    watchers: set[asyncio.Event] = field(default_factory=set)
    moves: int = 0
    reading: asyncio.Lock = field(default_factory=asyncio.Lock)
    read: tuple[int, Any] | None = None
    """What was read last, and at which move that was begun."""


class Feed:
    """The watchers of one process. Belongs to one event loop."""

    def __init__(self, *, watchers_max: int = WATCHERS_MAX) -> None:
        self._watchers_max = watchers_max
        self._topics: dict[str, _Topic] = {}
        self._count = 0
        self.closed = False
        """Whether watchers should end: this process is about to."""

        self.on_move: Callable[[str], object] | None = None
        """Called for each topic that this process moves: who watches it may do so elsewhere."""

    @property
    def watchers(self) -> int:
        """How many watch right now."""
        return self._count

    def moved(self, topic: str) -> None:
        """Wakes whoever watches the topic."""
        self.moved_elsewhere(topic)
        if self.on_move is not None:
            self.on_move(topic)

    def moved_elsewhere(self, topic: str) -> None:
        """The same for what another process has moved."""
        if found := self._topics.get(topic):
            found.moves += 1
            for news in found.watchers:
                news.set()

    def look(self) -> None:
        """Wakes everyone: something may have moved that nobody has told."""
        for topic in self._topics:
            self.moved_elsewhere(topic)

    def close(self) -> None:
        """Wakes everyone, to end: a stream that goes on holds up the drain. They resume elsewhere."""
        self.closed = True
        self.look()

    @contextmanager
    def watching(self, topic: str) -> Iterator["Watch"]:
        """Watches a topic while inside. Read what there is only afterwards: then nothing is missed.

        Raises TooManyWatchers.
        """
        if self._count >= self._watchers_max:
            raise TooManyWatchers
        news = asyncio.Event()
        self._count += 1
        watched = self._topics.setdefault(topic, _Topic())
        watched.watchers.add(news)
        try:
            yield Watch(watched, news)
        finally:
            self._count -= 1
            watched.watchers.discard(news)
            if not watched.watchers:
                del self._topics[topic]


class Watch:
    """One watcher's ear."""

    def __init__(self, topic: _Topic, news: asyncio.Event) -> None:
        self._topic = topic
        self._news = news

    async def news(self, *, timeout_s: float | None = None) -> bool:
        """Waits until the topic has moved since the last time this returned; False if it did not in time."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._news.wait()
        except TimeoutError:
            return False
        self._news.clear()
        return True

    async def shared(self, read: Callable[[], Awaitable[T]]) -> T:
        """What `read` answers, asked once for all who watch this topic until it moves again.

        Never older than the news that woke the caller. All watchers of the topic must ask the same; nobody
        may change the answer. Raises what `read` raises, and then the next in line reads.
        """
        topic = self._topic
        if topic.read is None or topic.read[0] != topic.moves:
            async with topic.reading:
                if topic.read is None or topic.read[0] != topic.moves:
                    moves = topic.moves  # before reading: what moves meanwhile may not be in the answer
                    topic.read = (moves, await read())
        answer: T = topic.read[1]
        return answer
