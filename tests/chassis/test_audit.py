"""Audits look without touching, and see one moment."""

import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa

from services.chassis import audit

COUNT = sa.text("SELECT count(*) FROM facts")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "odd name#%41.db"
    connection = sqlite3.connect(made)
    connection.executescript(
        "PRAGMA journal_mode = WAL; CREATE TABLE facts (fact TEXT); INSERT INTO facts VALUES ('a');"
    )
    connection.close()
    return made


def url(path: Path) -> str:
    return str(sa.URL.create("sqlite", database=str(path)))


def test_an_audit_sees_one_moment_while_others_write(path: Path) -> None:
    with audit.reading(url(path)) as reading:
        assert reading.execute(COUNT).scalar() == 1
        writer = sqlite3.connect(path, isolation_level=None)
        writer.execute("INSERT INTO facts VALUES ('b')")
        writer.close()
        assert reading.execute(COUNT).scalar() == 1
    with audit.reading(url(path)) as reading:
        assert reading.execute(COUNT).scalar() == 2


def test_an_audit_cannot_write(path: Path) -> None:
    with audit.reading(url(path)) as reading, pytest.raises(sa.exc.OperationalError):
        reading.execute(sa.text("DELETE FROM facts"))


def test_a_missing_database_is_not_an_empty_one(tmp_path: Path) -> None:
    missing = tmp_path / "missing.db"
    with pytest.raises(sa.exc.OperationalError), audit.reading(url(missing)):
        pass
    assert not missing.exists()


def test_a_finding_holds_only_without_violations() -> None:
    assert audit.judged("all.well", [], rows=3) == audit.Finding(
        "all.well", holds=True, figures={"rows": 3, "violations": 0}, examples=[]
    )
    many = [f"row {number}" for number in range(audit.EXAMPLES_MAX + 5)]
    found = audit.judged("not.well", many)
    assert not found.holds
    assert found.figures["violations"] == len(many)
    assert found.examples == many[: audit.EXAMPLES_MAX]
