"""The rules of catalogue, stock and holds, without a database."""

from datetime import UTC, datetime, timedelta

import pytest

from services.inventory import catalog, events, reservation, restock, returns, stock
from services.inventory.catalog import Description, Product
from services.inventory.reservation import Reservation, State
from services.inventory.restock import RestockPlan
from services.inventory.returns import ReturnedLine
from services.inventory.stock import Line, Movement, MovementKind, StockLevel, Want, allocate, summed
from services.kernel.money import Money

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
LATER = NOW + timedelta(minutes=15)
EUR_5 = Money(500, "EUR")


def level(product: str, warehouse: str, on_hand: int, reserved: int = 0, preference: int = 0) -> StockLevel:
    return StockLevel(product, warehouse, on_hand, reserved, NOW, preference)


def hold(*lines: Line) -> Reservation:
    lines = lines or (Line("beans", "main", 3),)
    return reservation.opened(
        order_id="order",
        reservation_id="hold",
        wants=tuple(Want(line.product_id, "", line.quantity) for line in lines),
        lines=lines,
        expires_at=LATER,
        at=NOW,
    )


def saved(held: Reservation) -> Reservation:
    """As it comes back from the database: nothing pending."""
    return Reservation(
        order_id=held.order_id,
        state=held.state,
        created_at=held.created_at,
        updated_at=held.updated_at,
        id=held.id,
        wants=held.wants,
        lines=held.lines,
        expires_at=held.expires_at,
        refusal=held.refusal,
        version=held.version + 1,
    )


def deltas(held: Reservation) -> list[tuple[MovementKind, int, int]]:
    return [(move.kind, move.delta_on_hand, move.delta_reserved) for move in held.pending_movements]


class TestProduct:
    def make(self) -> Product:
        return Product.create(product_id="beans", described=Description("B-1", "Beans"), price=EUR_5, at=NOW)

    def test_creating_one_is_told(self) -> None:
        assert self.make().pending_events == (catalog.ProductCreated("beans", "B-1", EUR_5, NOW),)

    def test_a_new_description_tells_which_fields_changed(self) -> None:
        changed = self.make().describe(Description("B-1", "Best beans", category="coffee"), at=LATER)
        assert changed.pending_events[-1] == catalog.ProductUpdated("beans", ("name", "category"), LATER)
        assert changed.updated_at == LATER

    def test_the_same_description_changes_nothing(self) -> None:
        product = self.make()
        assert product.describe(Description("B-1", "Beans"), at=LATER) is product

    def test_a_new_price_tells_the_old_one(self) -> None:
        changed = self.make().set_price(Money(600, "EUR"), at=LATER)
        assert changed.pending_events[-1] == catalog.PriceChanged("beans", EUR_5, Money(600, "EUR"), LATER)

    def test_the_same_price_changes_nothing(self) -> None:
        product = self.make()
        assert product.set_price(Money(500, "EUR"), at=LATER) is product

    @pytest.mark.parametrize(
        ("sku", "name", "error"),
        [
            ("", "Beans", catalog.SkuRequired),
            ("B-1", "", catalog.NameRequired),
            ("B-1", " ", catalog.NameRequired),
        ],
    )
    def test_neither_article_number_nor_name_may_be_empty(
        self, sku: str, name: str, error: type[Exception]
    ) -> None:
        with pytest.raises(error):
            Description(sku, name)

    def test_an_old_etag_is_stale_and_none_is_fine(self) -> None:
        product = self.make()
        assert product.expect("") is product
        assert product.expect(product.etag) is product
        with pytest.raises(catalog.StaleEtag):
            product.expect("v7")


