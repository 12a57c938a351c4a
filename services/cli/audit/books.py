"""Everything there is to read of a shop: its databases, and the streams if the broker runs."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

import sqlalchemy as sa

from services.chassis import audit
from services.chassis.audit import EXAMPLES_MAX, Finding
from services.chassis.tls import TlsFiles
from services.cli.audit import streams
from services.cli.audit.streams import Told
from services.cli.data_folder import sqlite_url, without_password
from services.cli.refusal import Refused


@dataclass(frozen=True, slots=True)
class Places:
    """Where the books of a shop are."""

    databases: Mapping[str, str]
    """By service: paths or addresses."""

    provider_database: str
    nats: str = ""
    """Empty: the broker is not running."""

    tls: TlsFiles | None = None
    """With which the broker lets us in."""


@dataclass(frozen=True)
class Books:
    """Open books. Each is seen as it is when it is first asked, and from then on as of that moment.

    So whoever asks for causes first and for their effects afterwards finds no effect missing but those that
    are under way.
    """

    databases: Mapping[str, sa.Connection]
    provider: sa.Connection | None
    """None before the provider was first asked to do anything."""

    read_streams: Callable[[], Told] | None
    """None while the broker is not running."""

    @cached_property
    def told(self) -> Told:
        """What the streams have."""
        assert self.read_streams is not None
        return self.read_streams()

    @property
    def order(self) -> sa.Connection:
        return self.databases["order"]

    @property
    def inventory(self) -> sa.Connection:
        return self.databases["inventory"]

    @property
    def payment(self) -> sa.Connection:
        return self.databases["payment"]

    @property
    def notification(self) -> sa.Connection:
        return self.databases["notification"]


@dataclass(slots=True)
class Differences:
    """What a check across services found: figures, and whatever is not as it should be."""

    figures: dict[str, int] = field(default_factory=dict)
    violations: dict[str, str] = field(default_factory=dict)
    """By a key that names what is wrong, the same at every reading; the text is for people."""

    def add(self, key: str, text: str) -> None:
        self.violations[key] = text

    def count(self, figure: str, number: int = 1) -> None:
        self.figures[figure] = self.figures.get(figure, 0) + number

    def finding(self, name: str) -> Finding:
        return Finding(
            name=name,
            holds=not self.violations,
            figures={**self.figures, "violations": len(self.violations)},
            examples=list(self.violations.values())[:EXAMPLES_MAX],
        )


@dataclass(frozen=True, slots=True)
class CrossCheck:
    """One thing that must hold across services."""

    name: str
    sentence: str
    find: Callable[[Books], Differences]
    needs_streams: bool = False
    needs_provider: bool = False


@contextmanager
def opened(places: Places) -> Iterator[Books]:
    """The books, for reading only. Raises Refused if a database is not there or cannot be read."""
    with ExitStack() as stack:
        databases = {name: _open(stack, name, where) for name, where in places.databases.items()}
        provider = None
        if "://" in places.provider_database or Path(places.provider_database).exists():
            provider = _open(stack, "sandbox provider", places.provider_database)
        yield Books(
            databases, provider, partial(streams.read, places.nats, places.tls) if places.nats else None
        )


def _open(stack: ExitStack, name: str, where: str) -> sa.Connection:
    try:
        return stack.enter_context(audit.reading(sqlite_url(where)))
    except sa.exc.DBAPIError as error:
        raise Refused(
            f"the database of {name}, {without_password(where)}, cannot be read: {error.orig}"
        ) from None
