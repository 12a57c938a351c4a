"""What must hold, as questions to a live database; `bodega verify` asks them all.

Each service's `audit.py` offers `CHECKS: tuple[Check, ...]`. A check only reads, through a connection that
cannot write, and answers with figures, so that "all holds" can be told apart from "nothing was looked at".
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import quote

import sqlalchemy as sa

EXAMPLES_MAX = 10  # enough to start looking; the count of all stands in the figures


@dataclass(frozen=True, slots=True)
class Finding:
    """The answer to one check."""

    name: str
    holds: bool
    figures: dict[str, int] = field(default_factory=dict)
    """What was counted, by name, e.g. `{"rows": 12, "violations": 0}`."""

    examples: list[str] = field(default_factory=list)
    """Up to EXAMPLES_MAX violations, one line each; empty if it holds."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must hold."""

    name: str
    """Short and stable: `stock.equation`. What scripts and dashboards go by."""

    sentence: str
    """The invariant itself, for people."""

    find: Callable[[sa.Connection], Finding]
    """Asks the database. Reads only; may be called again on the same connection."""


def judged(name: str, violations: Sequence[str], **figures: int) -> Finding:
    """The finding that holds if, and only if, there is no violation; their number joins the figures."""
    return Finding(
        name=name,
        holds=not violations,
        figures={**figures, "violations": len(violations)},
        examples=list(violations[:EXAMPLES_MAX]),
    )


@contextmanager
def reading(url: str) -> Iterator[sa.Connection]:
    """A connection to the database at `url` that cannot write, all of whose reads see one moment.

    Takes `sqlite:///path` and whatever else SQLAlchemy can open. Safe beside a service that is running.
    """
    engine = _engine(url)
    try:
        with engine.connect() as connection:
            if engine.dialect.name == "sqlite":
                connection.exec_driver_sql("PRAGMA query_only = ON")
                # The driver opens no transaction for a SELECT by itself: two checks could see two moments.
                connection.exec_driver_sql("BEGIN")
                yield connection
            else:
                with connection.execution_options(isolation_level="REPEATABLE READ").begin():
                    yield connection
    finally:
        engine.dispose()


def _engine(url: str) -> sa.Engine:
    if sa.make_url(url).get_backend_name() == "postgresql":
        from services.chassis.storage import postgresql  # noqa: PLC0415 (its driver, only where it is used)

        return postgresql.reading_engine(url)
    return sa.create_engine(_read_only(url), poolclass=sa.NullPool, hide_parameters=True)


def _read_only(url: str) -> sa.URL:
    """SQLite's own read-only mode: a missing file is an error, not a new empty database."""
    made = sa.make_url(url)
    if made.get_backend_name() != "sqlite" or not made.database or made.database == ":memory:":
        return made
    return made.set(database=f"file:{quote(made.database)}").update_query_dict({"mode": "ro", "uri": "true"})