class TestLevel:
    def test_counting_notes_the_difference(self) -> None:
        counted = level("beans", "main", 10).count(7, at=LATER)
        assert (counted.on_hand, counted.available) == (7, 7)
        assert counted.pending_movements == (Movement(MovementKind.SET, "beans", "main", -3, 0, LATER),)
        assert counted.pending_events == (stock.StockAdjusted("beans", "main", -3, 7, LATER),)

    def test_counting_the_same_moves_nothing(self) -> None:
        before = level("beans", "main", 10)
        assert before.count(10, at=LATER) is before

    def test_a_correction_notes_its_reason(self) -> None:
        adjusted = level("beans", "main", 10).adjust(-3, reason="broken", at=LATER)
        assert adjusted.on_hand == 7
        movement = Movement(MovementKind.ADJUST, "beans", "main", -3, 0, LATER, reason="broken")
        assert adjusted.pending_movements == (movement,)
        assert adjusted.pending_events == (stock.StockAdjusted("beans", "main", -3, 7, LATER, "broken"),)

    def test_what_is_held_cannot_be_corrected_away(self) -> None:
        held = level("beans", "main", 10, reserved=4)
        assert held.adjust(-6, reason="", at=LATER).available == 0
        with pytest.raises(stock.StockBelowReserved):
            held.adjust(-7, reason="", at=LATER)

    def test_what_is_held_cannot_be_counted_away(self) -> None:
        held = level("beans", "main", 10, reserved=4)
        assert held.count(4, at=LATER).available == 0
        with pytest.raises(stock.StockBelowReserved) as refused:
            held.count(3, at=LATER)
        assert refused.value.metadata == {"product_id": "beans", "on_hand": "3", "reserved": "4"}


class TestAllocation:
    def test_duplicates_are_summed(self) -> None:
        wants = [Want("beans", "", 2), Want("milk", "", 1), Want("beans", "", 3), Want("beans", "main", 1)]
        assert summed(wants) == (Want("beans", "", 5), Want("beans", "main", 1), Want("milk", "", 1))

    def test_duplicates_together_may_be_too_much(self) -> None:
        with pytest.raises(stock.OutOfStock) as refused:
            allocate([Want("beans", "", 6), Want("beans", "", 5)], [level("beans", "main", 10)])
        assert refused.value.metadata == {"product_id": "beans", "requested": "11", "available": "10"}

    def test_what_is_reserved_is_not_available(self) -> None:
        with pytest.raises(stock.OutOfStock):
            allocate([Want("beans", "", 3)], [level("beans", "main", 10, reserved=8)])

    def test_one_warehouse_is_preferred_to_two(self) -> None:
        levels = [level("beans", "east", 3), level("beans", "west", 5)]
        assert allocate([Want("beans", "", 5)], levels) == (Line("beans", "west", 5),)

    def test_a_line_is_split_if_it_must_be(self) -> None:
        levels = [level("beans", "east", 3), level("beans", "west", 5)]
        assert allocate([Want("beans", "", 7)], levels) == (
            Line("beans", "east", 2),
            Line("beans", "west", 5),
        )

    def test_the_preferred_warehouse_is_taken_from_first(self) -> None:
        levels = [level("beans", "east", 9, preference=2), level("beans", "west", 5, preference=1)]
        assert allocate([Want("beans", "", 5)], levels) == (Line("beans", "west", 5),)

    def test_a_warehouse_that_has_all_of_it_is_preferred_to_two_that_are_nearer(self) -> None:
        levels = [
            level("beans", "north", 3, preference=1),
            level("beans", "west", 3, preference=2),
            level("beans", "east", 4, preference=3),
        ]
        assert allocate([Want("beans", "", 4)], levels) == (Line("beans", "east", 4),)
        assert allocate([Want("beans", "", 5)], levels) == (
            Line("beans", "north", 3),
            Line("beans", "west", 2),
        )

    def test_what_must_come_from_one_warehouse_comes_first(self) -> None:
        levels = [level("beans", "east", 3), level("beans", "west", 5)]
        wants = [Want("beans", "", 3), Want("beans", "west", 5)]
        assert allocate(wants, levels) == (Line("beans", "east", 3), Line("beans", "west", 5))

    def test_another_warehouse_does_not_help_who_named_one(self) -> None:
        with pytest.raises(stock.OutOfStock):
            allocate([Want("beans", "east", 4)], [level("beans", "east", 3), level("beans", "west", 5)])

    def test_one_missing_line_refuses_them_all(self) -> None:
        with pytest.raises(stock.OutOfStock) as refused:
            allocate([Want("beans", "", 1), Want("milk", "", 1)], [level("beans", "main", 10)])
        assert refused.value.metadata["product_id"] == "milk"


