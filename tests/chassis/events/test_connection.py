"""Connections, where the client library's own manners would show."""

import asyncio
from typing import Any

import pytest

from services.chassis.events.connection import Connection

WAIT_S = 5.0


async def answered_in_spite_of_cancellation(asked: asyncio.Event, answer: Any) -> Any:
    """As `asyncio.wait_for` of Python 3.11 does when answer and cancellation come in one turn of the loop."""
    asked.set()
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        if isinstance(answer, Exception):
            raise answer from None
        return answer


@pytest.mark.parametrize("answer", ["answer", OSError("no answer")])
async def test_a_cancellation_is_heeded_though_the_client_swallows_it(answer: Any) -> None:
    asked = asyncio.Event()
    connection = Connection()
    connection.client._status = 1  # connected, as far as is_broken can tell
    asking = asyncio.create_task(connection.ask(answered_in_spite_of_cancellation(asked, answer)))
    async with asyncio.timeout(WAIT_S):
        await asked.wait()
        asking.cancel()
        await asyncio.wait({asking})
    assert asking.cancelled()
