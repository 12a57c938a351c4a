"""What a failpoint plays, and how that is written: `site[RPC]=kind` and perhaps when.

exit             the process is gone, like after kill -9
delay(0.5)       seconds pass
hang             time passes, until whoever waits is cancelled or the failpoint is no longer set
error(CODE)      the weather is bad: UNAVAILABLE, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, ABORTED, or INTERNAL,
                 which is a bug. No refusals: those say something about the shop, which would be a lie
drop-reply       all is done and the answer is lost on its way

@3   at the third visit only      *3   at the first three      %5   at five of a hundred, by chance
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, Final, NamedTuple

import grpc

from services.chassis import status
from services.kernel import errors

DELAY_MAX_S: Final = 60.0  # no call lives longer, so what waits longer hangs


class Kind(StrEnum):
    EXIT = "exit"
    DELAY = "delay"
    HANG = "hang"
    ERROR = "error"
    DROP_REPLY = "drop-reply"


class FailpointsRefused(Exception):
    """The failpoints asked for cannot be set; the message says which and why."""


class PlayedFault(Exception):
    """What code sees of an `error` or a `drop-reply`; most are also the domain errors of their code."""

    code: ClassVar[grpc.StatusCode] = grpc.StatusCode.UNAVAILABLE


class FailpointUnavailable(PlayedFault, errors.Unavailable):
    """Failpoint {site} plays a part that is not there."""


class FailpointTooLate(PlayedFault, status.TooLate):
    """Failpoint {site} plays an answer that came too late."""

    code = grpc.StatusCode.DEADLINE_EXCEEDED


class FailpointTooMuch(PlayedFault, errors.TooMuch):
    """Failpoint {site} plays a limit that was reached."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED


class FailpointStale(PlayedFault, errors.Stale):
    """Failpoint {site} plays a race that was lost."""

    code = grpc.StatusCode.ABORTED


class FailpointBug(PlayedFault):
    """A bug, which callers are told nothing of."""

    code = grpc.StatusCode.INTERNAL


class ReplyDropped(PlayedFault):
    """The answer is lost; callers see what they see of a connection that broke."""


_ERRORS: Final[Mapping[str, type[PlayedFault]]] = {
    kind.code.name: kind
    for kind in (FailpointUnavailable, FailpointTooLate, FailpointTooMuch, FailpointStale, FailpointBug)
}

_CLAUSE = re.compile(
    r"(?P<site>[\w.]+)(?:\[(?P<rpc>\w+)\])?="
    r"(?:(?P<plain>exit|hang|drop-reply)|delay\((?P<delay>\d+(?:\.\d+)?)\)|error\((?P<code>[A-Z_]+)\))"
    r"(?:@(?P<at>[1-9]\d*)|\*(?P<first>[1-9]\d*)|%(?P<percent>[1-9]\d?|100))?"
)


class Place(NamedTuple):
    """Where something is played: at a site, and while which RPC is served or called; none is any."""

    site: str
    rpc: str = ""

    def __str__(self) -> str:
        return f"{self.site}[{self.rpc}]" if self.rpc else self.site


@dataclass(frozen=True, slots=True)
class Fault:
    """What is played at a place, and at which visits."""

    kind: Kind
    delay_s: float = 0.0
    code: str = ""
    at_visit: int | None = None
    first_visits: int | None = None
    percent: int | None = None

    def is_due(self, visit: int, chance: float) -> bool:
        """Whether this visit, counted from 1, is one of those; `chance` is from 0 to below 1."""
        if self.at_visit is not None:
            return visit == self.at_visit
        if self.first_visits is not None:
            return visit <= self.first_visits
        return self.percent is None or chance * 100 < self.percent

    def error(self, site: str) -> PlayedFault | None:
        """What is to be raised, if anything."""
        if self.kind is Kind.DROP_REPLY:
            return ReplyDropped(site)
        if self.kind is not Kind.ERROR:
            return None
        kind = _ERRORS[self.code]
        return kind(site=site) if issubclass(kind, errors.DomainError) else kind(site)

    def __str__(self) -> str:
        what = {Kind.DELAY: f"delay({self.delay_s:g})", Kind.ERROR: f"error({self.code})"}
        when = (("@", self.at_visit), ("*", self.first_visits), ("%", self.percent))
        return what.get(self.kind, str(self.kind)) + "".join(
            f"{sign}{number}" for sign, number in when if number is not None
        )


def parse(text: str) -> dict[Place, Fault]:
    """What clauses separated by `;` ask for. Raises FailpointsRefused for whatever is unclear."""
    return dict(_clause(clause) for part in text.split(";") if (clause := part.strip()))


def _clause(clause: str) -> tuple[Place, Fault]:
    match = _CLAUSE.fullmatch(clause)
    if match is None:
        raise FailpointsRefused(
            f"{clause!r} is not <site>=exit, =hang, =drop-reply, =delay(<seconds>) or =error(<code>), "
            "with [<RPC>] after the site and @<visit>, *<visits> or %<percent> at the end or not"
        )
    delay_s, code = float(match["delay"] or 0), match["code"] or ""
    if delay_s > DELAY_MAX_S:
        raise FailpointsRefused(f"{clause!r} waits longer than {DELAY_MAX_S:g} s")
    if code and code not in _ERRORS:
        raise FailpointsRefused(f"{clause!r}: the weather knows {', '.join(_ERRORS)} only")
    kind = Kind(match["plain"]) if match["plain"] else Kind.ERROR if code else Kind.DELAY
    return Place(match["site"], match["rpc"] or ""), Fault(
        kind, delay_s, code, _number(match["at"]), _number(match["first"]), _number(match["percent"])
    )


def _number(digits: str | None) -> int | None:
    return int(digits) if digits else None
