"""Messages to people: written once, tried until they are sent or parked. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

TRIES_MAX: Final = 16
"""Then a message is parked: with the waits in between about an hour. A mail server that greylists strangers
needs less; by then a person should look."""


class State(StrEnum):
    """Where a message stands."""

    PENDING = "PENDING"
    SENT = "SENT"
    PARKED = "PARKED"


class Channel(StrEnum):
    """Ways to reach a person."""

    CONSOLE = "CONSOLE"
    EMAIL = "EMAIL"


@dataclass(frozen=True, slots=True)
class Message:
    """What a fact says to whom. Nothing personal but the user's id: where it shows up is not ours to know."""

    user_id: str
    title: str
    body: str
    order_id: str = ""
    particulars: Mapping[str, str] = field(default_factory=dict)
    """What the fact says, by name: enough to say it in another language."""


@dataclass(frozen=True, slots=True)
class Fact:
    """The event that a message tells of."""

    event_id: str
    event_type: str
    """Full name, e.g. `bodega.order.v1.OrderConfirmed`."""


@dataclass(frozen=True, slots=True)
class Notification:
    """One message about one fact."""

    id: str
    message: Message
    fact: Fact
    channel: Channel
    created_at: datetime
    next_try_at: datetime
    """Of a pending one: not before."""

    state: State = State.PENDING
    tries: int = 0
    sent_at: datetime | None = None
    problem: str = ""
    """What kept the last try from succeeding: a code or the kind of error, never anybody's words."""

    traceparent: str = ""
    """The trace of whoever caused the fact; the send belongs to it."""

    @classmethod
    def write(
        cls,
        notification_id: str,
        message: Message,
        fact: Fact,
        *,
        channel: Channel,
        at: datetime,
        traceparent: str = "",
    ) -> "Notification":
        """A new message, due at once."""
        return cls(
            notification_id,
            message,
            fact,
            channel,
            created_at=at,
            next_try_at=at,
            traceparent=traceparent,
        )

    def sent(self, *, at: datetime) -> "Notification":
        """It is on its way: its channel has taken it."""
        return replace(self, state=State.SENT, tries=self.tries + 1, sent_at=at, problem="")

    def failed(self, problem: str, *, at: datetime, retry_in: timedelta) -> "Notification":
        """A try failed: the next one is due after `retry_in`, unless this was the last."""
        tries = self.tries + 1
        state = State.PARKED if tries >= TRIES_MAX else State.PENDING
        return replace(self, state=state, tries=tries, next_try_at=at + retry_in, problem=problem)

    def given_up(self, problem: str) -> "Notification":
        """It can never be sent: parked at once."""
        return replace(self, state=State.PARKED, tries=self.tries + 1, problem=problem)
