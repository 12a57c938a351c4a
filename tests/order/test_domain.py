"""The life of an order, decided purely: every way it may go, and every way it may not."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.kernel import errors
from services.kernel.money import AMOUNT_MINOR_MAX, Money
from services.order import domain
from services.order.domain import FORWARD, Order, State, next_step, place, replay
from services.order.facts import (
    CancelRequested,
    Confirmed,
    Event,
    Line,
    NeedsAttention,
    Placed,
    Refunded,
    RefundRequested,
    Rejected,
    Step,
    StepDone,
    StepGivenUp,
    StepRefused,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(seconds=1)
LINE = Line("p1", "SKU", "Coffee", 2, Money(450, "USD"))


def placed() -> Order:
    return place("o1", Placed("u1", (LINE,), LINE.total, "m1"), at=NOW).saved()


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
    with pytest.raises(domain.OrderNotCancellable) as refused:
        order.cancel(reason="", at=LATER)
    assert refused.value.metadata == {"order_id": "o1", "state": "REJECTING"}


def test_giving_up_starts_compensation_and_never_declares_it_done() -> None:
    order = after(Step.RESERVE_STOCK).give_up(reason="stuck", at=LATER)
    assert (order.state, order.rejection_reason) == (State.REJECTING, "COMPENSATION_FORCED")
    assert order.to_do == (Step.VOID_PAYMENT, Step.RELEASE_STOCK)
    assert order.give_up(reason="again", at=LATER) is order


def test_a_settled_order_cannot_be_given_up() -> None:
    with pytest.raises(domain.OrderNotCompensatable):
        confirmed().give_up(reason="", at=LATER)
    with pytest.raises(domain.OrderNotCompensatable):
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
    with pytest.raises(domain.CurrencyMismatch):
        domain.total_of([LINE], "EUR")
    with pytest.raises(domain.OrderTooLarge):
        domain.total_of([Line("p", "s", "n", 2, Money(AMOUNT_MINOR_MAX, "USD"))], "USD")


def test_no_events_are_no_order() -> None:
    with pytest.raises(domain.OrderNotFound):
        replay("o1", [])


MOVES = st.lists(
    st.sampled_from(
        ["done", "refused", "given_up", "cancel", "force", "attention", "ship", "deliver", "refund"]
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
            case "ship":
                return order.ship(tracking_reference="T", at=LATER)
            case "deliver":
                return order.deliver(at=LATER)
            case "refund":
                refund_id = f"r{order.version}"
                return order.refund(refund_id, {"p1": 1}, return_stock=False, reason="", at=LATER)
            case "refused" if step in FORWARD:
                return order.apply(StepRefused(step, 1, "NO"), at=LATER)
            case "given_up" if step in FORWARD:
                return order.apply(StepGivenUp(step, 3, "UNKNOWN"), at=LATER)
    except errors.WrongState:
        pass
    return order


@given(MOVES)
def test_however_an_order_is_moved_replaying_its_events_gives_the_same_order(moves: list[str]) -> None:
    order = place("o1", Placed("u1", (LINE,), LINE.total, "m1"), at=NOW)
    for move in moves:
        order = moved(order, move)
    assert replay("o1", order.pending_events) == order.saved()
    assert order.version == len(order.pending_events)


@given(MOVES)
def test_however_an_order_is_moved_it_ends_once_the_rest_is_done(moves: list[str]) -> None:
    order = placed()
    for move in moves:
        order = moved(order, move)
    order = undone(order)
    assert order.is_settled
    assert order.to_do == ()
    assert not order.needs_attention


@given(MOVES)
def test_an_order_that_may_have_taken_something_never_ends_without_giving_it_back(moves: list[str]) -> None:
    order = place("o1", Placed("u1", (LINE,), LINE.total, "m1"), at=NOW)
    for move in moves:
        order = moved(order, move)
    order = undone(order)
    if order.state not in domain.STANDING:
        facts = [event.fact for event in order.pending_events]
        turned = next(
            i
            for i, f in enumerate(facts)
            if not isinstance(f, Placed | StepDone | NeedsAttention | Confirmed | RefundRequested | Refunded)
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
        with pytest.raises(domain.OrderNotShippable):
            order.ship(tracking_reference="", at=LATER)
    with pytest.raises(domain.OrderNotDeliverable):
        confirmed().deliver(at=LATER)


def test_a_shipped_order_refuses_to_be_cancelled() -> None:
    with pytest.raises(domain.OrderNotCancellable):
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


def test_refunding_everything_before_shipping_calls_the_order_off() -> None:
    assert refunded(confirmed(), 0).state is State.CANCELLING
    assert refunded(undone(refunded(confirmed(), 1)).saved(), 1, refund_id="r2").state is State.CANCELLING


def test_refunding_everything_after_shipping_ends_refunded() -> None:
    order = undone(refunded(shipped(), 0))
    assert (order.state, order.refunded_total) == (State.REFUNDED, order.total)
    with pytest.raises(domain.OrderNotRefundable):
        refunded(order, 1, refund_id="r2")


def test_no_more_is_refunded_than_was_bought() -> None:
    with pytest.raises(domain.RefundExceedsOrder) as refused:
        refunded(shipped(), 3)
    assert refused.value.metadata == {"product_id": "p1", "left": "2", "asked": "3"}
    under_way = refunded(shipped(), 1)
    with pytest.raises(domain.RefundExceedsOrder):
        refunded(under_way, 2, refund_id="r2")
    with pytest.raises(domain.RefundExceedsOrder):
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
    with pytest.raises(domain.OrderNotRefundable):
        refunded(order, 1)
