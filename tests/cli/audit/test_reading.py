"""Two readings, with real files and the read-only connections that a live shop is read through."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from services.cli.audit import reading
from services.cli.audit.books import Places
from services.cli.audit.reading import Verdict, verify
from services.cli.data_folder import SERVICES
from services.cli.refusal import Refused
from services.inventory import tables as inventory
from services.payment import tables as payment


@pytest.fixture
def places(tmp_path: Path, shop: Any) -> Places:
    """The books of the fixture's shop as files, filled when `saved` is called."""
    return Places({name: str(tmp_path / f"{name}.db") for name in SERVICES}, str(tmp_path / "provider.db"))


def save(shop: Any, places: Places) -> None:
    for name, engine in shop.engines.items():
        Path(places.databases[name]).unlink(missing_ok=True)
        with engine.connect() as connection:
            connection.exec_driver_sql(f"VACUUM INTO '{places.databases[name]}'")


def verdicts(places: Places, meanwhile: Callable[[], None]) -> dict[str, Verdict]:
    return {verdict.name: verdict for verdict in verify(places, wait=meanwhile)}


def nothing_to_wait_for() -> None:
    raise AssertionError("there was no difference to look at again")


def held(shop: Any, order_id: str) -> None:
    """Stock that is held for no order, in books that are otherwise in order."""
    shop.hold(order_id, "reserved")


def let_go(shop: Any, order_id: str) -> None:
    with shop.engines["inventory"].begin() as connection:
        connection.execute(sa.delete(inventory.reservation_lines).where(_of(order_id)))
        connection.execute(
            sa.delete(inventory.reservations).where(inventory.reservations.c.order_id == order_id)
        )


def _of(order_id: str) -> sa.ColumnElement[bool]:
    return inventory.reservation_lines.c.order_id == order_id


def test_books_without_a_difference_are_read_once(shop: Any, places: Places) -> None:
    save(shop, places)
    found = verdicts(places, nothing_to_wait_for)
    assert [name for name, verdict in found.items() if verdict.is_violated] == []
    assert {"orders.replay", "stock.ledger", "stock.holds", "money.orders"} <= found.keys()


def test_without_a_broker_the_streams_are_not_judged_and_that_is_said(shop: Any, places: Places) -> None:
    save(shop, places)
    found = verdicts(places, nothing_to_wait_for)["told.published"]
    assert (found.finding, found.skipped, found.is_violated) == (None, reading.NO_BROKER, False)


def test_a_difference_that_is_still_there_is_a_violation(shop: Any, places: Places) -> None:
    held(shop, "o")
    save(shop, places)
    waits = []
    found = verdicts(places, lambda: waits.append(1))["stock.holds"]
    assert found.finding is not None
    assert (found.is_violated, found.finding.figures["violations"], waits) == (True, 1, [1])
    assert found.finding.examples == ["order o: stock is held for no order"]


def test_a_difference_that_goes_away_was_movement(shop: Any, places: Places) -> None:
    held(shop, "o")
    save(shop, places)

    def meanwhile() -> None:
        let_go(shop, "o")
        save(shop, places)

    assert not verdicts(places, meanwhile)["stock.holds"].is_violated


def test_a_difference_of_another_order_is_movement_too(shop: Any, places: Places) -> None:
    held(shop, "o")
    save(shop, places)

    def meanwhile() -> None:
        let_go(shop, "o")
        held(shop, "p")
        save(shop, places)

    assert not verdicts(places, meanwhile)["stock.holds"].is_violated


def test_the_checks_of_each_service_are_asked_too(shop: Any, places: Places) -> None:
    shop.order("o", "CONFIRMED")  # a row without events
    save(shop, places)
    found = verdicts(places, lambda: None)["orders.replay"]
    assert found.finding is not None
    assert found.finding.examples == ["order o: a row without events"]


def test_books_that_make_no_sense_are_a_violation_and_the_rest_is_judged_all_the_same(
    shop: Any, places: Places
) -> None:
    shop.order("o", "SOMEWHERE")  # for checks across services
    shop.write("payment", payment.payments, order_id="o", state="CAPTURED", currency="USD")
    captured = {"kind": "CAPTURE", "outcome": "SUCCEEDED", "settle_time": 1, "amount_minor": 5}
    shop.write("payment", payment.operations, order_id="o", number=1, currency="EUR", **captured)
    held(shop, "p")
    save(shop, places)
    found = verdicts(places, lambda: None)
    for name, why in (
        ("money.orders", "ValueError: 'SOMEWHERE' is not a valid State"),
        ("payments.replay", "CurrencyMismatch: USD and EUR cannot be put together"),
    ):
        finding = found[name].finding
        assert finding is not None
        assert not finding.holds
        assert finding.examples[0].startswith(f"the books make no sense: {why}")
    assert found["stock.reserved_is_held"].is_violated
    assert not found["ledger.balanced"].is_violated


def test_books_that_are_missing_are_refused_in_one_line(places: Places) -> None:
    with pytest.raises(Refused, match=r"the database of user, .*user\.db, cannot be read"):
        verify(places, wait=nothing_to_wait_for)
