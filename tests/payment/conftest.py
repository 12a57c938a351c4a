"""A migrated payment service on real SQLite files, its sandbox beside it, time and ids that obey."""

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime

import pytest

from services.chassis import audit as chassis_audit
from services.chassis.storage.migrations import migrate
from services.chassis.testing import FakeClock
from services.payment import audit
from tests.databases import Databases
from tests.payment.house import MIGRATIONS, House
from tests.payment.lives import Lives


@pytest.fixture
def clock() -> FakeClock:
    """Stands at the real time, for audits look at what is old."""
    return FakeClock(datetime.now(UTC))


@pytest.fixture
def url(databases: Databases) -> str:
    made = databases.new("payment")
    migrate(made, MIGRATIONS)
    return made


@pytest.fixture
def provider_url(databases: Databases) -> str:
    return databases.new("sandbox")


@pytest.fixture
async def house(url: str, provider_url: str, clock: FakeClock) -> AsyncIterator[House]:
    async with House(url, provider_url, clock) as opened:
        yield opened


@pytest.fixture
def lives(url: str, provider_url: str, clock: FakeClock) -> Lives:
    return Lives(url, provider_url, clock)


@pytest.fixture
def check_books(url: str, provider_url: str) -> Callable[[], dict[str, dict[str, int]]]:
    """Runs every audit of payment, the provider's books included, and gives back the figures."""

    def check() -> dict[str, dict[str, int]]:
        with (
            chassis_audit.reading(url) as connection,
            chassis_audit.reading(provider_url) as provider,
        ):
            findings = [check.find(connection) for check in audit.CHECKS]
            findings.append(audit.books_agree(connection, provider))
        assert [finding for finding in findings if not finding.holds] == []
        return {finding.name: finding.figures for finding in findings}

    return check
