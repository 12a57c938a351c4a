"""Feature flags: what operators may change while everything runs, in a file that is heeded as it is written.

    CAPTURE = Flag("order.capture", {"confirm": Capture.CONFIRM, …}, Capture.CONFIRM, "When money is taken.")

    capture = flags.value(CAPTURE, user_id, order_id=order_id)   # 30 µs: for an order, not for every call
    flags.follow(SHEDDING, limiter.enforce)                      # is told now, and of every change

The file is flagd's (https://flagd.dev/reference/flag-definitions), asked through OpenFeature: a flag may be
another for some users, or for every tenth. While no file says otherwise the defaults hold, and none of that
is loaded.
A file that cannot be used changes nothing: what was read last holds, the log says why, and so does health.
"""

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from services.chassis import telemetry

if TYPE_CHECKING:
    from services.chassis.flag_evaluation import Evaluation

_log = telemetry.logger("flags")

LOOK_EVERY_S: Final = 1.0  # soon enough for a person who waits for it; a look is one stat()
FILE_BYTES_MAX: Final = 1 << 20  # it is read beside the calls; a thousand users are a twentieth of it

SCHEMA: Final = "https://flagd.dev/schema/v0/flags.json"  # for editors

T = TypeVar("T", bound=str | bool)


@dataclass(frozen=True, slots=True)
class Flag(Generic[T]):
    """One thing that may be changed while everything runs. Declared once, where it is used."""

    name: str
    """`<service>.<what>`, or `chassis.<what>` for what every service has."""

    variants: Mapping[str, T]
    """All that it may be, by the names that the file has for it."""

    default: T
    """What holds where the file says nothing."""

    sentence: str
    """For those who edit the file."""

    def read(self, value: object) -> T | None:
        """One of the variants' values; None for anything else."""
        for known in self.variants.values():
            if known == value and _is_bool(known) == _is_bool(value):
                return known
        return None


SHEDDING: Final = Flag(
    "chassis.shedding",
    {"on": True, "off": False},
    True,
    "Whether a server refuses what it cannot do in good time (OVERLOADED).",
)


class Unusable(Exception):
    """The flags file says nothing we could act on; the message says why."""


class FlagsFileUnusable(Exception):
    """What health shows while the file is like that."""


