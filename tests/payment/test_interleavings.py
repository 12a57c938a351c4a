"""Whatever is asked, in whatever order, with whatever failing: the money ends where it should.

Drawn histories of one order: authorize, capture, void, refund, the reconciler and restarts, some of them at
the same time, each question to the provider getting through, lost on the way there, lost on the way back,
or the last thing the process did.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest
from bodega.payment.v1 import payment_pb2 as pb
from google.type.money_pb2 import Money
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.chassis import audit as chassis_audit
from services.chassis import status
from services.chassis.testing import FakeClock, SequentialIds
from services.kernel.errors import DomainError
from services.payment import audit
from services.payment.domain import Outcome, State
from services.payment.sandbox import Sandbox
from tests.databases import Databases, drawn
from tests.payment.house import Fault, Killed
from tests.payment.lives import Lives, Till

DEEDS = (
    "authorize",
    "capture",
    "capture a part",
    "process",
    "void",
    "refund",
    "refund a part",
    "reconcile",
    "later",
)
EXPECTED = (DomainError, status.Refused, Killed)
REFUND_ID = "7f6f6a53-2b9f-4d5c-9a43-0c8d5b3f7f11"
REFUND_IDS = ("7f6f6a53-2b9f-4d5c-9a43-0c8d5b3f7f12", "7f6f6a53-2b9f-4d5c-9a43-0c8d5b3f7f13")
THREE, FIVE = Money(currency_code="EUR", units=3), Money(currency_code="EUR", units=5)


@dataclass(frozen=True)
class Moment:
    """What is done at the same time, and what becomes of the questions that are asked meanwhile."""

    deeds: tuple[str, ...]
    faults: tuple[Fault, ...]


MOMENTS = st.builds(
    Moment,
    st.lists(st.sampled_from(DEEDS), min_size=1, max_size=3).map(tuple),
    st.lists(st.sampled_from(Fault), max_size=3).map(tuple),
)


@pytest.fixture
async def provider_template(provider_url: str) -> str:
    """The provider's books, made."""
    async with Sandbox(provider_url, clock=FakeClock(), ids=SequentialIds()):
        return provider_url


@settings(max_examples=drawn(80), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=st.lists(MOMENTS, min_size=1, max_size=8))
async def test_the_money_ends_where_it_should(
    databases: Databases, url: str, provider_template: str, history: list[Moment]
) -> None:
    with databases.copy(url) as books, databases.copy(provider_template) as provider:
        await _Story(books, provider).told(history)


class _Story:
    """One order, and what was wished for it."""

    def __init__(self, url: str, provider_url: str) -> None:
        self._url = url
        self._provider_url = provider_url
        self._lives = Lives(url, provider_url, FakeClock())
        self._wanted: pb.AuthorizePaymentRequest | None = None
        self._was_voided = False
        self._number = 0

    async def told(self, history: list[Moment]) -> None:
        left = list(history)
        while left:
            async with self._lives.one() as till:
                while left:
                    if not await self._live_through(till, left.pop(0)):
                        break
        await self._end()

    async def _live_through(self, till: Till, moment: Moment) -> bool:
        """Whether the process survives it."""
        wanted = self._wanted = self._wanted or await till.wanted()
        till.house.line.faults.clear()
        till.house.line.faults.extend(moment.faults)
        done = await asyncio.gather(
            *(self._do(till, deed, wanted) for deed in moment.deeds), return_exceptions=True
        )
        for ended in done:
            if isinstance(ended, BaseException) and not isinstance(ended, EXPECTED):
                # The reconciler's tasks die together.
                assert isinstance(ended, BaseExceptionGroup), ended
                assert ended.split(Killed)[1] is None, ended
        return not any(isinstance(ended, Killed | BaseExceptionGroup) for ended in done)

    async def _do(self, till: Till, deed: str, wanted: pb.AuthorizePaymentRequest) -> None:
        self._number += 1
        part_id = REFUND_IDS[self._number % 2]
        deeds: dict[str, Callable[[], Awaitable[object]]] = {
            "authorize": lambda: till.authorize(wanted),
            "capture": lambda: till.capture(wanted.order_id, f"capture {self._number}"),
            "capture a part": lambda: till.capture(wanted.order_id, f"capture {self._number}", FIVE),
            "refund a part": lambda: till.refund(wanted.order_id, part_id, f"refund {self._number}", THREE),
            "process": lambda: till.process(wanted),
            "void": lambda: till.void(wanted.order_id, f"void {self._number}"),
            "refund": lambda: till.refund(wanted.order_id, REFUND_ID, f"refund {self._number}"),
            "reconcile": till.house.reconciler.finish_due,
            "later": till.house.settle,
        }
        self._was_voided |= deed == "void"
        await deeds[deed]()

    async def _end(self) -> None:
        """Faults stop. Who wished for a void keeps asking for it, as the saga does; the rest is ours."""
        if self._wanted is None:
            return
        order_id = self._wanted.order_id
        async with self._lives.one() as till:
            if self._was_voided:
                await till.void(order_id, "the last")
            await till.house.settle()
            payment = await till.house.store.read(lambda tx: tx.payments.of_order(order_id))
        self._check_books()
        if payment is None:
            return
        assert payment.at_rest
        assert payment.state is not State.UNKNOWN
        assert payment.captured.amount_minor in (0, 500, payment.amount.amount_minor)
        given_back = [one for one in payment.operations if one.refund_id and one.outcome is Outcome.SUCCEEDED]
        assert len({one.refund_id for one in given_back}) == len(given_back)
        if self._was_voided:
            assert payment.state in (State.VOIDED, State.REFUNDED, State.DECLINED)

    def _check_books(self) -> None:
        """In the end nothing is under way and all checks hold."""
        with (
            chassis_audit.reading(self._url) as connection,
            chassis_audit.reading(self._provider_url) as provider,
        ):
            findings = [check.find(connection) for check in audit.CHECKS]
            findings.append(audit.books_agree(connection, provider))
        assert [finding for finding in findings if not finding.holds] == []
        figures = {finding.name: finding.figures for finding in findings}
        assert figures["payments.settled"]["under_way"] == 0
        assert figures["payments.provider"]["under_way"] == 0
        assert figures["payments.once"]["charged"] <= 1
