"""Commits that fail, and commits whose word is lost."""

import asyncio

import pytest

from services.chassis import failpoints
from services.chassis.fault import FailpointUnavailable
from services.chassis.testing import until
from tests.chassis.storage.notebook import Notes, Transaction
from tests.chassis.storage.test_database import add

pytestmark = pytest.mark.usefixtures("quiet_failpoints")


def play(text: str) -> None:
    failpoints.configure(text, production=False)


async def count(store: Notes) -> int:
    return await store.read(Transaction.count)


async def test_a_commit_that_fails_changes_nothing_and_the_next_one_stands(store: Notes) -> None:
    play("storage.commit.before=error(UNAVAILABLE)@1")
    with pytest.raises(FailpointUnavailable):
        await store.write(add("a"))
    assert await count(store) == 0
    await store.write(add("a"))
    assert await count(store) == 1


async def test_a_commit_whose_word_is_lost_has_happened(store: Notes) -> None:
    play("storage.commit.after=error(UNAVAILABLE)@1")
    with pytest.raises(FailpointUnavailable):
        await store.write(add("a"))
    assert await count(store) == 1


@pytest.mark.parametrize(("site", "kept"), [("storage.commit.before", 9), ("storage.commit.after", 10)])
async def test_of_a_batch_only_the_one_that_is_meant_fails(store: Notes, site: str, kept: int) -> None:
    play(f"{site}=error(UNAVAILABLE)@5")
    outcomes = await asyncio.gather(
        *(store.write(add(str(number))) for number in range(10)), return_exceptions=True
    )
    assert sum(isinstance(outcome, FailpointUnavailable) for outcome in outcomes) == 1
    assert sum(outcome is None for outcome in outcomes) == 9
    assert await count(store) == kept


async def test_a_hang_before_a_commit_ends_when_it_is_cleared(store: Notes) -> None:
    play("storage.commit.before=hang")
    writing = asyncio.create_task(store.write(add("a")))
    await until(lambda: failpoints.standing()[0].plays)
    assert not writing.done()
    play("")
    async with asyncio.timeout(5):
        await writing
    assert await count(store) == 1
