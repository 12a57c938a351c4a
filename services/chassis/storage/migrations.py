"""Schemas by Alembic, without alembic.ini: a service has `migrations/env.py` and `migrations/versions/`.

A service's env.py is three lines::

    from services.chassis.storage.migrations import run_migrations
    from services.order.tables import metadata

    run_migrations(metadata)
"""

from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command, context
from alembic.autogenerate import compare_metadata, produce_migrations, render_python_code
from alembic.config import Config
from alembic.runtime.migration import MigrationContext

from services.chassis.storage import sqlite


def migrate(url: str, script_location: str | Path) -> None:
    """Brings the database to the newest schema; does nothing if it is there already.

    Creates the file if need be, though not its folder. Processes that race for it take turns. All or
    nothing: a migration that fails leaves the schema as it was.
    """
    config = Config()
    config.set_main_option("script_location", str(script_location).replace("%", "%%"))
    engine = engine_for_migrations(url)
    try:
        # The write lock is taken before the version is read: whoever comes second finds all done.
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    finally:
        engine.dispose()


def run_migrations(metadata: sa.MetaData) -> None:
    """What a service's env.py calls, on the connection that `migrate` has opened."""
    context.configure(
        connection=context.config.attributes["connection"],
        target_metadata=metadata,
        transactional_ddl=True,  # SQLite can, once the driver is kept from committing by itself
        render_as_batch=True,  # SQLite changes columns by copying the table
    )
    with context.begin_transaction():
        context.run_migrations()


def engine_for_migrations(url: str) -> sa.Engine:
    """A synchronous engine whose transactions take turns, whoever begins them."""
    if sa.make_url(url).get_backend_name() == "postgresql":
        from services.chassis.storage import postgresql  # noqa: PLC0415 (its driver, only where it is used)

        return postgresql.engine_for_migrations(url)
    return sqlite.engine_for_migrations(url)


def differences(url: str, metadata: sa.MetaData) -> list[Any]:
    """What still separates a migrated database from its tables; empty when all is well. For tests."""
    engine = engine_for_migrations(url)
    try:
        with engine.connect() as connection:
            return list(compare_metadata(MigrationContext.configure(connection), metadata))
    finally:
        engine.dispose()


def draft(url: str, metadata: sa.MetaData) -> str:
    """The Python of an `upgrade()` that would bring the database to its tables; to be read, then kept."""
    engine = engine_for_migrations(url)
    try:
        with engine.connect() as connection:
            operations = produce_migrations(MigrationContext.configure(connection), metadata).upgrade_ops
            return render_python_code(operations) if operations else ""
    finally:
        engine.dispose()
