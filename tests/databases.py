"""What the stores are tested on: SQLite files, or a PostgreSQL server under `make test-postgres`."""

import os
import shutil
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest
import sqlalchemy as sa
from psycopg import sql

VARIABLE: Final = "BODEGA_TEST_POSTGRES"
"""The URL of a server's administrator, whose databases come and go."""

SERVER: Final = os.environ.get(VARIABLE, "")

only_sqlite: Final = pytest.mark.skipif(bool(SERVER), reason="of SQLite alone")
only_postgresql: Final = pytest.mark.skipif(not SERVER, reason="make test-postgres")

VIOLATIONS: Final = (sqlite3.IntegrityError, psycopg.IntegrityError)
"""What the drivers say when a constraint does."""


class Databases:
    """Empty databases for one test."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: list[str] = []

    def new(self, name: str) -> str:
        """The URL of one that nobody else uses."""
        if not SERVER:
            return f"sqlite:///{self._folder / name}.db"
        made = f"{name}_{uuid.uuid4().hex}"
        _administer(f'CREATE DATABASE "{made}"')
        self._made.append(made)
        return SERVER.rpartition("/")[0] + f"/{made}"

    @contextmanager
    def copy(self, url: str) -> Iterator[str]:
        """A copy for a while: who plays many histories would else spend most of the time on migrations.

        Nobody may have the original open.
        """
        name = f"copy_{uuid.uuid4().hex}"
        if not SERVER:
            path = shutil.copy(url.removeprefix("sqlite:///"), self._folder / f"{name}.db")
            try:
                yield f"sqlite:///{path}"
            finally:
                for file in self._folder.glob(f"{name}.db*"):
                    file.unlink()
            return
        _administer(f'CREATE DATABASE "{name}" TEMPLATE "{url.rpartition("/")[2]}"')
        try:
            yield url.rpartition("/")[0] + f"/{name}"
        finally:
            _administer(f'DROP DATABASE "{name}" WITH (FORCE)')

    def drop(self) -> None:
        for name in self._made:
            _administer(f'DROP DATABASE "{name}" WITH (FORCE)')


def drawn(examples: int) -> int:
    """How many histories to play, each in a database of its own: a server takes a second to make one."""
    return examples // 4 if SERVER else examples


def damage(url: str, *script: str) -> None:
    """Runs SQL past foreign keys and triggers, as somebody with the database's password could."""
    if sa.make_url(url).get_backend_name() == "sqlite":
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as vandal:
            triggers = vandal.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall()
            vandal.executescript(";".join((*(f"DROP TRIGGER {name}" for (name,) in triggers), *script)))
        return
    with psycopg.connect(url, autocommit=True) as vandal:
        vandal.execute("SET session_replication_role = replica")
        vandal.execute(_as_postgresql_says(";".join(script)))


def connected(url: str) -> Any:
    """A driver's connection beside the store's; each statement commits by itself."""
    if sa.make_url(url).get_backend_name() == "sqlite":
        return sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
    return psycopg.connect(url, autocommit=True)


def kept(url: str) -> bytes:
    """All that a database keeps, to look for what it must not: SQLite's files, or each table's values."""
    if sa.make_url(url).get_backend_name() == "sqlite":
        path = Path(url.removeprefix("sqlite:///"))
        return b"".join(file.read_bytes() for file in path.parent.glob(f"{path.name}*"))
    with psycopg.connect(url) as reader:
        tables = reader.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        values = [
            value
            for (table,) in tables
            for row in reader.execute(sql.SQL("SELECT * FROM {}").format(sql.Identifier(table)))
            for value in row
        ]
    return b"\n".join(value if isinstance(value, bytes) else str(value).encode() for value in values)


def _as_postgresql_says(script: str) -> Any:
    return script.replace("x'00'", "'\\x00'::bytea")


def _administer(command: str) -> None:
    with psycopg.connect(SERVER, autocommit=True) as server:
        server.execute(command)
