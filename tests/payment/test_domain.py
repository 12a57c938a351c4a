"""The money of one order: what it may become, and how."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from services.kernel.money import Money
from services.payment import decisions, domain, facts, refusals
from services.payment.domain import Done, Kind, Outcome, Payment, Refused, Standing, State

AT = datetime(2026, 1, 1, tzinfo=UTC)
LATER = AT + timedelta(seconds=1)
TEN = Money(1000, "USD")
FOUR, SIX = Money(400, "USD"), Money(600, "USD")
NOTHING = Money.zero("USD")
WANTED = decisions.Authorization("o1", "u1", "m1", TEN)

Step = Callable[[Payment], Payment]


def begun() -> Payment:
    return Payment.begun(
        order_id="o1", payment_id="p1", user_id="u1", payment_method_id="m1", amount=TEN, at=AT
    )


def answered(payment: Payment, answer: domain.Answer) -> Payment:
    assert payment.pending
    return payment.settle(payment.pending.key, answer, at=LATER)


def done(payment: Payment) -> Payment:
    return answered(payment, Done("ref"))


def standing(*, held: bool = False, captured: Money = NOTHING, refunded: Money = NOTHING) -> Standing:
    return Standing("auth", "p1", held, captured, refunded)


def authorized() -> Payment:
    return done(begun())


def captured() -> Payment:
    return done(authorized().capture(at=AT))


def refunded_in_part() -> Payment:
    return done(captured().refund(refund_id="r1", amount=FOUR, at=AT))


def declined() -> Payment:
    return answered(begun(), Refused("card_declined"))


def closed(payment: Payment) -> Payment:
    return payment.close(at=LATER)


def capture_refused() -> Payment:
    return answered(authorized().capture(at=AT), Refused("authorization_expired", standing(held=True)))


@pytest.mark.parametrize(
    ("payment", "state", "undo"),
    [
        (begun(), State.UNKNOWN, None),
        (authorized(), State.AUTHORIZED, None),
        (declined(), State.DECLINED, None),
        (authorized().capture(at=AT), State.UNKNOWN, None),
        (capture_refused(), State.AUTHORIZED, None),
        (captured(), State.CAPTURED, None),
        (captured().refund(refund_id="r1", at=AT), State.UNKNOWN, None),
        (done(captured().refund(refund_id="r1", at=AT)), State.REFUNDED, None),
        (refunded_in_part(), State.PARTIALLY_REFUNDED, None),
        (done(refunded_in_part().refund(refund_id="r2", at=AT)), State.REFUNDED, None),
        (done(authorized().capture(FOUR, at=AT)), State.CAPTURED, None),
        (Payment.tombstone(order_id="o1", at=AT), State.VOIDED, None),
        # What closing asks for, from each of them:
        (closed(begun()), State.UNKNOWN, None),
        (closed(authorized()), State.AUTHORIZED, Kind.VOID),
        (done(closed(begun())), State.AUTHORIZED, Kind.VOID),
        (closed(declined()), State.DECLINED, None),
        (closed(authorized().capture(at=AT)), State.UNKNOWN, None),
        (done(closed(authorized().capture(at=AT))), State.CAPTURED, Kind.REFUND),
        (closed(capture_refused()), State.AUTHORIZED, Kind.VOID),
        (closed(captured()), State.CAPTURED, Kind.REFUND),
        (closed(refunded_in_part()), State.PARTIALLY_REFUNDED, Kind.REFUND),
        (done(closed(refunded_in_part()).go_on(at=AT)), State.REFUNDED, None),
        (closed(done(captured().refund(refund_id="r1", at=AT))), State.REFUNDED, None),
        (done(closed(authorized()).go_on(at=AT)), State.VOIDED, None),
        (done(closed(captured()).go_on(at=AT)), State.REFUNDED, None),
    ],
)
def test_state_and_what_is_left_to_undo_follow_from_the_operations(
    payment: Payment, state: State, undo: Kind | None
) -> None:
    assert (payment.state, payment.next_undo) == (state, undo)
    assert payment.at_rest == (payment.pending is None and undo is None)


def test_closing_after_refunds_in_part_gives_back_what_is_left() -> None:
    undoing = closed(refunded_in_part()).go_on(at=AT).pending
    assert undoing
    assert undoing.amount == SIX


def test_what_is_not_captured_is_given_up() -> None:
    payment = done(authorized().capture(FOUR, at=AT))
    assert (payment.captured, payment.left, payment.can_capture) == (FOUR, FOUR, False)


@pytest.mark.parametrize(
    ("payment", "refund_id", "amount", "can"),
    [
        (captured(), "r1", None, True),
        (captured(), "r1", TEN, True),
        (captured(), "r1", TEN + FOUR, False),
        (refunded_in_part(), "r1", FOUR, False),
        (refunded_in_part(), "r2", SIX, True),
        (refunded_in_part(), "r2", TEN, False),
        (done(authorized().capture(FOUR, at=AT)), "r1", SIX, False),
        (closed(refunded_in_part()), "r2", FOUR, False),
        (authorized(), "r1", None, False),
    ],
)
def test_what_may_be_refunded(payment: Payment, refund_id: str, amount: Money | None, can: bool) -> None:  # noqa: FBT001
    assert payment.can_refund(refund_id, amount) == can


@pytest.mark.parametrize(
    ("payment", "events"),
    [
        (authorized(), [facts.Authorized]),
        (declined(), [facts.Declined]),
        (captured(), [facts.Authorized, facts.Captured]),
        (capture_refused(), [facts.Authorized]),
        (done(closed(authorized()).go_on(at=AT)), [facts.Authorized, facts.Voided]),
        (done(closed(captured()).go_on(at=AT)), [facts.Authorized, facts.Captured, facts.Refunded]),
        (Payment.tombstone(order_id="o1", at=AT), [facts.Voided]),
        (closed(declined()), [facts.Declined]),
    ],
)
def test_each_transition_is_told_once(payment: Payment, events: list[type]) -> None:
    assert [type(event) for event in payment.pending_events] == events


def test_an_answer_that_is_known_already_changes_nothing() -> None:
    payment = authorized()
    assert payment.settle("p1/authorize", Done("ref"), at=LATER) is payment
    assert payment.settle("p1/authorize", Refused("late"), at=LATER) is payment


def test_an_answer_to_something_else_changes_nothing() -> None:
    payment = authorized().capture(at=AT)
    assert payment.settle("p1/authorize", Done("ref"), at=LATER) is payment


def test_a_second_operation_is_not_begun_before_the_first_is_answered() -> None:
    pending = authorized().capture(at=AT)
    assert not pending.can_capture
    with pytest.raises(AssertionError):
        pending.capture(at=AT)


def test_keys_are_payment_operation_and_refund_id() -> None:
    payment = done(captured().refund(refund_id="r1", at=AT))
    assert [one.key for one in payment.operations] == ["p1/authorize", "p1/capture", "p1/refund/r1"]
    assert len({one.operation_id for one in payment.operations}) == 3


def test_an_undo_that_was_refused_is_tried_again_under_another_key() -> None:
    refused = answered(closed(authorized()).go_on(at=AT), Refused("later", standing(held=True)))
    assert refused.next_undo is Kind.VOID
    again = refused.go_on(at=LATER)
    assert [one.key for one in again.operations[1:]] == ["p1/void", "p1/void/2"]


def test_a_void_refused_because_it_was_captured_becomes_a_refund() -> None:
    voiding = closed(authorized()).go_on(at=AT)
    payment = answered(voiding, Refused("already_captured", standing(captured=TEN)))
    assert (payment.state, payment.captured, payment.next_undo) == (State.CAPTURED, TEN, Kind.REFUND)
    assert done(payment.go_on(at=LATER)).state is State.REFUNDED


def test_a_void_refused_because_nothing_is_held_is_done() -> None:
    payment = answered(closed(authorized()).go_on(at=AT), Refused("already_voided", standing()))
    assert (payment.state, payment.at_rest) == (State.VOIDED, True)
    assert isinstance(payment.pending_events[-1], facts.Voided)


def test_a_refund_refused_because_it_was_given_back_is_done() -> None:
    payment = answered(
        closed(captured()).go_on(at=AT), Refused("amount_too_large", standing(captured=TEN, refunded=TEN))
    )
    assert (payment.state, payment.refunded) == (State.REFUNDED, TEN)


def test_a_capture_refused_because_it_was_captured_is_a_capture() -> None:
    payment = answered(authorized().capture(at=AT), Refused("nothing_held", standing(captured=TEN)))
    assert (payment.state, payment.captured) == (State.CAPTURED, TEN)


def test_late_money_resurrects_nothing_and_goes_back() -> None:
    voided = done(closed(authorized()).go_on(at=AT))
    late = voided.adopt(standing(captured=TEN), at=LATER)
    assert late.next_undo is Kind.REFUND
    assert late.turned_up_late
    assert not voided.turned_up_late
    back = done(late.go_on(at=LATER))
    assert (back.state, back.captured, back.refunded) == (State.REFUNDED, TEN, TEN)


def test_late_money_after_a_refund_goes_back_too_under_a_key_of_its_own() -> None:
    refunded = done(closed(captured()).go_on(at=AT))
    late = refunded.adopt(standing(captured=TEN + TEN, refunded=TEN), at=LATER)
    back = late.go_on(at=LATER)
    assert back.pending
    assert back.pending.amount == TEN
    assert len({one.key for one in back.operations}) == len(back.operations)


@pytest.mark.parametrize(
    ("payment", "known"),
    [
        (authorized(), standing(held=True)),
        (captured(), standing(captured=TEN)),
        (captured(), standing(held=True)),  # what we know and they do not is the audit's business
        (authorized(), standing()),  # a hold that lapsed is met when it is captured or voided
    ],
)
def test_books_that_know_no_more_than_ours_change_nothing(payment: Payment, known: Standing) -> None:
    assert payment.adopt(known, at=LATER) is payment


@pytest.mark.parametrize(
    ("payment", "refusal"),
    [
        (authorized(), None),
        (captured(), None),
        (declined(), None),
        (closed(begun()), refusals.PaymentClosed),
        (closed(declined()), refusals.PaymentClosed),
        (Payment.tombstone(order_id="o1", at=AT), refusals.PaymentClosed),
        (done(captured().refund(refund_id="r1", at=AT)), refusals.PaymentClosed),
    ],
)
def test_who_may_authorize(payment: Payment, refusal: type[Exception] | None) -> None:
    assert _kind(decisions.authorized(payment, WANTED)) is refusal


@pytest.mark.parametrize(
    "other",
    [
        decisions.Authorization("o1", "u2", "m1", TEN),
        decisions.Authorization("o1", "u1", "m2", TEN),
        decisions.Authorization("o1", "u1", "m1", TEN + TEN),
        decisions.Authorization("o1", "u1", "m1", Money(1000, "EUR")),
    ],
)
def test_an_order_has_one_payment(other: decisions.Authorization) -> None:
    assert _kind(decisions.authorized(authorized(), other)) is refusals.PaymentMismatch


@pytest.mark.parametrize(
    "payment",
    [begun(), authorized(), closed(captured()), declined(), replace(capture_refused(), direct=True)],
)
def test_how_the_payment_of_another_stands_is_not_told(payment: Payment) -> None:
    prying = replace(WANTED, user_id="u2")
    assert _kind(decisions.processed(payment, prying)) is refusals.PaymentMismatch


@pytest.mark.parametrize(
    ("payment", "refusal"),
    [
        (captured(), None),
        (declined(), refusals.PaymentNotCapturable),
        (capture_refused(), refusals.CaptureRefused),
        (closed(authorized()), refusals.PaymentClosed),
        (closed(captured()), refusals.PaymentClosed),
        (closed(authorized().capture(at=AT)), refusals.PaymentClosed),
        (done(captured().refund(refund_id="r1", at=AT)), refusals.PaymentClosed),
        (refunded_in_part(), None),
    ],
)
def test_what_a_capture_is_answered(payment: Payment, refusal: type[Exception] | None) -> None:
    assert _kind(decisions.captured(payment)) is refusal


@pytest.mark.parametrize(
    ("payment", "amount", "refusal"),
    [
        (captured(), TEN, None),
        (captured(), FOUR, refusals.PaymentNotCapturable),
        (done(authorized().capture(FOUR, at=AT)), FOUR, None),
        (done(authorized().capture(FOUR, at=AT)), None, None),
        (done(authorized().capture(FOUR, at=AT)), SIX, refusals.PaymentNotCapturable),
        (authorized(), TEN + FOUR, refusals.PaymentNotCapturable),
    ],
)
def test_what_a_capture_in_part_is_answered(
    payment: Payment, amount: Money | None, refusal: type[Exception] | None
) -> None:
    assert _kind(decisions.captured(payment, amount)) is refusal


@pytest.mark.parametrize(
    ("payment", "refusal"),
    [
        (done(captured().refund(refund_id="r1", at=AT)), None),
        (done(captured().refund(refund_id="r2", at=AT)), refusals.PaymentNotRefundable),
        (authorized(), refusals.PaymentNotRefundable),
        (declined(), refusals.PaymentNotRefundable),
        (closed(captured()), refusals.PaymentNotRefundable),
        (Payment.tombstone(order_id="o1", at=AT), refusals.PaymentNotRefundable),
    ],
)
def test_what_a_refund_is_answered(payment: Payment, refusal: type[Exception] | None) -> None:
    assert _kind(decisions.refunded(payment, "r1")) is refusal


@pytest.mark.parametrize(
    ("payment", "refund_id", "amount", "refusal"),
    [
        (refunded_in_part(), "r1", FOUR, None),
        (refunded_in_part(), "r1", None, None),
        (refunded_in_part(), "r1", SIX, refusals.RefundMismatch),
        (refunded_in_part().refund(refund_id="r2", at=AT), "r1", SIX, refusals.RefundMismatch),
        (done(refunded_in_part().refund(refund_id="r2", at=AT)), "r1", FOUR, None),
        (done(closed(refunded_in_part()).go_on(at=AT)), "r1", FOUR, None),
        (refunded_in_part(), "r2", TEN, refusals.PaymentNotRefundable),
        (captured(), "r1", TEN + FOUR, refusals.PaymentNotRefundable),
        (closed(refunded_in_part()), "r2", FOUR, refusals.PaymentNotRefundable),
    ],
)
def test_what_a_refund_in_part_is_answered(
    payment: Payment, refund_id: str, amount: Money | None, refusal: type[Exception] | None
) -> None:
    assert _kind(decisions.refunded(payment, refund_id, amount)) is refusal


def test_a_refund_is_not_answered_with_the_state_of_another_that_is_under_way() -> None:
    with pytest.raises(refusals.PaymentInProgress):
        decisions.refunded(refunded_in_part().refund(refund_id="r2", at=AT), "r1", FOUR)


def test_a_refund_that_was_refused_keeps_its_amount_and_gets_another_key() -> None:
    asked = captured().refund(refund_id="r1", amount=FOUR, at=AT)
    refused = answered(asked, Refused("later", standing(captured=TEN)))
    assert _kind(decisions.refunded(refused, "r1", SIX)) is refusals.RefundMismatch
    again = refused.refund(refund_id="r1", amount=FOUR, at=LATER)
    assert [one.key for one in again.operations[2:]] == ["p1/refund/r1", "p1/refund/r1/2"]


def test_what_is_not_settled_is_not_answered() -> None:
    pending = captured().refund(refund_id="r1", at=AT)
    with pytest.raises(refusals.PaymentInProgress):
        decisions.captured(pending)
    with pytest.raises(refusals.PaymentInProgress):
        decisions.authorized(begun(), WANTED)
    with pytest.raises(refusals.PaymentInProgress):
        decisions.refunded(pending, "r1")
    with pytest.raises(refusals.PaymentInProgress):
        decisions.voided(pending)
    with pytest.raises(refusals.ProviderUnavailable):
        decisions.voided(closed(captured()))
    with pytest.raises(refusals.ProviderUnavailable):
        decisions.refunded(captured(), "r1")


def test_an_unanswered_operation_keeps_what_it_is_about() -> None:
    pending = begun().pending
    assert pending
    assert (pending.outcome, pending.amount, pending.settled_at) == (Outcome.UNKNOWN, TEN, None)


def _kind(refusal: object) -> type | None:
    return type(refusal) if refusal is not None else None