class TestReservation:
    def test_a_hold_reserves(self) -> None:
        held = hold(Line("beans", "main", 3), Line("milk", "main", 1))
        assert deltas(held) == [(MovementKind.RESERVE, 0, 3), (MovementKind.RESERVE, 0, 1)]
        assert held.pending_events == (reservation.StockReserved("order", "hold", held.lines, LATER, NOW),)

    def test_a_commit_takes_the_goods_out_of_the_house(self) -> None:
        sold = saved(hold()).commit(at=LATER)
        assert sold.state is State.COMMITTED
        assert deltas(sold) == [(MovementKind.COMMIT, -3, -3)]

    def test_a_second_commit_changes_nothing(self) -> None:
        sold = saved(saved(hold()).commit(at=LATER))
        assert sold.commit(at=LATER) is sold

    def test_releasing_a_hold_gives_it_back(self) -> None:
        released = saved(hold()).release(at=LATER)
        assert released.state is State.RELEASED
        assert deltas(released) == [(MovementKind.RELEASE, 0, -3)]
        assert [type(event) for event in released.pending_events] == [reservation.StockReleased]

    def test_releasing_a_sale_returns_the_goods(self) -> None:
        released = saved(saved(hold()).commit(at=NOW)).release(at=LATER)
        assert released.state is State.RELEASED
        assert deltas(released) == [(MovementKind.RETURN, 3, 0)]

    def test_releasing_what_expired_moves_nothing_and_closes_it(self) -> None:
        released = saved(saved(hold()).expire(at=LATER)).release(at=LATER)
        assert released.state is State.RELEASED
        assert not deltas(released)
        assert not released.pending_events

    def test_a_second_release_changes_nothing(self) -> None:
        released = saved(saved(hold()).release(at=LATER))
        assert released.release(at=LATER) is released

    def test_a_hold_lapses_at_its_time_and_not_before(self) -> None:
        held = saved(hold())
        assert not held.lapsed(LATER - timedelta(microseconds=1))
        assert held.lapsed(LATER)
        expired = held.expire(at=LATER)
        assert expired.state is State.EXPIRED
        assert deltas(expired) == [(MovementKind.EXPIRE, 0, -3)]

    def test_only_a_hold_lapses(self) -> None:
        assert not saved(saved(hold()).commit(at=NOW)).lapsed(LATER)

    def test_an_expired_hold_can_be_taken_again_elsewhere(self) -> None:
        expired = saved(saved(hold()).expire(at=LATER))
        sold = expired.take_again((Line("beans", "west", 3),), at=LATER).commit(at=LATER)
        assert sold.state is State.COMMITTED
        assert sold.lines == (Line("beans", "west", 3),)
        assert deltas(sold) == [(MovementKind.RESERVE, 0, 3), (MovementKind.COMMIT, -3, -3)]
        assert {move.warehouse_id for move in sold.pending_movements} == {"west"}

    @pytest.mark.parametrize("undone", ["nothing", "hold", "sale", "expired"])
    def test_after_a_release_nothing_can_be_held_again(self, undone: str) -> None:
        before = {
            "hold": saved(hold()),
            "sale": saved(saved(hold()).commit(at=NOW)),
            "expired": saved(saved(hold()).expire(at=LATER)),
        }
        closed = (
            reservation.nothing_held(order_id="order", at=NOW)
            if undone == "nothing"
            else saved(before[undone].release(at=LATER))
        )
        with pytest.raises(reservation.ReservationClosed):
            closed.asked_again((Want("beans", "", 3),))
        with pytest.raises(reservation.ReservationClosed):
            closed.commit(at=LATER)

    def test_a_refused_reserve_stays_refused_in_the_same_words(self) -> None:
        no = stock.OutOfStock(product_id="beans", requested=3, available=1)
        tombstone = reservation.refused(order_id="order", wants=(Want("beans", "", 3),), refusal=no, at=NOW)
        with pytest.raises(stock.OutOfStock) as again:
            tombstone.asked_again((Want("beans", "", 3),))
        assert again.value.metadata == no.metadata
        with pytest.raises(reservation.ReservationClosed):
            tombstone.commit(at=NOW)
        assert tombstone.release(at=NOW).state is State.RELEASED

    def test_the_same_lines_again_are_answered_with_the_hold(self) -> None:
        held = saved(hold())
        assert held.asked_again(held.wants) is held
        with pytest.raises(reservation.ReservationMismatch):
            held.asked_again((Want("beans", "", 4),))


