"""Named places where faults may be played, off unless the environment or an operator says otherwise.

    BODEGA_FAILPOINTS="order.append.before=exit;server.call.before[ReserveStock]=error(UNAVAILABLE)%50"

What may be played is told in `fault.py`; `storage.commit.before[CapturePayment]` counts only visits while
that RPC is served (at a `client.` place: called). A module declares its places when it is imported
(`failpoints.site("order.append.before")`), so that a misspelt name is refused at start instead of silently
testing nothing. After libfail and etcd's gofail.

BODEGA_FAILPOINTS_FILE names a file to be followed instead: what it says counts from the moment it is written
(whole: rename it into place), and visits are counted anew. So one process can be prepared for many deaths.
"""

import asyncio
import os
import random
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

from services.chassis import context, fault
from services.chassis.fault import FailpointsRefused, Fault, Kind, Place

VARIABLE: Final = "BODEGA_FAILPOINTS"
FILE_VARIABLE: Final = "BODEGA_FAILPOINTS_FILE"
EXIT_CODE: Final = 137  # what a shell shows for kill -9
EXIT_REFUSED: Final = 2
HANG_MAX_S: Final = 60.0  # no call lives longer; a writer that hung for ever would never let its process end
HANG_LOOK_S: Final = 0.02  # how soon whoever hangs learns that it is over
SPARED: Final = "bodega.operator.v1.FailpointService"  # whoever clears failpoints reaches none


@dataclass(slots=True, eq=False)
class _Set:
    """A fault that is set, and how often its place was visited since."""

    fault: Fault
    visits: int = 0
    plays: int = 0
    is_over: bool = False

    def play(self) -> bool:
        self.visits += 1
        due = self.fault.is_due(self.visits, random.random())  # noqa: S311 (nobody is to guess wrongly)
        self.plays += due
        return due


@dataclass(frozen=True, slots=True)
class Standing:
    """A fault that is set, as an operator sees it."""

    place: Place
    fault: Fault
    visits: int
    plays: int


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


_sites: dict[str, bool] = {}  # whether a reply can be dropped there
_active: dict[Place, _Set] = {}
_followed: _Followed | None = None
# The event loop and the writers of the database count the same visits; who reads the file sets what it says.
_one_visitor = threading.RLock()


def site(name: str, *, has_reply: bool = False) -> str:
    """Declares a place and returns its name; the same name may be declared again.

    `has_reply`: an answer passes here and nothing but the answer, so that it can be dropped.
    """
    _sites[name] = has_reply
    return name


def sites() -> frozenset[str]:
    """Every place declared by the modules imported so far."""
    return frozenset(_sites)


def standing() -> list[Standing]:
    """What is set, by place, and what has come of it."""
    with _one_visitor:
        return [Standing(place, it.fault, it.visits, it.plays) for place, it in sorted(_active.items())]


def are_on() -> bool:
    """Whether anything may happen anywhere; for places where even to ask costs something."""
    return bool(_active) or _followed is not None


def reach(name: str) -> None:
    """The program is at this place; blocks the thread for a delay or a hang (writers, plain functions).

    Raises PlayedFault.
    """
    if are_on():
        for played in _visit(name, None):
            for wait_s in _waits(played):
                time.sleep(wait_s)
            _raise(played, name)


async def areach(name: str, rpc: str | None = None) -> None:
    """The same for coroutines: a delay lets the others run, and can be cancelled.

    `rpc` is the one meant by `[RPC]`; None is the one being served. Raises PlayedFault.
    """
    if are_on():
        for played in _visit(name, rpc):
            for wait_s in _waits(played):
                await asyncio.sleep(wait_s)
            _raise(played, name)


def configure(text: str, *, production: bool) -> None:
    """Sets the failpoints a text asks for, instead of those set before; an empty text sets none.

    Raises FailpointsRefused for anything unclear, for unknown places, and in production.
    """
    if text.strip() and production:
        raise FailpointsRefused("failpoints are set, but they have no business in production")
    wanted = _known(text)
    with _one_visitor:
        _heed_file()  # what it says by now came before
        _set(wanted)


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
    try:
        configure(environment.get(VARIABLE, ""), production=production)
    except FailpointsRefused as refused:
        raise FailpointsRefused(f"{VARIABLE}: {refused}") from None
    file = environment.get(FILE_VARIABLE)
    follow(Path(file) if file else None, production=production)


def _set(wanted: dict[Place, Fault]) -> None:
    with _one_visitor:
        for before in _active.values():
            before.is_over = True
        _active.clear()
        _active.update((place, _Set(it)) for place, it in wanted.items())


def _known(text: str) -> dict[Place, Fault]:
    wanted = fault.parse(text)
    if unknown := sorted({place.site for place in wanted} - _sites.keys()):
        raise FailpointsRefused(
            f"no place is called {', '.join(unknown)}, only {', '.join(sorted(_sites)) or 'none'}"
        )
    for place, it in wanted.items():
        if it.kind is Kind.DROP_REPLY and not _sites[place.site]:
            raise FailpointsRefused(
                f"no reply passes {place.site}, only {', '.join(sorted(filter(_sites.get, _sites)))}"
            )
    return wanted


def _visit(name: str, rpc: str | None) -> list[_Set]:
    """What is to be played at this visit."""
    request = context.current()
    served = request.method if request is not None else None
    if served is not None and served.service == SPARED:
        return []
    if rpc is None:
        rpc = served.name if served is not None else ""
    played = []
    with _one_visitor:
        _heed_file()
        for place in dict.fromkeys((Place(name), Place(name, rpc))):
            found = _active.get(place)
            if found is None or not found.play():
                continue
            if found.fault.kind is Kind.EXIT:
                _leave(f"failpoint {name}: leaving", EXIT_CODE)
            played.append(found)
    return played


def _waits(played: _Set) -> Iterator[float]:
    """Seconds to wait, one after the other; who hangs looks in between whether that is over."""
    if played.fault.kind is Kind.DELAY:
        yield played.fault.delay_s
    if played.fault.kind is Kind.HANG:
        ends = time.monotonic() + HANG_MAX_S
        while not played.is_over and time.monotonic() < ends:
            yield HANG_LOOK_S
            with _one_visitor:
                _heed_file()


def _raise(played: _Set, name: str) -> None:
    if (error := played.fault.error(name)) is not None:
        raise error


def _heed_file() -> None:
    if _followed is None:
        return
    try:
        _followed.heed()
    except FailpointsRefused as refused:
        _leave(f"{FILE_VARIABLE}: {refused}", EXIT_REFUSED)


def _leave(last_words: str, code: int) -> NoReturn:
    print(last_words, file=sys.stderr, flush=True)  # noqa: T201 (the log is not flushed)
    os._exit(code)
