"""The audit notices when books are wrong, and what `verify` asks for across services."""

from collections.abc import Callable
from contextlib import closing

import grpc
import pytest
from bodega.payment.v1 import payment_pb2 as pb

from services.chassis import audit as chassis_audit
from services.chassis.testing import FakeClock
from services.kernel.money import Money
from services.payment import audit
from services.payment.domain import State
from tests.databases import VIOLATIONS, connected, damage, only_postgresql
from tests.payment.house import Fault, House

Books = Callable[[], dict[str, dict[str, int]]]


TWICE = (
    "INSERT INTO operations SELECT order_id, 9, kind, 'twice', refund_id, amount_minor, currency, "
    "outcome, provider_reference, decline_code, create_time, settle_time "
    "FROM operations WHERE kind = 'CAPTURE'"
)


async def paid(house: House) -> pb.Payment:
    wanted = await house.authorization()
    await house.stub.AuthorizePayment(wanted)
    return await house.capture(wanted.order_id)


async def test_a_shop_at_rest_holds(house: House, check_books: Books) -> None:
    await paid(house)
    await house.void((await paid(house)).order_id)
    assert check_books() == {
        "ledger.balanced": {"entries": 3, "violations": 0},
        "ledger.posted": {"entries": 3, "movements": 3, "violations": 0},
        "payments.replay": {"payments": 2, "violations": 0},
        "payments.settled": {"under_way": 0, "violations": 0},
        "payments.told": {"facts": 5, "violations": 0},
        "payments.once": {"charged": 2, "violations": 0},
        "methods.default": {"users": 2, "violations": 0},
        "payments.provider": {"payments": 2, "under_way": 0, "violations": 0},
    }


@pytest.mark.parametrize(
    ("check", "deed"),
    [
        (
            "ledger.balanced",
            "UPDATE ledger_lines SET amount_minor = amount_minor + 1 WHERE account = 'sales'",
        ),
        ("ledger.balanced", "DELETE FROM ledger_lines WHERE account = 'sales'"),
        ("ledger.posted", "DELETE FROM ledger_lines"),
        ("ledger.posted", "UPDATE ledger_lines SET amount_minor = amount_minor * 2"),
        ("payments.replay", "UPDATE payments SET state = 'AUTHORIZED'"),
        ("payments.replay", "UPDATE payments SET refunded_minor = 1"),
        ("payments.replay", "DELETE FROM operations WHERE kind = 'CAPTURE'"),
        ("payments.settled", "UPDATE payments SET state = 'UNKNOWN'"),
        ("payments.settled", "UPDATE payments SET closed = true"),
        ("payments.told", "DELETE FROM outbox WHERE type = 'bodega.payment.v1.PaymentAuthorized'"),
        ("payments.told", "UPDATE outbox SET type = 'x' WHERE type = 'bodega.payment.v1.PaymentCaptured'"),
        (
            "payments.once",
            TWICE,
        ),
        ("methods.default", "UPDATE payment_methods SET is_default = false"),
        ("payments.provider", "UPDATE payments SET captured_minor = 0"),
    ],
)
async def test_damage_is_noticed(house: House, url: str, provider_url: str, check: str, deed: str) -> None:
    await paid(house)
    damage(url, deed)
    with chassis_audit.reading(url) as connection, chassis_audit.reading(provider_url) as provider:
        findings = [one.find(connection) for one in audit.CHECKS]
        findings.append(audit.books_agree(connection, provider))
    assert check in {finding.name for finding in findings if not finding.holds}


@pytest.mark.parametrize(
    "deed",
    [
        "UPDATE ledger_lines SET amount_minor = 1",
        "DELETE FROM ledger_lines",
        pytest.param("TRUNCATE ledger_lines", marks=only_postgresql),
    ],
)
async def test_the_ledger_is_only_added_to(house: House, url: str, deed: str) -> None:
    await paid(house)
    with pytest.raises(VIOLATIONS, match="only added to"), closing(connected(url)) as vandal:
        vandal.execute(deed)


async def test_money_that_only_the_provider_knows_is_noticed(
    house: House, url: str, provider_url: str
) -> None:
    await house.sandbox.authorize(
        "stranger", payment_id="nobody's", token="tok_approve", amount=Money(1, "USD")
    )
    with chassis_audit.reading(url) as connection, chassis_audit.reading(provider_url) as provider:
        assert audit.books_agree(connection, provider).examples == [
            "payment nobody's: only in the provider's books"
        ]
    assert await house.reconciler.compare_books() == 0


async def test_what_stays_open_for_too_long_is_noticed(
    house: House, url: str, clock: FakeClock, check_books: Books
) -> None:
    wanted = await house.authorization()
    house.line.faults.extend([Fault.UNREACHED] * 3)
    clock.advance(-3600)
    with pytest.raises(grpc.aio.AioRpcError):
        await house.stub.AuthorizePayment(wanted)
    with chassis_audit.reading(url) as connection:
        [settled] = [one.find(connection) for one in audit.CHECKS if one.name == "payments.settled"]
    assert (settled.holds, settled.figures) == (False, {"under_way": 1, "violations": 1})
    clock.advance(3600)
    await house.settle()
    check_books()


async def test_money_by_order_is_what_other_services_are_held_against(house: House, url: str) -> None:
    payment = await paid(house)
    with chassis_audit.reading(url) as connection:
        assert audit.money_by_order(connection) == {
            payment.order_id: audit.OrderMoney(State.CAPTURED, 1234, 0, "USD")
        }
