"""What moved in one replica, told to the others, so that whoever watches there is woken too.

A feed is woken by commits of its own process. Where there are several, each tells the others by the broker
what it moved: plain messages, which nobody keeps. One that is lost delays a watcher and no more, for every
topic is looked at now and then all the same.
"""

import asyncio
from collections.abc import Iterator
from itertools import islice
from typing import Final

from nats.aio.msg import Msg

from services.chassis.events.connection import Connection
from services.chassis.events.jetstream import JetStream
from services.chassis.feed import Feed

LOOK_EVERY_S: Final = 5.0  # at most this long until a watcher hears what a lost message would have told
TOPICS_MAX: Final = 1000  # in one message, of some forty bytes each: far below what a broker takes
WAITING_MAX: Final = 10_000  # topics, while the broker is away; others find the rest when they look


def subject(service: str) -> str:
    """Outside of what the service's stream keeps."""
    return f"bodega-moves.{service}"


class Moves:
    """Joins a feed with those of the other replicas."""

    def __init__(self, feed: Feed, jetstream: JetStream, *, service: str, instance: str) -> None:
        """`instance` tells this process from others of its service."""
        self._feed = feed
        self._jetstream = jetstream
        self._subject = subject(service)
        self._instance = instance
        self._moved: set[str] = set()
        self._news = asyncio.Event()
        feed.on_move = self._note

    async def run(self) -> None:
        """Never returns; without a broker watchers wait for the next look."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._look(), name="moves-look")
            tasks.create_task(self._jetstream.on_each(self._exchange_on), name="moves-exchange")

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            self._feed.look()

    async def _exchange_on(self, connection: Connection) -> None:
        connection.on_broken(self._news.set)
        await connection.subscribe(self._subject, self._heard)
        await connection.client.flush()  # from here on we hear everything
        self._feed.look()  # and what was told before
        while not connection.is_broken:
            await self._news.wait()
            self._news.clear()
            moved, self._moved = self._moved, set()
            for topics in _parts(moved):
                await connection.publish(self._subject, "\n".join((self._instance, *topics)).encode())

    def _note(self, topic: str) -> None:
        if len(self._moved) < WAITING_MAX:
            self._moved.add(topic)
        self._news.set()

    async def _heard(self, message: Msg) -> None:
        instance, *topics = message.data.decode().split("\n")
        if instance != self._instance:
            for topic in topics:
                self._feed.moved_elsewhere(topic)


def _parts(topics: set[str]) -> Iterator[list[str]]:
    left = iter(topics)
    while part := list(islice(left, TOPICS_MAX)):
        yield part