class TestReturns:
    SPLIT = (Line("beans", "east", 2), Line("beans", "west", 3))

    def sold(self, *lines: Line) -> Reservation:
        return saved(saved(hold(*lines)).commit(at=NOW))

    def test_pieces_come_back_and_the_rest_stays_sold(self) -> None:
        after, made = returns.give_back(self.sold(), "r", (Want("beans", "", 2),), at=LATER)
        assert (after.state, after.lines) == (State.COMMITTED, (Line("beans", "main", 3, 2),))
        assert deltas(after) == [(MovementKind.RETURN, 2, 0)]
        lines = (Line("beans", "main", 2),)
        assert after.pending_events == (reservation.StockReturned("order", "r", lines, LATER),)
        assert made.lines == (ReturnedLine("beans", "main", "main", 2),)

    def test_more_than_is_left_of_the_sale_is_refused(self) -> None:
        after, _ = returns.give_back(self.sold(), "r", (Want("beans", "", 2),), at=LATER)
        with pytest.raises(returns.MoreThanSold) as refused:
            returns.give_back(saved(after), "s", (Want("beans", "", 2),), at=LATER)
        assert refused.value.metadata["sold"] == "1"

    def test_wants_of_one_product_together_may_be_too_much(self) -> None:
        wants = (Want("beans", "", 2), Want("beans", "west", 4))
        with pytest.raises(returns.MoreThanSold):
            returns.give_back(self.sold(*self.SPLIT), "r", wants, at=LATER)

    def test_what_names_a_warehouse_is_taken_off_what_came_from_there_first(self) -> None:
        wants = (Want("beans", "", 1), Want("beans", "west", 4))
        after, made = returns.give_back(self.sold(*self.SPLIT), "r", wants, at=LATER)
        assert made.lines == (
            ReturnedLine("beans", "east", "east", 1),
            ReturnedLine("beans", "east", "west", 1),
            ReturnedLine("beans", "west", "west", 3),
        )
        assert [line.kept for line in after.lines] == [0, 0]
        moved = {move.warehouse_id: move.delta_on_hand for move in after.pending_movements}
        assert moved == {"west": 4, "east": 1}

    def test_pieces_that_go_the_same_way_are_one_line(self) -> None:
        wants = (Want("beans", "", 1), Want("beans", "main", 1))
        _, made = returns.give_back(self.sold(), "r", wants, at=LATER)
        assert made.lines == (ReturnedLine("beans", "main", "main", 2),)

    @pytest.mark.parametrize("state", ["reserved", "expired", "released"])
    def test_only_what_is_sold_can_come_back(self, state: str) -> None:
        before = {
            "reserved": saved(hold()),
            "expired": saved(saved(hold()).expire(at=LATER)),
            "released": saved(self.sold().release(at=LATER)),
        }[state]
        with pytest.raises(returns.NotSold) as refused:
            returns.give_back(before, "r", (Want("beans", "", 1),), at=LATER)
        assert refused.value.metadata == {"order_id": "order", "state": state}

    def test_undoing_the_sale_returns_only_what_is_left(self) -> None:
        after, _ = returns.give_back(self.sold(*self.SPLIT), "r", (Want("beans", "", 3),), at=LATER)
        undone = saved(after).release(at=LATER)
        assert deltas(undone) == [(MovementKind.RETURN, 2, 0)]
        assert [line.kept for line in undone.lines] == [0, 0]
        left = (Line("beans", "west", 2),)
        assert undone.pending_events == (reservation.StockReleased("order", "hold", left, LATER),)

    def test_undoing_a_sale_of_which_nothing_is_left_tells_nothing(self) -> None:
        after, _ = returns.give_back(self.sold(), "r", (Want("beans", "", 3),), at=LATER)
        undone = saved(after).release(at=LATER)
        assert undone.state is State.RELEASED
        assert (deltas(undone), undone.pending_events) == ([], ())


