"""An order service's parts on a real database, with participants that do as they are told."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from services.chassis.feed import Feed
from services.chassis.storage.database import Store
from services.chassis.storage.migrations import migrate
from services.chassis.testing import FakeClock
from services.kernel.clock import SystemClock
from services.kernel.ids import TimeOrderedIds, derived
from services.kernel.money import Money
from services.order import __path__ as order_path
from services.order import domain, facts
from services.order.facts import Capture, Step
from services.order.participants import Answer, Done, request_id
from services.order.store import Transaction
from tests.databases import Databases

Script = dict[Step, list[Answer]]
LINE = facts.Line("0190aaaa-0000-7000-8000-000000000001", "SKU", "Coffee", 2, Money(450, "USD"))
USER = "0190bbbb-0000-7000-8000-000000000001"
METHOD = "0190cccc-0000-7000-8000-000000000001"


@dataclass
class ScriptedParticipants:
    """Answers each step as scripted, then with done; keeps what it was asked."""

    script: Script = field(default_factory=dict)
    asked: list[tuple[Step, str]] = field(default_factory=list)
    before: Callable[[Step], None] = lambda _: None

    async def ask(self, order: domain.Order, step: Step) -> Answer:
        self.asked.append((step, request_id(order, step)))
        self.before(step)
        answers = self.script.get(step)
        return answers.pop(0) if answers else Done(derived("ref", step))

    @property
    def steps(self) -> list[Step]:
        return [step for step, _ in self.asked]


def placed(capture: Capture = Capture.CONFIRM) -> facts.Placed:
    return facts.Placed(USER, (LINE,), LINE.total, METHOD, capture)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def database_url(databases: Databases) -> str:
    url = databases.new("order")
    migrate(url, Path(order_path[0]) / "migrations")
    return url


@pytest.fixture
def feed() -> Feed:
    return Feed()


@pytest.fixture
async def store(database_url: str, feed: Feed) -> AsyncIterator[Store[Transaction]]:
    ids = TimeOrderedIds(SystemClock())
    async with Store(
        database_url,
        open_transaction=lambda session: Transaction(session, ids, feed),
        clock=SystemClock(),
        secret=b"test",
    ) as store:
        yield store
