"""Payments on real SQLite."""

import pytest

from services.chassis.storage.faults import StaleVersion
from services.chassis.storage.migrations import differences, migrate
from services.kernel.money import Money
from services.payment.domain import Done, Payment
from services.payment.store import Transaction
from services.payment.tables import metadata
from tests.payment.house import MIGRATIONS, House


def test_the_migrations_lead_to_the_tables(url: str) -> None:
    migrate(url, MIGRATIONS)
    assert differences(url, metadata) == []


def begun(house: House) -> Payment:
    return Payment.begun(
        order_id="o",
        payment_id="p",
        user_id="u",
        payment_method_id="m",
        amount=Money(5, "KWD"),
        at=house.clock.now(),
    )


async def test_a_payment_comes_out_as_it_went_in(house: House) -> None:
    now = house.clock.now()

    def save(tx: Transaction) -> Payment:
        saved = tx.payments.save(begun(house))
        return tx.payments.save(saved.settle("p/authorize", Done("auth"), at=now).capture(at=now))

    saved = await house.store.write(save)
    assert await house.store.read(lambda tx: tx.payments.get("p")) == saved
    assert await house.store.read(lambda tx: tx.payments.of_order("o")) == saved


async def test_a_payment_is_not_saved_over_what_someone_else_saved(house: House) -> None:
    now = house.clock.now()
    await house.store.write(lambda tx: tx.payments.save(begun(house)))

    def save_twice(tx: Transaction) -> None:
        known = tx.payments.get("p")
        tx.payments.save(known.close(at=now))
        tx.payments.save(known.close(at=now))

    with pytest.raises(StaleVersion):
        await house.store.write(save_twice)
    assert not (await house.store.read(lambda tx: tx.payments.get("p"))).closed


async def test_tombstones_have_no_payment_id_and_there_can_be_many(house: House) -> None:
    for order_id in ("a", "b"):
        await _bury(house, order_id)


async def _bury(house: House, order_id: str) -> None:
    stone = Payment.tombstone(order_id=order_id, at=house.clock.now())
    saved = await house.store.write(lambda tx: tx.payments.save(stone))
    assert await house.store.read(lambda tx: tx.payments.of_order(order_id)) == saved
