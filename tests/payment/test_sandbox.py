"""The sandbox provider: honest, durable, and unreliable exactly where it is told to be."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from services.chassis.testing import FakeClock, SequentialIds
from services.kernel.money import Money
from services.payment.domain import Done, Refused
from services.payment.methods import Card, ProviderTokenRefused
from services.payment.provider import ProviderSilent
from services.payment.sandbox import Sandbox

TEN = Money(1000, "USD")
NOTHING = Money.zero("USD")


class Naps:
    """Instead of sleeping: remembers for how long."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


@pytest.fixture
def naps() -> Naps:
    return Naps()


def opened(url: str, naps: Naps) -> Sandbox:
    return Sandbox(url, clock=FakeClock(), ids=SequentialIds(), slow_s=2.5, sleep=naps)


@pytest.fixture
async def sandbox(provider_url: str, naps: Naps) -> AsyncIterator[Sandbox]:
    async with opened(provider_url, naps) as made:
        yield made


async def held(sandbox: Sandbox, card: str = "tok_approve") -> str:
    answer = await sandbox.authorize("p/authorize", payment_id="p", token=card, amount=TEN)
    assert isinstance(answer, Done)
    return answer.reference


@pytest.mark.parametrize(
    ("token", "card"),
    [
        ("tok_approve", Card("visa", "4242")),
        ("tok_amex_0005", Card("amex", "0005")),
        ("tok_mastercard_4444", Card("mastercard", "4444")),
    ],
)
async def test_tokens_are_described(sandbox: Sandbox, token: str, card: Card) -> None:
    assert await sandbox.describe(token) == card


@pytest.mark.parametrize("token", ["tok_unknown", "4242424242424242", "tok_visa_42", "tok_visa_4242x"])
async def test_unknown_tokens_are_refused_without_being_repeated(sandbox: Sandbox, token: str) -> None:
    with pytest.raises(ProviderTokenRefused) as refused:
        await sandbox.describe(token)
    assert token not in str(refused.value)


@pytest.mark.parametrize(
    ("token", "code"), [("tok_decline", "card_declined"), ("tok_insufficient_funds", "insufficient_funds")]
)
async def test_declines(sandbox: Sandbox, token: str, code: str) -> None:
    for _ in range(2):
        answer = await sandbox.authorize("p/authorize", payment_id="p", token=token, amount=TEN)
        assert answer == Refused(code)
    assert await sandbox.changes("") == []


async def test_the_same_key_gets_the_same_answer_and_does_nothing_more(sandbox: Sandbox) -> None:
    reference = await held(sandbox)
    assert await held(sandbox) == reference
    first = await sandbox.capture("p/capture", authorization=reference, amount=TEN)
    assert await sandbox.capture("p/capture", authorization=reference, amount=TEN) == first
    refund = await sandbox.refund("p/refund/r", authorization=reference, amount=TEN)
    assert await sandbox.refund("p/refund/r", authorization=reference, amount=TEN) == refund
    standing = await sandbox.standing(reference)
    assert (standing.held, standing.captured, standing.refunded) == (False, TEN, TEN)


async def test_a_key_is_for_one_thing(sandbox: Sandbox) -> None:
    await held(sandbox)
    with pytest.raises(ValueError, match="something else"):
        await sandbox.authorize("p/authorize", payment_id="p", token="tok_approve", amount=TEN + TEN)


async def test_refusals_of_what_is_not_there(sandbox: Sandbox) -> None:
    reference = await held(sandbox)
    assert await sandbox.refund("early", authorization=reference, amount=TEN) == Refused("amount_too_large")
    assert await sandbox.capture("much", authorization=reference, amount=TEN + TEN) == Refused(
        "amount_too_large"
    )
    await sandbox.capture("p/capture", authorization=reference, amount=TEN)
    assert await sandbox.void("p/void", authorization=reference) == Refused("already_captured")
    assert await sandbox.capture("again", authorization=reference, amount=TEN) == Refused("nothing_held")


async def test_what_was_voided_cannot_be_captured(sandbox: Sandbox) -> None:
    reference = await held(sandbox)
    assert isinstance(await sandbox.void("p/void", authorization=reference), Done)
    assert await sandbox.capture("p/capture", authorization=reference, amount=TEN) == Refused("nothing_held")
    assert await sandbox.void("p/void/2", authorization=reference) == Refused("already_voided")


async def test_not_found_is_not_an_answer(sandbox: Sandbox) -> None:
    with pytest.raises(ProviderSilent):
        await sandbox.void("p/void", authorization="nobody")
    with pytest.raises(ProviderSilent):
        await sandbox.standing("nobody")


async def test_a_capture_can_be_refused_although_it_is_held(sandbox: Sandbox) -> None:
    reference = await held(sandbox, "tok_capture_refused")
    answer = await sandbox.capture("p/capture", authorization=reference, amount=TEN)
    assert answer == Refused("authorization_expired")


async def test_slow_is_slow_once(sandbox: Sandbox, naps: Naps) -> None:
    reference = await held(sandbox, "tok_slow")
    assert await held(sandbox, "tok_slow") == reference
    assert naps.seconds == [2.5]


async def test_a_lost_reply_was_done_and_is_given_when_asked_again(sandbox: Sandbox) -> None:
    with pytest.raises(ProviderSilent):
        await held(sandbox, "tok_lost_reply")
    reference = await held(sandbox, "tok_lost_reply")
    with pytest.raises(ProviderSilent):
        await sandbox.capture("p/capture", authorization=reference, amount=TEN)
    assert (await sandbox.standing(reference)).captured == TEN
    assert isinstance(await sandbox.capture("p/capture", authorization=reference, amount=TEN), Done)


async def test_a_caller_that_leaves_does_not_undo_what_was_done(provider_url: str) -> None:
    entered = asyncio.Event()

    async def sleep(_seconds: float) -> None:
        entered.set()
        await asyncio.Event().wait()

    made = Sandbox(provider_url, clock=FakeClock(), ids=SequentialIds(), sleep=sleep)
    async with made as sandbox:
        asking = asyncio.create_task(held(sandbox, "tok_slow"))
        await entered.wait()
        asking.cancel()
        assert [change.standing.held for change in await sandbox.changes("")] == [True]


async def test_the_books_survive_the_process(provider_url: str, naps: Naps) -> None:
    async with opened(provider_url, naps) as sandbox:
        reference = await held(sandbox)
    async with opened(provider_url, naps) as sandbox:
        assert await held(sandbox) == reference


async def test_changes_are_told_from_a_cursor_on(sandbox: Sandbox) -> None:
    first = await held(sandbox)
    answer = await sandbox.authorize("q/authorize", payment_id="q", token="tok_approve", amount=TEN)
    assert isinstance(answer, Done)
    changes = await sandbox.changes("")
    assert [change.standing.reference for change in changes] == [first, answer.reference]
    assert await sandbox.changes(changes[-1].cursor) == []
    await sandbox.void("p/void", authorization=first)
    [change] = await sandbox.changes(changes[-1].cursor)
    assert (change.standing.reference, change.standing.held) == (first, False)
