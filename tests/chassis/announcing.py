"""A service for tests that need a process: `python -m tests.chassis.announcing`, settings by environment."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.chassis.app import App
from services.chassis.config import ServiceSettings
from services.chassis.service import main, opened
from tests.chassis.events.ledger import Transaction


@asynccontextmanager
async def assembled(settings: ServiceSettings) -> AsyncIterator[App]:
    async with opened(settings, lambda session, _: Transaction(session)) as service:
        yield service.app


if __name__ == "__main__":
    main(ServiceSettings, "order", assembled)
