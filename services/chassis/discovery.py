"""Who runs, asked of the broker, by NATS' *micro* protocol (ADR-32 in nats-io/nats-architecture-and-design).

    nats micro list · nats micro info order · nats micro stats order    # by whoever may ask: the operator

Instances listen to `$SRV.VERB`, `$SRV.VERB.SERVICE` and `$SRV.VERB.SERVICE.ID` (announcer.py). What is asked
of `order` only order hears, and only who heard a question may answer it (`events/permissions.py`): such
answers come from whom they name. Answers to `$SRV.INFO` are claims, hence `find` asks by name. Nothing is
registered, so nothing has to expire: who does not answer is not there.

What a workload says of itself is not taken as it comes: it is bounded, plain ASCII, or refused as a whole.
"""

import asyncio
import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Final

from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from pydantic import BaseModel, Field, StringConstraints, ValidationError

from services.chassis.events.connection import Connection
from services.chassis.health import State

ANSWER_MAX_S: Final = 2.0  # who takes longer is as good as not there
QUIET_S: Final = 0.5  # after the last expected answer: nobody knows how many there will be
ANSWER_BYTES_MAX: Final = 16 * 1024  # ours have half a KiB
INSTANCES_MAX: Final = 100  # of one service: more than anybody runs, and still a table
TEXT_MAX: Final = 200  # characters that a person may be shown

PREFIX: Final = "$SRV"
VERBS: Final = ("PING", "INFO", "STATS")
_NO_RESPONDERS: Final = "503"

# Patterns are Rust's, whose `$` is the end and nothing before it.
_Address = Annotated[
    str, StringConstraints(pattern=r"^(([A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]):[0-9]{1,5})?$")
]
_Text = Annotated[str, StringConstraints(pattern=r"^[ -~]*$", max_length=TEXT_MAX)]
_Word = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._+-]{1,64}$")]


@dataclass(frozen=True, slots=True)
class Instance:
    """What one process says of itself."""

    service: str
    id: str
    """The same for all of its life, also when its connection to the broker is another."""

    version: str
    state: State
    lacks: str
    """Its checks that fail, each with why."""

    mesh: str
    """`host:port` for workloads, or empty; so are those below."""

    guests: str
    operations: str
    pid: int
    started_at: datetime


@dataclass(slots=True)
class Answers:
    """What came back from those who were asked for one service."""

    service: str
    instances: dict[str, Instance] = field(default_factory=dict)
    """By their ids."""

    unreadable: int = 0
    """Answers that are not what an instance of this service says."""

    expected: int = 1
    """How many are waited for; there may be more."""

    _is_over: bool = False
    _came: asyncio.Event = field(default_factory=asyncio.Event)

    async def hear(self, message: Msg) -> None:
        if (message.headers or {}).get("Status") == _NO_RESPONDERS:
            self._is_over = True
        elif len(self.instances) + self.unreadable < INSTANCES_MAX:
            found = _instance(message.data, self.service)
            if found is None or found.id in self.instances:
                self.unreadable += 1
            else:
                self.instances[found.id] = found
        self._came.set()

    async def all_came(self) -> None:
        """Returns after the last answer, as far as that can be told."""
        with contextlib.suppress(TimeoutError):
            while not self._is_over:
                is_enough = len(self.instances) >= self.expected
                async with asyncio.timeout(QUIET_S if is_enough else None):
                    await self._came.wait()
                self._came.clear()


def heard_by(service: str, instance: str) -> Iterator[str]:
    """The subjects on which an instance is asked."""
    # Each verb for all by its name: whom nats-server allows `$SRV.*`, it allows `$SRV.>`.
    yield from (f"{PREFIX}.{verb}" for verb in VERBS)
    yield f"{PREFIX}.*.{service}"
    yield f"{PREFIX}.*.{service}.{instance}"


async def find(connection: Connection, expected: Mapping[str, int]) -> list[Answers]:
    """Asks for all instances of these services, of which so many are expected; takes ANSWER_MAX_S at most.

    Raises one of BROKER_ERRORS.
    """
    asked = [Answers(service, expected=count) for service, count in expected.items()]
    inboxes = [await _ask(connection, answers) for answers in asked]
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(ANSWER_MAX_S):
            await connection.ask(_all_came(asked))
    for inbox in inboxes:
        await inbox.unsubscribe()  # what comes later is of no interest
    return asked


async def _ask(connection: Connection, answers: Answers) -> Subscription:
    inbox = connection.client.new_inbox()
    subscription = await connection.subscribe(inbox, answers.hear)
    await connection.publish(f"{PREFIX}.INFO.{answers.service}", reply=inbox)
    return subscription


async def _all_came(asked: Iterable[Answers]) -> None:
    await asyncio.gather(*(answers.all_came() for answers in asked))


class _Metadata(BaseModel):
    mesh: _Address = ""
    guests: _Address = ""
    operations: _Address = ""
    state: State
    lacks: _Text = ""
    pid: int = Field(ge=0, le=2**32)
    started_at: datetime


class _Info(BaseModel):
    name: _Word
    id: _Word
    version: _Word
    metadata: _Metadata


def _instance(said: bytes, service: str) -> Instance | None:
    """None if it cannot be an instance of this service."""
    if len(said) > ANSWER_BYTES_MAX:
        return None
    try:
        info = _Info.model_validate_json(said)
    except ValidationError:
        return None
    if info.name != service or info.metadata.started_at.tzinfo is None:
        return None
    told = info.metadata
    return Instance(
        service=service,
        id=info.id,
        version=info.version,
        state=told.state,
        lacks=told.lacks,
        mesh=told.mesh,
        guests=told.guests,
        operations=told.operations,
        pid=told.pid,
        started_at=told.started_at,
    )
