"""The life of an order, decided purely: every way it may go, and every way it may not."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.kernel import errors
from services.kernel.money import AMOUNT_MINOR_MAX, Money
from services.order import domain, refusals
from services.order.domain import FORWARD, Order, State, next_step, place, replay
from services.order.facts import (
    Cancelled,
    CancelRequested,
    Capture,
    CaptureRequested,
    Confirmed,
    Event,
    Line,
    NeedsAttention,
    Placed,
    Refunded,
    RefundRequested,
    Rejected,
    Shipped,
    Step,
    StepDone,
    StepGivenUp,
    StepRefused,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(seconds=1)
NOTHING = Money(0, "USD")
LINE = Line("p1", "SKU", "Coffee", 2, Money(450, "USD"))


def begun(capture: Capture = Capture.CONFIRM) -> Order:
    return place("o1", Placed("u1", (LINE,), LINE.total, "m1", capture), at=NOW)


def placed(capture: Capture = Capture.CONFIRM) -> Order:
    return begun(capture).saved()


def after(*steps: Step) -> Order:
    order = placed()
    for step in steps:
        order = order.apply(StepDone(step, 1, f"ref-{step}"), at=LATER)
    return order.saved()


def confirmed() -> Order:
    return after(*FORWARD)


def undone(order: Order) -> Order:
    while step := next_step(order):
        order = order.apply(StepDone(step, 1), at=LATER)
    return order


def test_a_placed_order_is_pending_at_version_one() -> None:
    order = placed()
    assert (order.state, order.version, order.total) == (State.PENDING, 1, Money(900, "USD"))


def test_money_moves_last() -> None:
    order, seen = placed(), []
    while step := next_step(order):
        seen.append(step)
        order = order.apply(StepDone(step, 1, "ref"), at=LATER)
    assert seen == [Step.RESERVE_STOCK, Step.AUTHORIZE_PAYMENT, Step.COMMIT_STOCK, Step.CAPTURE_PAYMENT]
    assert order.state is State.CONFIRMED
    assert order.pending_events[-1].fact == Confirmed()


def test_an_order_remembers_what_participants_call_its_hold_and_its_payment() -> None:
    order = confirmed()
    assert (order.reservation_id, order.payment_id) == ("ref-RESERVE_STOCK", "ref-AUTHORIZE_PAYMENT")


@pytest.mark.parametrize(
    ("refused", "undo"),
    [
        (Step.RESERVE_STOCK, ()),
        (Step.AUTHORIZE_PAYMENT, (Step.RELEASE_STOCK,)),
        (Step.COMMIT_STOCK, (Step.VOID_PAYMENT, Step.RELEASE_STOCK)),
        (Step.CAPTURE_PAYMENT, (Step.VOID_PAYMENT, Step.RELEASE_STOCK)),
    ],
)
def test_a_refused_step_undoes_what_came_before_it(refused: Step, undo: tuple[Step, ...]) -> None:
    order = after(*FORWARD[: FORWARD.index(refused)]).apply(StepRefused(refused, 1, "NO"), at=LATER)
    assert order.to_do == undo
    assert order.state is (State.REJECTING if undo else State.REJECTED)
    assert order.rejection_reason == "NO"
    assert undone(order).state is State.REJECTED


@pytest.mark.parametrize("step", FORWARD)
def test_a_step_given_up_undoes_both_participants_payment_first(step: Step) -> None:
    order = after(*FORWARD[: FORWARD.index(step)]).apply(StepGivenUp(step, 9, "UNAVAILABLE"), at=LATER)
    assert order.to_do == (Step.VOID_PAYMENT, Step.RELEASE_STOCK)
    assert (order.state, order.rejection_reason) == (State.REJECTING, "TIMED_OUT")
    assert undone(order).pending_events[-1].fact == Rejected()


@pytest.mark.parametrize("done", range(len(FORWARD) + 1))
def test_a_cancel_undoes_both_participants_wherever_the_order_is(done: int) -> None:
    order = after(*FORWARD[:done]).cancel(reason="changed my mind", at=LATER)
    assert order.to_do == (Step.VOID_PAYMENT, Step.RELEASE_STOCK)
    assert (order.state, order.cancel_reason) == (State.CANCELLING, "changed my mind")
    assert undone(order).state is State.CANCELLED


def test_an_undo_may_be_the_first_to_hear_of_what_a_call_had_made() -> None:
    order = placed().cancel(reason="", at=LATER)
    order = order.apply(StepDone(Step.VOID_PAYMENT, 1, "p1"), at=LATER)
    order = order.apply(StepDone(Step.RELEASE_STOCK, 1, "r1"), at=LATER)
    assert (order.payment_id, order.reservation_id) == ("p1", "r1")


def test_cancelling_twice_changes_nothing() -> None:
    order = placed().cancel(reason="first", at=NOW).saved()
    assert order.cancel(reason="second", at=LATER) is order
    ended = undone(order).saved()
    assert ended.cancel(reason="third", at=LATER) is ended


@pytest.mark.parametrize("step", FORWARD[1:])
def test_an_order_being_rejected_cannot_be_cancelled(step: Step) -> None:
    order = after(*FORWARD[: FORWARD.index(step)]).apply(StepGivenUp(step, 9, "X"), at=LATER)
    with pytest.raises(refusals.OrderNotCancellable) as refused:
        order.cancel(reason="", at=LATER)
    assert refused.value.metadata == {"order_id": "o1", "state": "REJECTING"}


def test_giving_up_starts_compensation_and_never_declares_it_done() -> None:
    order = after(Step.RESERVE_STOCK).give_up(reason="stuck", at=LATER)
    assert (order.state, order.rejection_reason) == (State.REJECTING, "COMPENSATION_FORCED")
    assert order.to_do == (Step.VOID_PAYMENT, Step.RELEASE_STOCK)
    assert order.give_up(reason="again", at=LATER) is order


def test_a_settled_order_cannot_be_given_up() -> None:
    with pytest.raises(refusals.OrderNotCompensatable):
        confirmed().give_up(reason="", at=LATER)
    with pytest.raises(refusals.OrderNotCompensatable):
        undone(placed().cancel(reason="", at=NOW)).give_up(reason="", at=LATER)


def test_attention_is_asked_for_once_and_goes_when_the_order_ends() -> None:
    order = placed().cancel(reason="", at=NOW)
    order = order.raise_attention(Step.VOID_PAYMENT, 8, at=LATER)
    assert order.needs_attention
    assert order.raise_attention(Step.VOID_PAYMENT, 9, at=LATER) is order
    assert not undone(order).needs_attention


def test_an_outcome_of_another_step_than_the_next_is_a_bug() -> None:
    with pytest.raises(AssertionError):
        placed().apply(StepDone(Step.CAPTURE_PAYMENT, 1), at=LATER)


def test_the_total_is_summed_exactly_in_one_currency() -> None:
    assert domain.total_of([LINE, LINE], "USD") == Money(1800, "USD")
    with pytest.raises(refusals.CurrencyMismatch):
        domain.total_of([LINE], "EUR")
    with pytest.raises(refusals.OrderTooLarge):
        domain.total_of([Line("p", "s", "n", 2, Money(AMOUNT_MINOR_MAX, "USD"))], "USD")


def test_no_events_are_no_order() -> None:
    with pytest.raises(refusals.OrderNotFound):
        replay("o1", [])


CAPTURES = st.sampled_from(Capture)
MOVES = st.lists(
    st.sampled_from(
        ["done", "refused", "given_up", "cancel", "force", "attention", "pay", "ship", "deliver", "refund"]
    ),
    max_size=18,
)


def moved(order: Order, move: str) -> Order:
    step = next_step(order)
    try:
        match move:
            case "cancel":
                return order.cancel(reason="r", at=LATER)
            case "force":
                return order.give_up(reason="r", at=LATER)
            case "attention" if step:
                return order.raise_attention(step, 8, at=LATER)
            case "done" if step:
                return order.apply(StepDone(step, 1, "ref"), at=LATER)
            case "pay":
                return order.take_payment(at=LATER)
            case "ship":
                return order.ship(tracking_reference="T", at=LATER)
            case "deliver":
                return order.deliver(at=LATER)
            case "refund":
                refund_id = f"r{order.version}"
                return order.refund(refund_id, {"p1": 1}, return_stock=False, reason="", at=LATER)
            case "refused" if step in (*FORWARD, Step.RETURN_STOCK):
                return order.apply(StepRefused(step, 1, "NO"), at=LATER)
            case "given_up" if step in FORWARD and order.can_be_given_up:
                return order.apply(StepGivenUp(step, 3, "UNKNOWN"), at=LATER)
    except (errors.WrongState, refusals.ShipmentNotPaid):
        pass
    return order


@given(CAPTURES, MOVES)
def test_however_an_order_is_moved_replaying_its_events_gives_the_same_order(
    capture: Capture, moves: list[str]
) -> None:
    order = begun(capture)
    for move in moves:
        order = moved(order, move)
    assert replay("o1", order.pending_events) == order.saved()
    assert order.version == len(order.pending_events)


@given(CAPTURES, MOVES)
def test_however_an_order_is_moved_it_ends_once_the_rest_is_done(capture: Capture, moves: list[str]) -> None:
    order = placed(capture)
    for move in moves:
        order = moved(order, move)
    order = undone(order)
    assert order.is_settled
    assert order.to_do == ()
    assert not order.needs_attention


@dataclass
class Till:
    """What payment would have held, taken and given back for an order, by the steps that were done."""

    held: Money = NOTHING
    taken: Money = NOTHING
    charges: int = 0

    def do(self, order: Order, step: Step) -> None:
        match step:
            case Step.AUTHORIZE_PAYMENT:
                self.held = order.total
            case Step.CAPTURE_PAYMENT:
                self.taken, self.held = order.to_capture or order.total, NOTHING
                self.charges += 1
            case Step.VOID_PAYMENT:
                self.taken = self.held = NOTHING
            case Step.REFUND_PAYMENT:
                assert order.refund_under_way
                self.taken -= order.refund_under_way.amount


@given(CAPTURES, MOVES)
def test_however_an_order_is_moved_the_money_is_where_it_says(capture: Capture, moves: list[str]) -> None:
    order, till = placed(capture), Till()
    for move in [*moves, *["done"] * 20]:
        step = next_step(order)
        if move == "done" and step:
            till.do(order, step)
        order = moved(order, move)
        assert till.taken.amount_minor >= 0, "more is given back than was taken"
        assert till.charges <= 1
        assert not order.ship_time or till.charges, "shipped, and not paid"
    if order.state in domain.ENDED:
        assert (till.held, till.taken) == (NOTHING, NOTHING)
    elif order.is_captured:
        assert till.taken == order.total - order.refunded_total
    else:
        assert (till.held, till.taken, order.ship_time) == (order.total, NOTHING, None)


@given(CAPTURES, MOVES)
def test_an_order_that_may_have_taken_something_never_ends_without_giving_it_back(
    capture: Capture, moves: list[str]
) -> None:
    order = begun(capture)
    for move in moves:
        order = moved(order, move)
    order = undone(order)
    if order.state not in domain.STANDING:
        facts = [event.fact for event in order.pending_events]
        turned = next(
            i
            for i, f in enumerate(facts)
            if not isinstance(
                f,
                Placed
                | StepDone
                | NeedsAttention
                | Confirmed
                | RefundRequested
                | Refunded
                | CaptureRequested,
            )
        )
        asked = {f.step for f in facts[:turned] if isinstance(f, StepDone)}
        undo = {f.step for f in facts[turned:] if isinstance(f, StepDone)}
        assert not asked & {Step.RESERVE_STOCK, Step.COMMIT_STOCK} or Step.RELEASE_STOCK in undo
        assert not asked & {Step.AUTHORIZE_PAYMENT, Step.CAPTURE_PAYMENT} or Step.VOID_PAYMENT in undo


def test_events_are_values() -> None:
    assert Event(CancelRequested("r"), NOW) == Event(CancelRequested("r"), NOW)


def shipped() -> Order:
    return confirmed().ship(tracking_reference="T1", at=LATER).saved()


def test_a_confirmed_order_is_shipped_and_delivered() -> None:
    order = shipped()
    assert (order.state, order.ship_time, order.tracking_reference) == (State.SHIPPED, LATER, "T1")
    order = order.deliver(at=LATER).saved()
    assert (order.state, order.deliver_time) == (State.DELIVERED, LATER)
    assert order.deliver(at=LATER) is order
    assert order.ship(tracking_reference="T2", at=LATER) is order


def test_only_a_confirmed_order_is_shipped_and_only_a_shipped_one_delivered() -> None:
    for order in (placed(), undone(placed().cancel(reason="", at=NOW))):
        with pytest.raises(refusals.OrderNotShippable):
            order.ship(tracking_reference="", at=LATER)
    with pytest.raises(refusals.OrderNotDeliverable):
        confirmed().deliver(at=LATER)


def test_a_shipped_order_refuses_to_be_cancelled() -> None:
    with pytest.raises(refusals.OrderNotCancellable):
        shipped().cancel(reason="", at=LATER)


def refunded(order: Order, pieces: int, *, refund_id: str = "r1", return_stock: bool = False) -> Order:
    wanted = {"p1": pieces} if pieces else {}
    return order.refund(refund_id, wanted, return_stock=return_stock, reason="broken", at=LATER)


def test_a_refund_is_an_event_before_it_is_a_call() -> None:
    order = refunded(shipped(), 1)
    assert order.state is State.SHIPPED
    assert order.to_do == (Step.REFUND_PAYMENT,)
    order = undone(order)
    assert (order.state, order.refunded_total) == (State.PARTIALLY_REFUNDED, Money(450, "USD"))
    assert order.pending_events[-1].fact == Refunded("r1", Money(450, "USD"), full=False)


def test_goods_that_were_not_shipped_go_back_on_sale() -> None:
    order = refunded(confirmed(), 1)
    assert order.to_do == (Step.REFUND_PAYMENT, Step.RETURN_STOCK)
    order = undone(order)
    assert order.state is State.PARTIALLY_REFUNDED
    assert order.ship(tracking_reference="", at=LATER).state is State.PARTIALLY_REFUNDED


def test_shipped_goods_go_back_on_sale_only_if_they_are_back() -> None:
    assert refunded(shipped(), 1).to_do == (Step.REFUND_PAYMENT,)
    assert refunded(shipped(), 1, return_stock=True).to_do == (Step.REFUND_PAYMENT, Step.RETURN_STOCK)


@pytest.mark.parametrize("reason", ["MORE_THAN_SOLD", "NOT_SOLD"])
def test_a_refund_whose_goods_are_back_already_is_done_without_them(reason: str) -> None:
    order = refunded(refunded(shipped(), 1, return_stock=True), 1, refund_id="r2")
    order = order.apply(StepDone(Step.REFUND_PAYMENT, 1), at=LATER)
    order = order.raise_attention(Step.RETURN_STOCK, 8, at=LATER)
    order = order.apply(StepRefused(Step.RETURN_STOCK, 9, reason), at=LATER)
    assert order.pending_events[-1].fact == Refunded("r1", Money(450, "USD"), full=False)
    assert (order.state, order.needs_attention) == (State.PARTIALLY_REFUNDED, False)
    assert (order.to_do, order.refund_under_way) == ((Step.REFUND_PAYMENT,), order.refunds[1])
    assert undone(order).state is State.REFUNDED


def test_refunding_everything_before_shipping_calls_the_order_off() -> None:
    assert refunded(confirmed(), 0).state is State.CANCELLING
    assert refunded(undone(refunded(confirmed(), 1)).saved(), 1, refund_id="r2").state is State.CANCELLING


def test_refunding_everything_after_shipping_ends_refunded() -> None:
    order = undone(refunded(shipped(), 0))
    assert (order.state, order.refunded_total) == (State.REFUNDED, order.total)
    with pytest.raises(refusals.OrderNotRefundable):
        refunded(order, 1, refund_id="r2")


def test_no_more_is_refunded_than_was_bought() -> None:
    with pytest.raises(refusals.RefundExceedsOrder) as refused:
        refunded(shipped(), 3)
    assert refused.value.metadata == {"product_id": "p1", "left": "2", "asked": "3"}
    under_way = refunded(shipped(), 1)
    with pytest.raises(refusals.RefundExceedsOrder):
        refunded(under_way, 2, refund_id="r2")
    with pytest.raises(refusals.RefundExceedsOrder):
        shipped().refund("r1", {"p2": 1}, return_stock=False, reason="", at=LATER)


def test_refunds_are_seen_through_one_after_the_other() -> None:
    order = refunded(refunded(shipped(), 1, return_stock=True), 1, refund_id="r2")
    assert order.to_do == (Step.REFUND_PAYMENT, Step.RETURN_STOCK, Step.REFUND_PAYMENT)
    order = order.apply(StepDone(Step.REFUND_PAYMENT, 1), at=LATER)
    assert order.refund_under_way == order.refunds[0]
    order = order.apply(StepDone(Step.RETURN_STOCK, 1), at=LATER)
    assert order.refund_under_way == order.refunds[1]
    order = order.apply(StepDone(Step.REFUND_PAYMENT, 1), at=LATER)
    assert (order.state, order.refund_under_way) == (State.REFUNDED, None)
    assert [e.fact.refund_id for e in order.pending_events if isinstance(e.fact, Refunded)] == ["r1", "r2"]


def test_a_cancel_after_a_partial_refund_undoes_the_rest() -> None:
    order = undone(refunded(confirmed(), 1)).cancel(reason="", at=LATER)
    assert order.to_do == (Step.VOID_PAYMENT, Step.RELEASE_STOCK)
    assert undone(order).state is State.CANCELLED


def test_a_cancel_during_a_refund_takes_its_place() -> None:
    order = refunded(confirmed(), 1).cancel(reason="", at=LATER)
    assert order.to_do == (Step.VOID_PAYMENT, Step.RELEASE_STOCK)
    assert undone(order).state is State.CANCELLED


@pytest.mark.parametrize(
    "order", [placed(), undone(placed().cancel(reason="", at=NOW))], ids=["pending", "cancelled"]
)
def test_what_is_not_confirmed_is_not_refunded(order: Order) -> None:
    with pytest.raises(refusals.OrderNotRefundable):
        refunded(order, 1)


# Paid when it is shipped


def held() -> Order:
    """Confirmed, and its price is held."""
    return undone(placed(Capture.SHIPMENT)).saved()


def being_paid(order: Order) -> Order:
    return order.take_payment(at=LATER).saved()


def paid(order: Order) -> Order:
    return being_paid(order).apply(StepDone(Step.CAPTURE_PAYMENT, 1, "p1"), at=LATER).saved()


def test_an_order_of_before_there_was_a_choice_is_paid_before_it_is_confirmed() -> None:
    assert Placed("u1", (LINE,), LINE.total, "m1").capture is Capture.CONFIRM


def test_paid_when_shipped_an_order_is_confirmed_with_its_price_held() -> None:
    order, seen = placed(Capture.SHIPMENT), []
    while step := next_step(order):
        seen.append(step)
        order = order.apply(StepDone(step, 1, "ref"), at=LATER)
    assert seen == [Step.RESERVE_STOCK, Step.AUTHORIZE_PAYMENT, Step.COMMIT_STOCK]
    assert (order.state, order.captured_total) == (State.CONFIRMED, NOTHING)


def test_what_is_not_paid_is_not_shipped() -> None:
    for order in (held(), being_paid(held())):
        with pytest.raises(refusals.ShipmentNotPaid):
            order.ship(tracking_reference="T1", at=LATER)


def test_what_is_to_be_shipped_is_paid_first() -> None:
    order = being_paid(held())
    assert (order.state, next_step(order)) == (State.CONFIRMED, Step.CAPTURE_PAYMENT)
    order = paid(held())
    assert (order.state, order.is_settled, order.captured_total) == (State.CONFIRMED, True, order.total)
    order = order.ship(tracking_reference="T1", at=LATER)
    assert (order.state, order.pending_events[-1].fact) == (State.SHIPPED, Shipped("T1"))


def test_paying_is_asked_for_once() -> None:
    order = being_paid(held())
    assert order.take_payment(at=LATER) is order
    assert paid(held()).take_payment(at=LATER).pending_events == ()


@pytest.mark.parametrize(
    "order",
    [confirmed(), placed(Capture.SHIPMENT), undone(held().cancel(reason="", at=NOW)).saved()],
    ids=["paid already", "pending", "cancelled"],
)
def test_where_nothing_is_only_held_nothing_is_taken(order: Order) -> None:
    assert order.take_payment(at=LATER) is order


def test_an_order_whose_money_cannot_be_taken_is_called_off_and_never_ships() -> None:
    order = being_paid(held()).apply(StepRefused(Step.CAPTURE_PAYMENT, 1, "CAPTURE_REFUSED"), at=LATER)
    assert (order.state, order.cancel_reason) == (State.CANCELLING, "CAPTURE_REFUSED")
    assert order.to_do == (Step.VOID_PAYMENT, Step.RELEASE_STOCK)
    for state in (order, undone(order)):
        with pytest.raises(refusals.OrderNotShippable):
            state.ship(tracking_reference="T1", at=LATER)
    assert undone(order).pending_events[-1].fact == Cancelled()


def test_patience_with_a_payment_never_ends_once_the_order_is_confirmed() -> None:
    order = being_paid(held())
    assert not order.can_be_given_up
    with pytest.raises(AssertionError):
        order.apply(StepGivenUp(Step.CAPTURE_PAYMENT, 9, "UNAVAILABLE"), at=LATER)


def test_attention_goes_when_the_money_has_come() -> None:
    order = being_paid(held()).raise_attention(Step.CAPTURE_PAYMENT, 8, at=LATER)
    assert order.needs_attention
    assert not order.apply(StepDone(Step.CAPTURE_PAYMENT, 9), at=LATER).needs_attention


@pytest.mark.parametrize("order", [held(), being_paid(held()), paid(held())], ids=["held", "asked", "paid"])
def test_what_is_paid_when_shipped_is_cancelled_until_it_is(order: Order) -> None:
    order = order.cancel(reason="changed my mind", at=LATER)
    assert order.to_do == (Step.VOID_PAYMENT, Step.RELEASE_STOCK)
    assert undone(order).state is State.CANCELLED
    assert undone(order).captured_total == NOTHING


def test_of_what_is_only_held_so_much_less_is_taken() -> None:
    order = refunded(held(), 1)
    assert order.to_do == (Step.RETURN_STOCK,)
    order = undone(order).saved()
    assert (order.state, order.refunded_total) == (State.PARTIALLY_REFUNDED, Money(450, "USD"))
    order = being_paid(order)
    assert order.to_capture == Money(450, "USD")
    order = undone(order).ship(tracking_reference="", at=LATER).saved()
    assert order.captured_total == Money(450, "USD")
    order = undone(refunded(order, 0, refund_id="r2"))
    assert (order.state, order.refunded_total) == (State.REFUNDED, order.total)


def test_a_refund_while_the_money_is_taken_waits_for_it_and_gives_it_back() -> None:
    order = refunded(being_paid(held()), 1)
    assert order.to_do == (Step.CAPTURE_PAYMENT, Step.REFUND_PAYMENT, Step.RETURN_STOCK)
    assert order.to_capture == order.total
    order = undone(order)
    assert (order.state, order.refunded_total, order.refund_under_way) == (
        State.PARTIALLY_REFUNDED,
        Money(450, "USD"),
        None,
    )


def test_a_refund_under_way_is_done_before_the_money_is_taken() -> None:
    order = being_paid(refunded(held(), 1))
    assert order.to_do == (Step.RETURN_STOCK, Step.CAPTURE_PAYMENT)
    order = order.apply(StepDone(Step.RETURN_STOCK, 1), at=LATER)
    assert order.state is State.PARTIALLY_REFUNDED
    assert undone(order).captured_total == Money(450, "USD")


def test_refunding_everything_that_is_only_held_calls_the_order_off() -> None:
    assert refunded(held(), 0).state is State.CANCELLING
    assert refunded(undone(refunded(held(), 1)).saved(), 1, refund_id="r2").state is State.CANCELLING
