"""Migrations: from nothing, twice, by two at once, and failing half way."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa

from services.chassis.events import inbox, outbox
from services.chassis.storage import event_store, idempotency, migrations
from tests.databases import Databases

ENV = """
import sqlalchemy as sa
from services.chassis.storage.migrations import run_migrations

run_migrations(sa.MetaData())
"""

HEADER = """
import sqlalchemy as sa
from alembic import op

revision = {revision!r}
down_revision = {down_revision!r}


def upgrade():
"""


@pytest.fixture
def tables() -> sa.MetaData:
    metadata = sa.MetaData()
    for part in (idempotency, outbox, inbox):
        part.define(metadata)
    event_store.define(metadata, "order_events")
    return metadata


@pytest.fixture
def url(databases: Databases) -> str:
    return databases.new("migrated")


@pytest.fixture
def scripts(databases: Databases, tmp_path: Path, tables: sa.MetaData) -> Path:
    """Migrations as a service has them, made by `draft`."""
    made = tmp_path / "with 100% odd name" / "migrations"
    (made / "versions").mkdir(parents=True)
    (made / "env.py").write_text(ENV)
    drafted = migrations.draft(databases.new("empty"), tables)
    _write(made, "0001", None, drafted)
    return made


def _write(scripts: Path, revision: str, down_revision: str | None, body: str) -> None:
    header = HEADER.format(revision=revision, down_revision=down_revision)
    (scripts / "versions" / f"{revision}_step.py").write_text(f"{header}    {body}\n")


def test_a_migrated_database_has_the_tables_of_the_code(url: str, scripts: Path, tables: sa.MetaData) -> None:
    assert migrations.differences(url, tables) != []

    migrations.migrate(url, scripts)

    assert migrations.differences(url, tables) == []


def test_migrating_again_changes_nothing(url: str, scripts: Path, tables: sa.MetaData) -> None:
    migrations.migrate(url, scripts)
    migrations.migrate(url, scripts)

    assert migrations.differences(url, tables) == []


def test_those_who_race_to_migrate_take_turns(url: str, scripts: Path, tables: sa.MetaData) -> None:
    program = "import sys; from services.chassis.storage.migrations import migrate; migrate(*sys.argv[1:])"

    def run(_: int) -> int:
        return subprocess.run(
            [sys.executable, "-W", "error", "-c", program, url, str(scripts)], check=False, timeout=60
        ).returncode

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(run, range(3))) == [0, 0, 0]
    assert migrations.differences(url, tables) == []


def test_a_migration_that_fails_leaves_the_schema_as_it_was(
    url: str, scripts: Path, tables: sa.MetaData
) -> None:
    migrations.migrate(url, scripts)
    _write(scripts, "0002", "0001", "op.drop_table('outbox')\n    raise RuntimeError('half way')")

    with pytest.raises(RuntimeError, match="half way"):
        migrations.migrate(url, scripts)

    assert migrations.differences(url, tables) == []
