"""Refused calls on their way to the audit trail: counted at once, written later and together.

Whoever is refused may come again, a thousand times a second. So what is alike becomes one row every ten
seconds, rows are rationed, and what is beyond the ration is a number in a single row. Nobody waits for any
of it, and a database that does not take it costs the trail a few rows and the callers nothing.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from operator import attrgetter
from typing import Final, NamedTuple

from services.chassis.context import RequestContext
from services.chassis.storage import audit_trail
from services.chassis.storage.audit_trail import Kind
from services.chassis.storage.retention import Transactor
from services.kernel.clock import Clock, to_micros

EVERY_S: Final = 10.0  # what a crash may lose
KINDS_MAX: Final = 1000  # told apart within that time; memory is for others
ROWS_AT_ONCE: Final = 200  # an unlucky deployment, or somebody's evening with a scanner, in full
ROWS_A_MINUTE: Final = 6.0  # under attack: with the rows for the rest 2 GB in all the time that rows are kept

MORE: Final = "MORE"
"""The outcome in the row that stands for all refusals beyond the ration."""


class _Denied(NamedTuple):
    """Refusals that are alike."""

    actor: str
    on_behalf_of: str
    roles: str
    address: str
    method: str
    outcome: str


_REST: Final = _Denied("", "", "", "", "", MORE)


@dataclass(slots=True)
class _Tally:
    """How many of them there were, and when and where the first."""

    create_time: int
    trace_id: str
    times: int = 0


class Denials:
    """Takes note of refused calls, and writes them down for as long as `run` runs."""

    def __init__(
        self,
        store: Transactor,
        *,
        clock: Clock,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._store = store
        self._clock = clock
        self._sleep = sleep
        self._tallies: dict[_Denied, _Tally] = {}
        self._ration = float(ROWS_AT_ONCE)
        self._rationed_at = clock.monotonic()
        self.lost = 0
        """Refusals that could not be written."""

    def note(self, request: RequestContext, address: str, reason: str) -> None:
        """That this request was refused. In the event loop; returns at once and never raises."""
        caller = request.caller
        denied = _Denied(
            caller.name,
            caller.on_behalf_of,
            audit_trail.roles(request),
            address,
            request.method.path if request.method else "",
            reason,
        )
        tally = self._tallies.get(denied)
        if tally is None:
            if len(self._tallies) >= KINDS_MAX:
                denied = _REST
            tally = self._tallies.setdefault(denied, self._tally(request))
        tally.times += 1

    async def run(self) -> None:
        """Writes every ten seconds, and a last time when cancelled; errors are its owner's to log."""
        try:
            while True:
                await self._sleep(EVERY_S)
                await self.flush()
        finally:
            await self.flush()

    async def flush(self) -> None:
        """Writes what was noted since the last time. Raises what the store raises, and then it is lost."""
        if not self._tallies:
            return
        tallies, self._tallies = self._tallies, {}
        noted = sum(tally.times for tally in tallies.values())
        rows = [_row(denied, tally) for denied, tally in self._rationed(tallies)]
        try:
            await self._store.transact(lambda session: session.many(audit_trail.ADD, rows))
        except BaseException:
            self.lost += noted
            raise

    def _tally(self, request: RequestContext) -> _Tally:
        return _Tally(to_micros(self._clock.now()), request.trace.trace_id)

    def _rationed(self, tallies: dict[_Denied, _Tally]) -> Iterable[tuple[_Denied, _Tally]]:
        """As many as there may be rows, those first whose caller is known; the others in one."""
        rest = tallies.pop(_REST, None)
        ordered = sorted(tallies.items(), key=lambda one: not one[0].actor)
        allowed = self._take(len(ordered))
        beyond = [tally for _, tally in ordered[allowed:]] + ([rest] if rest else [])
        if not beyond:
            return ordered
        first = min(beyond, key=attrgetter("create_time"))
        first.times = sum(tally.times for tally in beyond)
        return [*ordered[:allowed], (_REST, first)]

    def _take(self, wanted: int) -> int:
        """How many rows there may be now (a token bucket)."""
        now = self._clock.monotonic()
        earned = (now - self._rationed_at) * ROWS_A_MINUTE / 60
        self._ration = min(float(ROWS_AT_ONCE), self._ration + earned)
        self._rationed_at = now
        allowed = min(wanted, int(self._ration))
        self._ration -= allowed
        return allowed


def _row(denied: _Denied, tally: _Tally) -> dict[str, object]:
    return {
        "kind": Kind.DENIED.value,
        "create_time": tally.create_time,
        "times": tally.times,
        # Nothing of the request: it was refused before anybody looked at what it says.
        "subject": "{}",
        "request_id": "",
        "trace_id": tally.trace_id,
        **denied._asdict(),
    }
