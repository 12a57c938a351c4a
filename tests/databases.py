"""What the stores are tested on: SQLite files, or a PostgreSQL server under `make test-postgres`."""

import os
import sqlite3
import uuid
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest
import sqlalchemy as sa

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

    def drop(self) -> None:
        for name in self._made:
            _administer(f'DROP DATABASE "{name}" WITH (FORCE)')


def damage(url: str, *script: str) -> None:
    """Runs SQL past foreign keys and triggers, as somebody with the database's password could."""
    if sa.make_url(url).get_backend_name() == "sqlite":
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as vandal:
            vandal.executescript(";".join(script))
        return
    with psycopg.connect(url, autocommit=True) as vandal:
        vandal.execute("SET session_replication_role = replica")
        vandal.execute(_as_postgresql_says(";".join(script)))


def connected(url: str) -> Any:
    """A driver's connection beside the store's; each statement commits by itself."""
    if sa.make_url(url).get_backend_name() == "sqlite":
        return sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
    return psycopg.connect(url, autocommit=True)


def _as_postgresql_says(sql: str) -> Any:
    return sql.replace("x'00'", "'\\x00'::bytea")


def _administer(sql: str) -> None:
    with psycopg.connect(SERVER, autocommit=True) as server:
        server.execute(sql)