class TestRestockPlan:
    def plan(self, low_stock_below: int) -> RestockPlan:
        return RestockPlan("beans", "main", NOW, low_stock_below=low_stock_below)

    @pytest.mark.parametrize(("available", "is_low"), [(2, True), (3, False), (4, False)])
    def test_low_is_fewer_than_the_mark(self, available: int, *, is_low: bool) -> None:
        assert self.plan(3).observe(available, at=LATER).is_low == is_low

    def test_each_crossing_is_told_once(self) -> None:
        low = self.plan(3).observe(2, at=LATER)
        assert low.observe(0, at=LATER) is low
        enough = low.observe(3, at=LATER)
        assert enough.observe(9, at=LATER) is enough
        assert enough.pending_events == (
            restock.StockLow("beans", "main", 2, 3, LATER),
            restock.StockReplenished("beans", "main", 3, LATER),
        )

    def test_without_a_mark_nothing_is_ever_low(self) -> None:
        plan = self.plan(0)
        assert plan.observe(0, at=LATER) is plan


@pytest.mark.parametrize(
    ("event", "key", "name"),
    [
        (catalog.ProductCreated("p", "s", EUR_5, NOW), "p", "ProductCreated"),
        (catalog.ProductUpdated("p", ("name",), NOW), "p", "ProductUpdated"),
        (catalog.PriceChanged("p", EUR_5, EUR_5, NOW), "p", "PriceChanged"),
        (stock.StockAdjusted("p", "w", 1, 2, NOW), "p", "StockAdjusted"),
        (reservation.StockReserved("o", "r", (), NOW, NOW), "o", "StockReserved"),
        (reservation.StockReleased("o", "r", (), NOW), "o", "StockReleased"),
        (reservation.StockCommitted("o", "r", (), NOW), "o", "StockCommitted"),
        (reservation.ReservationExpired("o", "r", (), NOW), "o", "ReservationExpired"),
        (reservation.StockReturned("o", "r", (), NOW), "o", "StockReturned"),
        (restock.StockLow("p", "w", 1, 2, NOW), "p", "StockLow"),
        (restock.StockReplenished("p", "w", 2, NOW), "p", "StockReplenished"),
    ],
)
def test_every_event_has_its_message_and_its_key(event: events.Event, key: str, name: str) -> None:
    found_key, message = events.to_message(event)
    assert (found_key, message.DESCRIPTOR.name) == (key, name)


def test_an_event_says_what_and_where() -> None:
    _, message = events.to_message(
        reservation.StockCommitted("order", "hold", (Line("beans", "main", 3),), NOW)
    )
    assert "beans" in str(message)
    assert "quantity: 3" in str(message)
