"""Named places where a test may kill or delay the process, off unless the environment says otherwise.

    BODEGA_FAILPOINTS="order.append.before=exit;payment.provider.after=delay(0.5);outbox.publish=exit@2"

`exit` leaves at once, like kill -9; `delay(seconds)` waits; `@n` acts at the n-th visit only. A module
declares its places when it is imported (`failpoints.site("order.append.before")`), so that a misspelt name
is refused at start instead of silently testing nothing. After libfail and etcd's gofail.
"""

import asyncio
import os
import re
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, NoReturn

VARIABLE: Final = "BODEGA_FAILPOINTS"
EXIT_CODE: Final = 137  # what a shell shows for kill -9
DELAY_MAX_S: Final = 60.0

_CLAUSE = re.compile(r"([\w.]+)=(?:(exit)|delay\((\d+(?:\.\d+)?)\))(?:@([1-9]\d*))?")


class FailpointsRefused(Exception):
    """The failpoints asked for cannot be set; the message says which and why."""


@dataclass(slots=True)
class _Action:
    kind: Literal["exit", "delay"]
    delay_s: float = 0.0
    at_visit: int | None = None
    visits: int = 0

    def due(self) -> bool:
        self.visits += 1
        return self.at_visit is None or self.visits == self.at_visit


_sites: set[str] = set()
_active: dict[str, _Action] = {}


def site(name: str) -> str:
    """Declares a place and returns its name; the same name may be declared again."""
    _sites.add(name)
    return name


def sites() -> frozenset[str]:
    """Every place declared by the modules imported so far."""
    return frozenset(_sites)


def reach(name: str) -> None:
    """The program is at this place; blocks the thread for a delay (writers, plain functions)."""
    if _active and (delay_s := _visit(name)):
        time.sleep(delay_s)


async def areach(name: str) -> None:
    """The same for coroutines: a delay lets the others run."""
    if _active and (delay_s := _visit(name)):
        await asyncio.sleep(delay_s)


def configure(text: str, *, production: bool) -> None:
    """Sets the failpoints a text asks for, instead of those set before; an empty text sets none.

    Raises FailpointsRefused for anything unclear, for unknown places, and in production.
    """
    wanted = _parsed(text)
    if wanted and production:
        raise FailpointsRefused(f"{VARIABLE} is set, but failpoints have no business in production")
    if unknown := sorted(set(wanted) - _sites):
        raise FailpointsRefused(
            f"{VARIABLE} names {', '.join(unknown)}; this program knows {', '.join(sorted(_sites)) or 'none'}"
        )
    _active.clear()
    _active.update(wanted)


def configure_from_environment(environment: Mapping[str, str] = os.environ, *, production: bool) -> None:
    """What a program calls once at start, after its imports."""
    configure(environment.get(VARIABLE, ""), production=production)


def _parsed(text: str) -> dict[str, _Action]:
    wanted = {}
    for clause in filter(None, (part.strip() for part in text.split(";"))):
        match = _CLAUSE.fullmatch(clause)
        if match is None:
            raise FailpointsRefused(
                f"{VARIABLE}: {clause!r} is not <site>=exit or <site>=delay(<seconds>), with @<visit> or not"
            )
        name, leave, delay, visit = match.groups()
        delay_s = float(delay or 0)
        if delay_s > DELAY_MAX_S:
            raise FailpointsRefused(f"{VARIABLE}: {clause!r} waits longer than {DELAY_MAX_S:g} s")
        wanted[name] = _Action("exit" if leave else "delay", delay_s, int(visit) if visit else None)
    return wanted


def _visit(name: str) -> float:
    """Seconds to wait here."""
    action = _active.get(name)
    if action is None or not action.due():
        return 0.0
    if action.kind == "exit":
        _leave(name)
    return action.delay_s


def _leave(name: str) -> NoReturn:
    print(f"failpoint {name}: leaving", file=sys.stderr, flush=True)  # noqa: T201 (the log is not flushed)
    os._exit(EXIT_CODE)
