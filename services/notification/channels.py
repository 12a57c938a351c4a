"""Ways to reach a person, behind one port."""

import asyncio
from typing import BinaryIO, Protocol

import orjson

from services.kernel.clock import Clock
from services.notification.domain import Notification


class NotSent(Exception):
    """The message was not sent, and may be tried again. The problem is a code, never anybody's words."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem


class Away(NotSent):
    """Nothing was tried with this message: its channel is to be had for none, and is waited for."""


class Undeliverable(NotSent):
    """It was not sent and never will be, however often it is tried."""


class ChannelPort(Protocol):
    """Where the sender hands messages over."""

    async def send(self, notification: Notification) -> None:
        """Returns when the message is out of our hands; raises anything if it is not.

        Undeliverable ends it, Away is no try at all; whatever else is raised, the message comes again, until
        it was tried too often. It may also come again, under the same id, if the process died inside the
        first send.
        """


class Console:
    """Prints a JSON line for each message: what a shop on a laptop has instead of a mail server.

    Of the person only the user id is shown.
    """

    def __init__(self, stream: BinaryIO, *, clock: Clock) -> None:
        self._stream = stream
        self._clock = clock

    async def send(self, notification: Notification) -> None:
        """Raises OSError if nobody reads any more."""
        # In a thread: a reader that has stopped reading must not stop the service.
        await asyncio.to_thread(self._print, self._line(notification))

    def _line(self, notification: Notification) -> bytes:
        message = notification.message
        shown = {
            "time": self._clock.now(),
            "notification_id": notification.id,
            "user_id": message.user_id,
            "event_type": notification.fact.event_type,
            "order_id": message.order_id,
            "title": message.title,
            "body": message.body,
        }
        return orjson.dumps(shown, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z)

    def _print(self, line: bytes) -> None:
        self._stream.write(line)
        self._stream.flush()
