"""A migrated inventory on a real SQLite file, with time and ids that obey."""

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from services.chassis import audit as chassis_audit
from services.chassis.feed import Feed
from services.chassis.storage.database import Store
from services.chassis.storage.migrations import migrate
from services.chassis.testing import FakeClock, SequentialIds
from services.inventory import audit
from services.inventory.store import Transaction

MIGRATIONS = Path(__file__).parents[2] / "services" / "inventory" / "migrations"


@pytest.fixture
def url(tmp_path: Path) -> str:
    made = f"sqlite:///{tmp_path / 'inventory.db'}"
    migrate(made, MIGRATIONS)
    return made


@pytest.fixture
def clock() -> FakeClock:
    """Stands at the real time, for audits look at what is young."""
    return FakeClock(datetime.now(UTC))


@pytest.fixture
def ids() -> SequentialIds:
    return SequentialIds()


@pytest.fixture
def feed() -> Feed:
    return Feed()


@pytest.fixture
async def store(
    url: str, clock: FakeClock, ids: SequentialIds, feed: Feed
) -> AsyncIterator[Store[Transaction]]:
    made = Store(
        url,
        open_transaction=lambda session: Transaction(session, ids, feed),
        clock=clock,
        secret=b"for tests",
    )
    async with made:
        yield made


@pytest.fixture
def check_invariants(url: str) -> Callable[[], dict[str, dict[str, int]]]:
    """Runs every audit of inventory, and gives back the figures."""

    def check() -> dict[str, dict[str, int]]:
        with chassis_audit.reading(url) as connection:
            findings = [check.find(connection) for check in audit.CHECKS]
        assert [finding for finding in findings if not finding.holds] == []
        return {finding.name: finding.figures for finding in findings}

    return check
