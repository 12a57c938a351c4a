"""Reads the books, twice if need be: what differs only while things move is no violation."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Final

import sqlalchemy as sa

from services.chassis.audit import Check, Finding, judged
from services.cli.audit import money, once, stock, told
from services.cli.audit.books import Books, CrossCheck, Differences, Places, opened
from services.cli.data_folder import SERVICES
from services.cli.refusal import Refused

CROSS_CHECKS: Final[tuple[CrossCheck, ...]] = (*money.CHECKS, *stock.CHECKS, *once.CHECKS, *told.CHECKS)

NO_BROKER: Final = "the broker is not running"
NO_PROVIDER: Final = "the provider was never asked"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of one check."""

    name: str
    sentence: str
    finding: Finding | None
    """None: it was skipped."""

    skipped: str = ""
    """Why."""

    @property
    def is_violated(self) -> bool:
        return self.finding is not None and not self.finding.holds


@dataclass(slots=True)
class _Reading:
    own: dict[str, Finding] = field(default_factory=dict)
    cross: dict[str, Differences] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    @property
    def all_holds(self) -> bool:
        return all(found.holds for found in self.own.values()) and not any(
            found.violations for found in self.cross.values()
        )


def verify(places: Places, *, wait: Callable[[], None]) -> list[Verdict]:
    """Every check, judged by one reading or, if that found a difference, by two with `wait` in between.

    Raises Refused if the books cannot be read.
    """
    reading = _read(places)
    if not reading.all_holds:
        wait()
        reading = _still_there(reading, _read(places))
    checks: list[Check | CrossCheck] = [*_own_checks(), *CROSS_CHECKS]
    return [_verdict(check, reading) for check in checks]


def _own_checks() -> Sequence[Check]:
    return [check for name in SERVICES for check in import_module(f"services.{name}.audit").CHECKS]


def _read(places: Places) -> _Reading:
    reading = _Reading()
    # Checks across services first: they want the books as close to one moment as can be.
    with opened(places) as books:
        for check in CROSS_CHECKS:
            if why := _why_not(check, books):
                reading.skipped[check.name] = why
            else:
                reading.cross[check.name] = _cross(check, books)
        for name in SERVICES:
            for own in import_module(f"services.{name}.audit").CHECKS:
                reading.own[own.name] = _own(own, books.databases[name])
    return reading


# What a check cannot make sense of is wrong, and no reason to keep quiet about everything else.


def _cross(check: CrossCheck, books: Books) -> Differences:
    try:
        return check.find(books)
    except Refused:
        raise
    except Exception as error:  # noqa: BLE001
        return Differences(violations={"senseless": _senseless(error)})


def _own(check: Check, connection: sa.Connection) -> Finding:
    try:
        return check.find(connection)
    except Exception as error:  # noqa: BLE001
        return judged(check.name, [_senseless(error)])


def _senseless(error: Exception) -> str:
    return f"the books make no sense: {type(error).__name__}: {error}"


def _why_not(check: CrossCheck, books: Books) -> str:
    if check.needs_streams and books.read_streams is None:
        return NO_BROKER
    if check.needs_provider and books.provider is None:
        return NO_PROVIDER
    return ""


def _still_there(first: _Reading, second: _Reading) -> _Reading:
    """The second reading, without the differences that the first did not have."""
    for name, found in second.cross.items():
        before = first.cross[name].violations if name in first.cross else {}
        found.violations = {key: text for key, text in found.violations.items() if key in before}
    return second


def _verdict(check: Check | CrossCheck, reading: _Reading) -> Verdict:
    if why := reading.skipped.get(check.name):
        return Verdict(check.name, check.sentence, None, why)
    if isinstance(check, CrossCheck):
        return Verdict(check.name, check.sentence, reading.cross[check.name].finding(check.name))
    return Verdict(check.name, check.sentence, reading.own[check.name])
