"""Named places where a test may kill or delay the process, off unless the environment says otherwise.

    BODEGA_FAILPOINTS="order.append.before=exit;payment.provider.after=delay(0.5);outbox.publish=exit@2"

`exit` leaves at once, like kill -9; `delay(seconds)` waits; `@n` acts at the n-th visit only, and
`storage.commit.before[CapturePayment]` counts only visits while that RPC is served. A module declares its
places when it is imported (`failpoints.site("order.append.before")`), so that a misspelt name is refused at
start instead of silently testing nothing. After libfail and etcd's gofail.

BODEGA_FAILPOINTS_FILE names a file to be followed instead: what it says counts from the moment it is written
(whole: rename it into place), and visits are counted anew. So one process can be prepared for many deaths.
"""

import asyncio
import os
import re
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, NoReturn

from services.chassis import context

VARIABLE: Final = "BODEGA_FAILPOINTS"
FILE_VARIABLE: Final = "BODEGA_FAILPOINTS_FILE"
EXIT_CODE: Final = 137  # what a shell shows for kill -9
EXIT_REFUSED: Final = 2
DELAY_MAX_S: Final = 60.0

_CLAUSE = re.compile(r"([\w.]+)(?:\[(\w+)\])?=(?:(exit)|delay\((\d+(?:\.\d+)?)\))(?:@([1-9]\d*))?")


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


class _Followed:
    """The file that says what is active, read whenever it is another one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int] | None = None

    def heed(self) -> None:
        try:
            status = self._path.stat()
        except FileNotFoundError:
            seen, text = None, ""
        else:
            seen = (status.st_ino, status.st_mtime_ns)
            text = self._path.read_text() if seen != self._seen else ""
        if seen != self._seen:
            self._seen = seen
            _set(_known(text))


_Place = tuple[str, str]  # site, RPC; no RPC: whatever is being done

_sites: set[str] = set()
_active: dict[_Place, _Action] = {}
_followed: _Followed | None = None
_one_visitor = threading.Lock()  # the event loop and the writer of the database count the same visits


def site(name: str) -> str:
    """Declares a place and returns its name; the same name may be declared again."""
    _sites.add(name)
    return name


def sites() -> frozenset[str]:
    """Every place declared by the modules imported so far."""
    return frozenset(_sites)


def are_on() -> bool:
    """Whether anything may happen anywhere; for places where even to ask costs something."""
    return bool(_active) or _followed is not None


def reach(name: str) -> None:
    """The program is at this place; blocks the thread for a delay (writers, plain functions)."""
    if are_on() and (delay_s := _visit(name)):
        time.sleep(delay_s)


async def areach(name: str) -> None:
    """The same for coroutines: a delay lets the others run."""
    if are_on() and (delay_s := _visit(name)):
        await asyncio.sleep(delay_s)


def configure(text: str, *, production: bool) -> None:
    """Sets the failpoints a text asks for, instead of those set before; an empty text sets none.

    Raises FailpointsRefused for anything unclear, for unknown places, and in production.
    """
    if text.strip() and production:
        raise FailpointsRefused(f"{VARIABLE} is set, but failpoints have no business in production")
    _set(_known(text))


def follow(path: Path | None, *, production: bool) -> None:
    """Heeds a file from now on, which may not be there yet; None heeds none any more.

    Raises FailpointsRefused in production. A file that cannot be understood ends the process with code 2.
    """
    global _followed  # noqa: PLW0603 (the process has one set of failpoints)
    if path is not None and production:
        raise FailpointsRefused(f"{FILE_VARIABLE} is set, but failpoints have no business in production")
    _followed = None if path is None else _Followed(path)


def configure_from_environment(environment: Mapping[str, str] = os.environ, *, production: bool) -> None:
    """What a program calls once at start, after its imports."""
    configure(environment.get(VARIABLE, ""), production=production)
    file = environment.get(FILE_VARIABLE)
    follow(Path(file) if file else None, production=production)


def _set(wanted: dict[_Place, _Action]) -> None:
    _active.clear()
    _active.update(wanted)


def _known(text: str) -> dict[_Place, _Action]:
    wanted = _parsed(text)
    if unknown := sorted({name for name, _ in wanted} - _sites):
        raise FailpointsRefused(
            f"{VARIABLE} names {', '.join(unknown)}; this program knows {', '.join(sorted(_sites)) or 'none'}"
        )
    return wanted


def _parsed(text: str) -> dict[_Place, _Action]:
    wanted = {}
    for clause in filter(None, (part.strip() for part in text.split(";"))):
        match = _CLAUSE.fullmatch(clause)
        if match is None:
            raise FailpointsRefused(
                f"{VARIABLE}: {clause!r} is not <site>=exit or <site>=delay(<seconds>), "
                "with [<RPC>] after the site and @<visit> at the end or not"
            )
        name, method, leave, delay, visit = match.groups()
        delay_s = float(delay or 0)
        if delay_s > DELAY_MAX_S:
            raise FailpointsRefused(f"{VARIABLE}: {clause!r} waits longer than {DELAY_MAX_S:g} s")
        action = _Action("exit" if leave else "delay", delay_s, int(visit) if visit else None)
        wanted[name, method or ""] = action
    return wanted


def _visit(name: str) -> float:
    """Seconds to wait here."""
    request = context.current()
    method = request.method.name if request is not None and request.method is not None else ""
    delay_s = 0.0
    with _one_visitor:
        _heed_file()
        for place in {(name, ""), (name, method)}:
            action = _active.get(place)
            if action is None or not action.due():
                continue
            if action.kind == "exit":
                _leave(f"failpoint {name}: leaving", EXIT_CODE)
            delay_s += action.delay_s
    return delay_s


def _heed_file() -> None:
    if _followed is None:
        return
    try:
        _followed.heed()
    except FailpointsRefused as refused:
        _leave(str(refused), EXIT_REFUSED)


def _leave(last_words: str, code: int) -> NoReturn:
    print(last_words, file=sys.stderr, flush=True)  # noqa: T201 (the log is not flushed)
    os._exit(code)
