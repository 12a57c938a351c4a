"""Holds come back by themselves, soon after their time."""

import asyncio
from collections.abc import Callable
from datetime import timedelta

import pytest

from services.chassis.storage.database import Store
from services.chassis.testing import FakeClock
from services.inventory import holds
from services.inventory.catalog import Description, Product
from services.inventory.reservation import Reservation, State
from services.inventory.stock import DEFAULT_WAREHOUSE_ID, Want
from services.inventory.store import Transaction
from services.inventory.sweeper import NAP_MAX_S, Sweeper
from services.kernel.money import Money

Figures = Callable[[], dict[str, dict[str, int]]]


@pytest.fixture
async def beans(store: Store[Transaction], clock: FakeClock) -> str:
    """A thousand of them."""
    now = clock.now()

    def fill(tx: Transaction) -> None:
        product = Product.create(
            product_id="beans", described=Description("B-1", "Beans"), price=Money(500, "EUR"), at=now
        )
        tx.products.save(product)
        tx.stock.save(tx.stock.level("beans", DEFAULT_WAREHOUSE_ID, at=now).count(1000, at=now))

    await store.write(fill)
    return "beans"


async def hold(store: Store[Transaction], clock: FakeClock, order_id: str, seconds: float) -> None:
    now = clock.now()
    made = await store.write(
        lambda tx: holds.reserve(
            tx,
            order_id=order_id,
            reservation_id=f"hold-{order_id}",
            wants=(Want("beans", "", 1),),
            expires_at=now + timedelta(seconds=seconds),
            at=now,
        )
    )
    assert isinstance(made, Reservation)


async def state(store: Store[Transaction], order_id: str) -> State:
    found = await store.read(lambda tx: tx.reservations.find(order_id))
    assert found is not None
    return found.state


async def reserved(store: Store[Transaction]) -> int:
    return sum(level.reserved for level in await store.read(lambda tx: tx.stock.levels(["beans"])))


async def test_only_what_has_lapsed_is_taken_back(
    store: Store[Transaction], clock: FakeClock, beans: str, check_invariants: Figures
) -> None:
    await hold(store, clock, "soon", 10)
    await hold(store, clock, "later", 20)
    await hold(store, clock, "sold", 5)
    await store.write(lambda tx: holds.commit(tx, order_id="sold", at=clock.now()))
    sweeper = Sweeper(store, clock=clock)
    clock.advance(9.999)
    assert await sweeper.sweep() == 0
    clock.advance(0.001)
    assert await sweeper.sweep() == 1
    assert await sweeper.sweep() == 0
    assert [await state(store, order) for order in ("soon", "later", "sold")] == [
        State.EXPIRED,
        State.RESERVED,
        State.COMMITTED,
    ]
    check_invariants()


async def test_more_than_a_batch_goes_in_batches(
    store: Store[Transaction], clock: FakeClock, beans: str, check_invariants: Figures
) -> None:
    count = 2 * holds.HOLDS_PER_BATCH + 3
    await asyncio.gather(*(hold(store, clock, f"order-{number}", 1) for number in range(count)))
    clock.advance(1)
    commits: list[None] = []
    store.on_commit(lambda: commits.append(None))
    assert await Sweeper(store, clock=clock).sweep() == count
    assert len(commits) == 3
    assert await reserved(store) == 0
    check_invariants()


async def test_it_sleeps_until_the_next_hold_ends_and_never_past_a_new_one(
    store: Store[Transaction], clock: FakeClock, beans: str
) -> None:
    """Time moves only by the sweeper's own naps; each hold must be gone at the end of the nap it ends in."""
    naps: list[float] = []
    left_over: list[int] = []
    done = asyncio.Event()

    async def sleep(seconds: float) -> None:
        left_over.append(await reserved(store))
        if len(naps) == 1:
            # Made while it naps, and the shortest there is: the nap before may not be longer.
            await hold(store, clock, "new", 1)
        naps.append(seconds)
        clock.advance(seconds)
        if len(naps) == 6:
            done.set()
            await asyncio.Event().wait()

    await hold(store, clock, "first", 0.25)
    running = asyncio.create_task(Sweeper(store, clock=clock, sleep=sleep).run())
    async with asyncio.timeout(10):
        await done.wait()
    running.cancel()
    await asyncio.wait([running])
    assert naps == [0.25, *[NAP_MAX_S] * 5]
    assert left_over == [1, 0, 0, 0, 0, 0]
    assert await state(store, "first") is State.EXPIRED
    assert await state(store, "new") is State.EXPIRED


async def test_a_hold_far_away_is_looked_at_again_before(
    store: Store[Transaction], clock: FakeClock, beans: str
) -> None:
    naps: list[float] = []
    done = asyncio.Event()

    async def sleep(seconds: float) -> None:
        naps.append(seconds)
        clock.advance(seconds)
        if await reserved(store) == 0:
            done.set()
            await asyncio.Event().wait()

    await hold(store, clock, "order", 2.5)
    running = asyncio.create_task(Sweeper(store, clock=clock, sleep=sleep).run())
    async with asyncio.timeout(10):
        await done.wait()
    running.cancel()
    await asyncio.wait([running])
    assert naps == [1.0, 1.0, 0.5, NAP_MAX_S]


async def test_a_commit_that_comes_before_the_sweeper_wins_nothing_twice(
    store: Store[Transaction], clock: FakeClock, beans: str, check_invariants: Figures
) -> None:
    await hold(store, clock, "order", 1)
    clock.advance(1)
    sweeper = Sweeper(store, clock=clock)
    await asyncio.gather(
        store.write(lambda tx: holds.commit(tx, order_id="order", at=clock.now())),
        sweeper.sweep(),
        store.write(lambda tx: holds.commit(tx, order_id="order", at=clock.now())),
        sweeper.sweep(),
    )
    assert await state(store, "order") is State.COMMITTED
    assert (await store.read(lambda tx: tx.stock.levels(["beans"])))[0].on_hand == 999
    check_invariants()