class Flags:
    """The flags of one program. Belongs to its event loop."""

    def __init__(
        self, declared: Iterable[Flag[Any]] = (), *, service: str = "", file: Path | None = None
    ) -> None:
        """Reads the file, if one is given."""
        self._declared = {flag.name: flag for flag in declared}
        self._service = service
        self._file = file
        self._seen: tuple[int, int, int] | None = None
        self.problem = ""
        """Why the file cannot be used; empty while it can."""

        self._evaluation: Evaluation | None = None
        self._followers: list[Callable[[], None]] = []
        self._told: set[str] = set()
        self.look()

    @property
    def has_file(self) -> bool:
        return self._file is not None

    def value(self, flag: Flag[T], targeting_key: str = "", **attributes: str) -> T:
        """What the flag is for whoever the key names, the same until the file changes. No key: the service.

        The file's rules may also ask for `service` and these attributes: ids, never anything personal.
        """
        assert self._declared.get(flag.name) is flag, f"{flag.name} was not declared to this program"
        if self._evaluation is None:
            return flag.default
        attributes = {"service": self._service, **attributes}
        value, problem = self._evaluation.of(flag, targeting_key or self._service, attributes)
        if problem and flag.name not in self._told:
            self._told.add(flag.name)  # once for each file: it may be so for every order
            _log.warning("a flag's rule leads nowhere: its default holds", flag=flag.name, problem=problem)
        return value

    def follow(self, flag: Flag[T], apply: Callable[[T], None]) -> None:
        """Has `apply` told the flag's value now, and again whenever that is another one."""
        applied: list[T] = []

        def tell() -> None:
            value = self.value(flag)
            if applied != [value]:
                applied[:] = [value]
                apply(value)

        self._followers.append(tell)
        tell()

    async def ready(self) -> None:
        """For health. Raises FlagsFileUnusable."""
        if self.problem:
            raise FlagsFileUnusable(self.problem)

    async def run(self) -> None:
        """Heeds the file until cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            self.look()

    def look(self) -> None:
        """Reads the file if it is another one than at the last look."""
        if self._file is None:
            return
        try:
            status = self._file.stat()
            seen = (status.st_ino, status.st_mtime_ns, status.st_size)  # an older one put back is another one
            if seen != self._seen:
                self._seen = seen
                self._use(_text(self._file, status.st_size))
        except (OSError, UnicodeDecodeError) as error:
            self._seen = None
            self._refuse(type(error).__name__)
        except Unusable as unusable:
            self._refuse(str(unusable))

    def _use(self, text: str) -> None:
        content = _content(text)
        says_defaults = all(content.get(name, {}) in ({}, _said(f)) for name, f in self._declared.items())
        if self._evaluation is not None or not says_defaults:
            self._evaluate_by(text, content)
        self.problem = ""
        self._told.clear()
        values = {name: str(self.value(flag)) for name, flag in self._declared.items()}
        _log.info("flags read", file=str(self._file), values=values, unknown=self._unknown(content))
        for tell in self._followers:
            tell()

    def _evaluate_by(self, text: str, content: Mapping[str, Any]) -> None:
        # 2 MB, which a shop whose file is as it was written for it does without
        from services.chassis.flag_evaluation import Evaluation  # noqa: PLC0415

        for flag in self._declared.values():
            _check(flag, content.get(flag.name, {}))
        evaluation = self._evaluation or Evaluation()
        evaluation.replace(text, self._declared.values())
        self._evaluation = evaluation

    def _refuse(self, problem: str) -> None:
        if problem != self.problem:
            _log.warning("flags file cannot be used: what held before holds", problem=problem)
        self.problem = problem

    def _unknown(self, content: Mapping[str, Any]) -> list[str]:
        """Flags that look like ours and are not: of a newer release, or misspelt."""
        ours = ("chassis.", f"{self._service}.")
        return [name for name in content if name.startswith(ours) and name not in self._declared]


def file_of(flags: Iterable[Flag[Any]]) -> str:
    """A file that says of each flag what holds without one."""
    content = {flag.name: _said(flag) for flag in flags}
    return json.dumps({"$schema": SCHEMA, "flags": content}, indent=2) + "\n"


def _said(flag: Flag[Any]) -> Mapping[str, Any]:
    """What a file says of a flag that is as it is without one."""
    return {
        "metadata": {"about": flag.sentence},
        "state": "ENABLED",
        "variants": dict(flag.variants),
        "defaultVariant": next(name for name, value in flag.variants.items() if value == flag.default),
    }


def _text(file: Path, size: int) -> str:
    if size > FILE_BYTES_MAX:
        raise Unusable(f"it has {size} bytes, more than {FILE_BYTES_MAX}")
    return file.read_text(encoding="utf-8")


def _content(text: str) -> Mapping[str, Any]:
    """The flags that a file has, by name. Raises Unusable."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Unusable(f"it is not JSON: {error}") from None
    flags = content.get("flags") if isinstance(content, dict) else None
    if not isinstance(flags, dict) or not all(isinstance(flag, dict) for flag in flags.values()):
        raise Unusable("it has no flags")
    return flags


def _check(flag: Flag[Any], content: Mapping[str, Any]) -> None:
    """Raises Unusable for a variant that nobody here would understand."""
    variants = content.get("variants", {})
    for name, value in variants.items() if isinstance(variants, dict) else ():
        if flag.read(value) is None:
            raise Unusable(f"{flag.name} cannot be what its variant {name} says")


def _is_bool(value: object) -> bool:
    return isinstance(value, bool)  # which is an int to Python, and 1 == True
