"""The RPCs of orders against a real server, with neighbours and participants of the test's own."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from bodega.inventory.v1 import inventory_pb2, inventory_pb2_grpc
from bodega.order.v1 import order_events_pb2 as events_pb
from bodega.order.v1 import order_pb2 as pb
from bodega.order.v1 import order_pb2_grpc
from bodega.payment.v1 import payment_pb2, payment_pb2_grpc
from bodega.user.v1 import user_pb2, user_pb2_grpc
from google.rpc import error_details_pb2
from google.type.money_pb2 import Money as MoneyMessage

from services.chassis import client, contract, failpoints, status
from services.chassis.context import STALE, RequestContext
from services.chassis.contract import Method
from services.chassis.feed import Feed
from services.chassis.flags import Flags, file_of
from services.chassis.identity.caller import Caller
from services.chassis.metrics import Metrics
from services.chassis.paging import Pages
from services.chassis.policy.backoff import Backoff
from services.chassis.server.gate import Guard
from services.chassis.storage.database import Store
from services.chassis.storage.writer import BEFORE_COMMIT
from services.chassis.testing import serving, until
from services.kernel import errors
from services.kernel.clock import SystemClock
from services.kernel.ids import TimeOrderedIds
from services.order import domain
from services.order.details import Details
from services.order.facts import Capture, Step
from services.order.flags import CAPTURE
from services.order.neighbours import Neighbours
from services.order.participants import Answer, Participants, Refused, Unknown
from services.order.queries import Queries
from services.order.saga import Patience, Saga
from services.order.servicer import OrderServicer
from services.order.store import Transaction
from services.order.watch import OrderWatch
from tests.order.conftest import METHOD, USER, ScriptedParticipants

COFFEE = "0190aaaa-0000-7000-8000-000000000001"
TEA = "0190aaaa-0000-7000-8000-000000000002"
YEN = "0190aaaa-0000-7000-8000-000000000003"
NOBODY = "0190eeee-0000-7000-8000-000000000001"
USD_4_50 = MoneyMessage(currency_code="USD", units=4, nanos=500_000_000)
WAIT_S = 10.0
(CREATE,) = (method for method in contract.methods(pb.DESCRIPTOR) if method.name == "CreateOrder")
JPY_300 = MoneyMessage(currency_code="JPY", units=300)


class UserNotFound(errors.NotFound):
    """No user {user_id}."""


@dataclass
class Users(user_pb2_grpc.UserServiceServicer):
    state: user_pb2.User.State.ValueType = user_pb2.User.STATE_ACTIVE
    down: bool = False
    calls: int = 0

    async def GetUser(self, request: user_pb2.GetUserRequest, context: Any) -> user_pb2.User:
        self.calls += 1
        if self.down:
            raise RuntimeError("broken on purpose")
        if request.user_id != USER:
            raise UserNotFound(user_id=request.user_id)
        return user_pb2.User(user_id=USER, state=self.state)


@dataclass
class Catalog(inventory_pb2_grpc.CatalogServiceServicer):
    prices: dict[str, MoneyMessage] = field(
        default_factory=lambda: {COFFEE: USD_4_50, TEA: USD_4_50, YEN: JPY_300}
    )

    async def BatchGetProducts(
        self, request: inventory_pb2.BatchGetProductsRequest, context: Any
    ) -> inventory_pb2.BatchGetProductsResponse:
        return inventory_pb2.BatchGetProductsResponse(
            products=[
                inventory_pb2.Product(product_id=id_, sku=id_[-1], name="A product", price=self.prices[id_])
                for id_ in request.product_ids
                if id_ in self.prices
            ]
        )


@dataclass
class Stock(inventory_pb2_grpc.InventoryServiceServicer):
    down: bool = False

    async def CheckAvailability(
        self, request: inventory_pb2.CheckAvailabilityRequest, context: Any
    ) -> inventory_pb2.CheckAvailabilityResponse:
        if self.down:
            raise RuntimeError("broken on purpose")
        return inventory_pb2.CheckAvailabilityResponse(available=True, available_quantity=7)


@dataclass
class Payments(payment_pb2_grpc.PaymentServiceServicer):
    async def GetPayment(self, request: payment_pb2.GetPaymentRequest, context: Any) -> payment_pb2.Payment:
        return payment_pb2.Payment(
            payment_id=request.payment_id, state=payment_pb2.Payment.STATE_CAPTURED, captured_amount=USD_4_50
        )


@dataclass
class Door:
    """Lets in everybody, as whoever is said to come."""

    caller: Caller = field(default_factory=Caller)

    def guard(self, _method: Method) -> Guard:
        def admitted(_request: Any, call: RequestContext, _context: object) -> None:
            call.caller = self.caller

        return admitted


@dataclass
class Shop:
    orders: order_pb2_grpc.OrderServiceStub
    users: Users
    catalog: Catalog
    stock: Stock
    participants: ScriptedParticipants
    store: Store[Transaction]
    door: Door
    flags: Flags
    flags_file: Path
    channel: client.Channel
    metrics: Metrics

    def capture_on(self, capture: Capture) -> None:
        """Has orders that are accepted from now on paid then."""
        written = json.loads(file_of([CAPTURE]))
        written["flags"][CAPTURE.name]["defaultVariant"] = capture
        self.flags_file.write_text(json.dumps(written))
        self.flags.look()

    async def count(self) -> int:
        return len((await self.orders.ListOrders(pb.ListOrdersRequest())).orders)


@pytest.fixture
def flags_file(tmp_path: Path) -> Path:
    """As it is given to every shop."""
    file = tmp_path / "flags.json"
    file.write_text(file_of([CAPTURE]))
    return file


@pytest.fixture
async def shop(store: Store[Transaction], feed: Feed, flags_file: Path) -> AsyncIterator[Shop]:
    clock, participants = SystemClock(), ScriptedParticipants()
    users, catalog, stock, payments = Users(), Catalog(), Stock(), Payments()  # type: ignore[abstract]
    asks: Participants = participants  # type: ignore[assignment]
    flags = Flags([CAPTURE], service="order", file=flags_file)
    patience = Patience(timedelta(hours=1), Backoff(0.001, 0.002))
    saga = Saga(store, asks, clock=clock, patience=patience, driver="a", feed=feed)
    neighbours_files = [user_pb2.DESCRIPTOR, inventory_pb2.DESCRIPTOR, payment_pb2.DESCRIPTOR]
    async with serving(
        (user_pb2_grpc.add_UserServiceServicer_to_server, users),
        (inventory_pb2_grpc.add_CatalogServiceServicer_to_server, catalog),
        (inventory_pb2_grpc.add_InventoryServiceServicer_to_server, stock),
        (payment_pb2_grpc.add_PaymentServiceServicer_to_server, payments),
        files=neighbours_files,
    ) as neighbours:
        servicer = OrderServicer(
            store,
            Neighbours(
                user_pb2_grpc.UserServiceStub(neighbours), inventory_pb2_grpc.CatalogServiceStub(neighbours)
            ),
            saga,
            queries=Queries(store, Pages(b"test", clock=clock)),
            details=Details(
                user_pb2_grpc.UserServiceStub(neighbours),
                inventory_pb2_grpc.InventoryServiceStub(neighbours),
                payment_pb2_grpc.PaymentServiceStub(neighbours),
                clock=clock,
            ),
            watch=OrderWatch(store, feed),
            flags=flags,
            clock=clock,
            ids=TimeOrderedIds(clock),
        )
        driving = asyncio.create_task(saga.run())
        door, metrics = Door(), Metrics()
        async with serving(
            (order_pb2_grpc.add_OrderServiceServicer_to_server, servicer),
            files=[pb.DESCRIPTOR],
            access=door,
            metrics=metrics,
        ) as channel:
            stub = order_pb2_grpc.OrderServiceStub(channel)
            yield Shop(
                stub, users, catalog, stock, participants, store, door, flags, flags_file, channel, metrics
            )
        driving.cancel()
        await asyncio.wait([driving])


def wanted(**changed: Any) -> pb.CreateOrderRequest:
    fields: dict[str, Any] = {
        "user_id": USER,
        "lines": [pb.CreateOrderLine(product_id=COFFEE, quantity=2)],
        "payment_method_id": METHOD,
        "currency": "USD",
        "wait_until_settled": True,
        "request_id": "r1",
    }
    return pb.CreateOrderRequest(**{**fields, **changed})


async def refused(call: Any) -> tuple[grpc.StatusCode, str | None]:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    return error.value.code(), status.reason(error.value)


async def test_an_order_is_priced_by_the_catalogue_and_settled(shop: Shop) -> None:
    order = await shop.orders.CreateOrder(wanted())
    assert order.state == pb.Order.STATE_CONFIRMED
    assert order.total == MoneyMessage(currency_code="USD", units=9)
    assert [(line.product_id, line.quantity) for line in order.lines] == [(COFFEE, 2)]
    assert await shop.orders.GetOrder(pb.GetOrderRequest(order_id=order.order_id)) == order


async def test_lines_of_one_product_are_summed(shop: Shop) -> None:
    lines = [
        pb.CreateOrderLine(product_id=id_, quantity=q) for id_, q in ((COFFEE, 1), (TEA, 1), (COFFEE, 3))
    ]
    order = await shop.orders.CreateOrder(wanted(lines=lines))
    assert [(line.product_id, line.quantity) for line in order.lines] == [(COFFEE, 4), (TEA, 1)]


async def test_ids_in_capitals_name_the_same_things(shop: Shop) -> None:
    lines = [pb.CreateOrderLine(product_id=id_, quantity=1) for id_ in (COFFEE, COFFEE.upper())]
    order = await shop.orders.CreateOrder(
        wanted(user_id=USER.upper(), lines=lines, payment_method_id=METHOD.upper())
    )
    assert (order.user_id, order.payment_method_id) == (USER, METHOD)
    assert [(line.product_id, line.quantity) for line in order.lines] == [(COFFEE, 2)]
    assert await shop.orders.GetOrder(pb.GetOrderRequest(order_id=order.order_id.upper())) == order
    listed = await shop.orders.ListOrders(pb.ListOrdersRequest(user_id=USER.upper()))
    assert list(listed.orders) == [order]


async def test_twenty_creations_under_one_id_are_one_order(shop: Shop) -> None:
    replies = await asyncio.gather(*(shop.orders.CreateOrder(wanted()) for _ in range(20)))
    assert len({reply.order_id for reply in replies}) == 1
    assert all(reply == replies[0] for reply in replies)
    assert await shop.count() == 1
    assert shop.participants.steps.count(Step.CAPTURE_PAYMENT) == 1


async def test_a_repeat_answers_with_the_order_as_it_is_then_and_asks_nobody(shop: Shop) -> None:
    order = await shop.orders.CreateOrder(wanted())
    calls = shop.users.calls
    await shop.orders.CancelOrder(pb.CancelOrderRequest(order_id=order.order_id, request_id="c1"))
    again = await shop.orders.CreateOrder(wanted())
    assert again.order_id == order.order_id
    assert again.state == pb.Order.STATE_CANCELLED
    assert shop.users.calls == calls


async def test_the_same_id_with_other_content_is_refused(shop: Shop) -> None:
    await shop.orders.CreateOrder(wanted())
    assert await refused(shop.orders.CreateOrder(wanted(currency="EUR"))) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "REQUEST_ID_REUSED",
    )


@pytest.mark.parametrize(
    ("changed", "code", "reason"),
    [
        ({"user_id": NOBODY}, grpc.StatusCode.NOT_FOUND, "BUYER_NOT_FOUND"),
        (
            {"lines": [pb.CreateOrderLine(product_id=NOBODY, quantity=1)]},
            grpc.StatusCode.NOT_FOUND,
            "PRODUCT_NOT_FOUND",
        ),
        ({"currency": "EUR"}, grpc.StatusCode.INVALID_ARGUMENT, "CURRENCY_MISMATCH"),
        ({"expected_total": JPY_300}, grpc.StatusCode.FAILED_PRECONDITION, "PRICE_CHANGED"),
    ],
)
async def test_what_cannot_be_bought_is_refused_and_the_refusal_is_remembered(
    shop: Shop, changed: dict[str, Any], code: grpc.StatusCode, reason: str
) -> None:
    assert await refused(shop.orders.CreateOrder(wanted(**changed))) == (code, reason)
    shop.users.state = user_pb2.User.STATE_SUSPENDED
    assert await refused(shop.orders.CreateOrder(wanted(**changed))) == (code, reason)
    assert await shop.count() == 0


async def test_the_expected_total_is_met(shop: Shop) -> None:
    expected = MoneyMessage(currency_code="USD", units=9)
    order = await shop.orders.CreateOrder(wanted(expected_total=expected))
    assert order.state == pb.Order.STATE_CONFIRMED


async def test_who_is_not_active_may_not_buy(shop: Shop) -> None:
    shop.users.state = user_pb2.User.STATE_INACTIVE
    assert await refused(shop.orders.CreateOrder(wanted())) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "USER_NOT_ACTIVE",
    )


async def test_a_neighbour_that_fails_leaves_the_request_id_free(shop: Shop) -> None:
    shop.users.down = True
    assert await refused(shop.orders.CreateOrder(wanted())) == (
        grpc.StatusCode.UNAVAILABLE,
        "NEIGHBOUR_UNAVAILABLE",
    )
    shop.users.down = False
    assert (await shop.orders.CreateOrder(wanted())).state == pb.Order.STATE_CONFIRMED


@pytest.mark.parametrize(
    ("changed", "field_named"),
    [
        ({"lines": []}, "lines"),
        ({"lines": [pb.CreateOrderLine(product_id=COFFEE, quantity=-1)]}, "lines[0].quantity"),
        ({"lines": [pb.CreateOrderLine(product_id=COFFEE, quantity=10**12)]}, "lines[0].quantity"),
        ({"lines": [pb.CreateOrderLine(product_id="7", quantity=1)]}, "lines[0].product_id"),
        ({"user_id": "me"}, "user_id"),
        ({"currency": "usd"}, "currency"),
        ({"request_id": "\n"}, "request_id"),
        ({"payment_method_id": ""}, "payment_method_id"),
    ],
)
async def test_bad_input_is_named_and_changes_nothing(
    shop: Shop, changed: dict[str, Any], field_named: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await shop.orders.CreateOrder(wanted(**changed))
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    bad_request = status.detail(error.value, error_details_pb2.BadRequest)
    assert bad_request is not None
    assert field_named in [violation.field for violation in bad_request.field_violations]
    assert await shop.count() == 0


async def test_an_order_under_way_is_answered_pending_without_waiting(shop: Shop) -> None:
    shop.participants.script[Step.RESERVE_STOCK] = [Unknown("UNAVAILABLE")] * 10_000
    order = await shop.orders.CreateOrder(wanted(wait_until_settled=False))
    assert order.state == pb.Order.STATE_PENDING
    cancelled = await shop.orders.CancelOrder(
        pb.CancelOrderRequest(order_id=order.order_id, reason="too slow", request_id="c1")
    )
    assert cancelled.state == pb.Order.STATE_CANCELLING
    again = await shop.orders.CreateOrder(wanted(wait_until_settled=False))
    assert again.order_id == order.order_id


async def test_an_order_whose_buyer_left_while_it_was_committed_is_driven_at_once(shop: Shop) -> None:
    failpoints.configure(f"{BEFORE_COMMIT}[CreateOrder]=hang", production=False)
    try:
        ordering = asyncio.ensure_future(shop.orders.CreateOrder(wanted()))
        await until(lambda: any(place.visits for place in failpoints.standing()), WAIT_S)
        ordering.cancel()
        await until(lambda: "CANCELLED" in shop.metrics.served(CREATE).handled, WAIT_S)
    finally:
        failpoints.configure("", production=False)
    again = await shop.orders.CreateOrder(wanted(), timeout=WAIT_S)  # long before a lease lapses
    assert again.state == pb.Order.STATE_CONFIRMED


async def test_waiting_ends_before_the_deadline_with_the_order_as_it_is(shop: Shop) -> None:
    shop.participants.script[Step.RESERVE_STOCK] = [Unknown("UNAVAILABLE")] * 10_000
    order = await shop.orders.CreateOrder(wanted(), timeout=1.0)
    assert order.state == pb.Order.STATE_PENDING


async def test_a_rejected_order_cannot_be_cancelled(shop: Shop) -> None:
    shop.participants.script[Step.RESERVE_STOCK] = [Refused("OUT_OF_STOCK")]
    order = await shop.orders.CreateOrder(wanted())
    assert (order.state, order.rejection_reason) == (pb.Order.STATE_REJECTED, "OUT_OF_STOCK")
    cancel = pb.CancelOrderRequest(order_id=order.order_id, request_id="c1")
    assert await refused(shop.orders.CancelOrder(cancel)) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "ORDER_NOT_CANCELLABLE",
    )


async def test_the_timeline_tells_every_step(shop: Shop) -> None:
    order = await shop.orders.CreateOrder(wanted())
    events = (await shop.orders.ListOrderEvents(pb.ListOrderEventsRequest(order_id=order.order_id))).events
    assert [event.WhichOneof("fact") for event in events] == ["placed", *["step_done"] * 4, "confirmed"]
    assert [event.version for event in events] == [1, 2, 3, 4, 5, 6]
    assert len({event.trace_id for event in events}) == 1
    assert all(event.HasField("time") for event in events)


async def test_the_timeline_tells_staff_who_it_was_and_the_buyer_no_more_than_what_they_are(
    shop: Shop,
) -> None:
    ada, sue = Caller(user_id=USER), Caller(user_id=NOBODY)
    shop.door.caller = ada
    order = await shop.orders.CreateOrder(wanted())
    shop.door.caller = sue
    await shop.orders.CancelOrder(pb.CancelOrderRequest(order_id=order.order_id, request_id="c1"))
    await ended(shop, order.order_id)
    request = pb.ListOrderEventsRequest(order_id=order.order_id)
    as_staff = (await shop.orders.ListOrderEvents(request)).events
    shop.door.caller = ada
    as_buyer = (await shop.orders.ListOrderEvents(request)).events
    watched = []
    async for entry in shop.orders.WatchOrder(pb.WatchOrderRequest(order_id=order.order_id), timeout=30):
        watched.append(entry.event)
        if len(watched) == len(as_buyer):
            break

    assert [who(event) for event in as_staff] == [
        (ada.name, "", "r1"),
        *[("workload:order", ada.name, "")] * 5,
        (sue.name, "", "c1"),
        *[("workload:order", ada.name, "")] * 3,
    ]
    assert [who(event) for event in as_buyer] == [
        (ada.name, "", "r1"),
        *[("system", ada.name, "")] * 5,
        ("support", "", ""),
        *[("system", ada.name, "")] * 3,
    ]
    assert watched == list(as_buyer)


def who(event: pb.OrderEvent) -> tuple[str, str, str]:
    return event.actor, event.on_behalf_of, event.request_id


async def ended(shop: Shop, order_id: str) -> None:
    async with asyncio.timeout(20):
        async for entry in shop.orders.WatchOrder(pb.WatchOrderRequest(order_id=order_id)):
            if entry.state == pb.Order.STATE_CANCELLED:
                return


async def test_lists_are_paged_newest_first_and_filtered(shop: Shop) -> None:
    made = [(await shop.orders.CreateOrder(wanted(request_id=f"r{n}"))).order_id for n in range(5)]
    request, seen = pb.ListOrdersRequest(user_id=USER, page_size=2), []
    while True:
        page = await shop.orders.ListOrders(request)
        seen += [order.order_id for order in page.orders]
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert seen == made[::-1]
    assert not (await shop.orders.ListOrders(pb.ListOrdersRequest(user_id=NOBODY))).orders
    rejected = pb.ListOrdersRequest(state=pb.Order.STATE_REJECTED)
    assert not (await shop.orders.ListOrders(rejected)).orders


async def test_a_page_token_of_another_search_is_refused(shop: Shop) -> None:
    for number in range(2):
        await shop.orders.CreateOrder(wanted(request_id=f"r{number}"))
    token = (await shop.orders.ListOrders(pb.ListOrdersRequest(page_size=1))).next_page_token
    request = pb.ListOrdersRequest(user_id=USER, page_token=token)
    assert await refused(shop.orders.ListOrders(request)) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "INVALID_PAGE_TOKEN",
    )


async def test_operators_see_resume_and_force_stuck_orders(shop: Shop) -> None:
    shop.participants.script[Step.RESERVE_STOCK] = [Unknown("UNAVAILABLE")] * 10_000
    order = await shop.orders.CreateOrder(wanted(wait_until_settled=False))
    resume = pb.ResumeOrderRequest(order_id=order.order_id, request_id="o1")
    assert (await shop.orders.ResumeOrder(resume)).state == pb.Order.STATE_PENDING
    shop.participants.script[Step.VOID_PAYMENT] = [Unknown("UNAVAILABLE")] * 10_000
    force = pb.ForceCompensateOrderRequest(order_id=order.order_id, reason="stuck", request_id="o2")
    assert (await shop.orders.ForceCompensateOrder(force)).state == pb.Order.STATE_REJECTING
    async with asyncio.timeout(10):
        while not (await shop.orders.ListStuckOrders(pb.ListStuckOrdersRequest())).orders:
            pass
    repeat = pb.ForceCompensateOrderRequest(order_id=order.order_id, reason="again", request_id="o3")
    await shop.orders.ForceCompensateOrder(repeat)
    del shop.participants.script[Step.VOID_PAYMENT]
    settled = await shop.orders.CreateOrder(wanted(wait_until_settled=False))
    async with asyncio.timeout(10):
        while settled.state != pb.Order.STATE_REJECTED:
            settled = await shop.orders.GetOrder(pb.GetOrderRequest(order_id=order.order_id))
    assert settled.rejection_reason == "COMPENSATION_FORCED"
    assert await refused(
        shop.orders.ResumeOrder(pb.ResumeOrderRequest(order_id=order.order_id, request_id="o4"))
    ) == (grpc.StatusCode.FAILED_PRECONDITION, "ORDER_SETTLED")


async def ship(
    shop: Shop, order_id: str, state: Any = pb.Order.STATE_SHIPPED, within_s: float | None = None
) -> pb.Order:
    request = pb.UpdateOrderStatusRequest(
        order_id=order_id, state=state, tracking_reference="T-1", request_id=f"ship-{order_id}-{state}"
    )
    return await shop.orders.UpdateOrderStatus(request, timeout=within_s)


async def settled(shop: Shop, order_id: str, state: Any) -> pb.Order:
    async with asyncio.timeout(10):
        while True:
            order = await shop.orders.GetOrder(pb.GetOrderRequest(order_id=order_id))
            if order.state == state:
                return order


async def test_an_order_is_shipped_delivered_and_partly_refunded(shop: Shop) -> None:
    order = await shop.orders.CreateOrder(wanted())
    order = await ship(shop, order.order_id)
    assert (order.state, order.tracking_reference) == (pb.Order.STATE_SHIPPED, "T-1")
    assert order.HasField("ship_time")
    order = await ship(shop, order.order_id, pb.Order.STATE_DELIVERED)
    assert order.state == pb.Order.STATE_DELIVERED
    refund = pb.RefundOrderRequest(
        order_id=order.order_id,
        lines=[pb.RefundLine(product_id=COFFEE, quantity=1)],
        reason="one was broken",
        request_id="f1",
    )
    await shop.orders.RefundOrder(refund)
    order = await settled(shop, order.order_id, pb.Order.STATE_PARTIALLY_REFUNDED)
    assert order.refunded_total == USD_4_50
    assert order.lines[0].refunded_quantity == 1
    assert shop.participants.steps[-1] is Step.REFUND_PAYMENT
    await shop.orders.RefundOrder(refund)
    again = await shop.orders.GetOrder(pb.GetOrderRequest(order_id=order.order_id))
    assert again.refunded_total == USD_4_50


async def test_a_shipped_order_cannot_be_cancelled(shop: Shop) -> None:
    order = await shop.orders.CreateOrder(wanted())
    await ship(shop, order.order_id)
    cancel = pb.CancelOrderRequest(order_id=order.order_id, request_id="c1")
    assert await refused(shop.orders.CancelOrder(cancel)) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "ORDER_NOT_CANCELLABLE",
    )


async def test_more_than_was_bought_is_not_refunded(shop: Shop) -> None:
    order = await shop.orders.CreateOrder(wanted())
    lines = [pb.RefundLine(product_id=COFFEE, quantity=2), pb.RefundLine(product_id=COFFEE, quantity=1)]
    refund = pb.RefundOrderRequest(order_id=order.order_id, lines=lines, request_id="f1")
    assert await refused(shop.orders.RefundOrder(refund)) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "REFUND_EXCEEDS_ORDER",
    )


async def test_no_other_state_than_shipped_and_delivered_is_set(shop: Shop) -> None:
    order = await shop.orders.CreateOrder(wanted())
    assert (await refused(ship(shop, order.order_id, pb.Order.STATE_CANCELLED)))[0] is (
        grpc.StatusCode.INVALID_ARGUMENT
    )


async def test_details_say_how_fresh_each_part_is(shop: Shop) -> None:
    order = await shop.orders.CreateOrder(wanted())
    request = pb.GetOrderDetailsRequest(order_id=order.order_id)
    details = await shop.orders.GetOrderDetails(request)
    assert details.order == order
    assert (details.buyer.freshness, details.buyer.active) == (pb.FRESHNESS_FRESH, True)
    assert (details.payment.freshness, details.payment.payment_state) == (pb.FRESHNESS_FRESH, "CAPTURED")
    assert [(part.freshness, part.available_quantity) for part in details.stock] == [(pb.FRESHNESS_FRESH, 7)]
    shop.stock.down = True
    call = order_pb2_grpc.OrderServiceStub(shop.channel.raw).GetOrderDetails(request)
    details = await call
    assert details.buyer.freshness == pb.FRESHNESS_FRESH
    assert [(part.freshness, part.available_quantity) for part in details.stock] == [(pb.FRESHNESS_STALE, 7)]
    assert int(dict(await call.initial_metadata())[STALE]) < 60


async def test_a_part_that_was_never_seen_is_unavailable_and_fails_nothing(shop: Shop) -> None:
    shop.stock.down = True
    order = await shop.orders.CreateOrder(wanted())
    details = await shop.orders.GetOrderDetails(pb.GetOrderDetailsRequest(order_id=order.order_id))
    (part,) = details.stock
    assert (part.freshness, part.product_id) == (pb.FRESHNESS_UNAVAILABLE, COFFEE)
    assert not part.HasField("available_quantity")


async def test_a_thousand_watchers_see_every_version_once_and_in_order(shop: Shop, feed: Feed) -> None:
    shop.participants.script[Step.AUTHORIZE_PAYMENT] = [Unknown("UNAVAILABLE")] * 3
    order = await shop.orders.CreateOrder(wanted(wait_until_settled=False))

    async def watched() -> list[int]:
        versions = []
        stream = shop.orders.WatchOrder(pb.WatchOrderRequest(order_id=order.order_id), timeout=60)
        async for entry in stream:
            versions.append(entry.version)
            if entry.state == pb.Order.STATE_CONFIRMED:
                stream.cancel()
                break
        return versions

    seen = await asyncio.gather(*(watched() for _ in range(1000)))
    assert set(map(tuple, seen)) == {(1, 2, 3, 4, 5, 6)}
    async with asyncio.timeout(20):
        while feed.watchers:
            await shop.orders.GetOrder(pb.GetOrderRequest(order_id=order.order_id))


async def test_a_watch_is_resumed_behind_a_version(shop: Shop) -> None:
    order = await shop.orders.CreateOrder(wanted())
    stream = shop.orders.WatchOrder(
        pb.WatchOrderRequest(order_id=order.order_id, after_version=4), timeout=30
    )
    seen = []
    async for entry in stream:
        seen.append((entry.version, entry.event.WhichOneof("fact")))
        if entry.version == 6:
            await shop.orders.CancelOrder(pb.CancelOrderRequest(order_id=order.order_id, request_id="c1"))
        if entry.state == pb.Order.STATE_CANCELLED:
            break
    stream.cancel()
    assert [version for version, _ in seen] == list(range(5, 11))
    assert seen[-1] == (10, "cancelled")


async def test_a_watch_ends_well_before_its_deadline_and_at_a_drain(shop: Shop, feed: Feed) -> None:
    order = await shop.orders.CreateOrder(wanted())
    request = pb.WatchOrderRequest(order_id=order.order_id, after_version=6)
    assert [entry async for entry in shop.orders.WatchOrder(request, timeout=1.1)] == []
    first = pb.WatchOrderRequest(order_id=order.order_id, after_version=5)
    seen = []
    async for entry in shop.orders.WatchOrder(first, timeout=60):
        seen.append(entry.version)
        feed.close()
    assert seen == [6]


async def test_an_unknown_order_cannot_be_watched(shop: Shop) -> None:
    stream = shop.orders.WatchOrder(pb.WatchOrderRequest(order_id=NOBODY), timeout=5)
    assert await refused(anext(aiter(stream))) == (grpc.StatusCode.NOT_FOUND, "ORDER_NOT_FOUND")


@pytest.mark.parametrize("method", ["GetOrder", "CancelOrder", "ListOrderEvents", "ResumeOrder"])
async def test_an_unknown_order_is_not_found(shop: Shop, method: str) -> None:
    request = {
        "GetOrder": pb.GetOrderRequest(order_id=NOBODY),
        "CancelOrder": pb.CancelOrderRequest(order_id=NOBODY, request_id="x"),
        "ListOrderEvents": pb.ListOrderEventsRequest(order_id=NOBODY),
        "ResumeOrder": pb.ResumeOrderRequest(order_id=NOBODY, request_id="x"),
    }[method]
    assert await refused(getattr(shop.orders, method)(request)) == (
        grpc.StatusCode.NOT_FOUND,
        "ORDER_NOT_FOUND",
    )


# Paid when it is shipped

USD_9 = MoneyMessage(currency_code="USD", units=9)


async def held(shop: Shop, **changed: Any) -> pb.Order:
    shop.capture_on(Capture.SHIPMENT)
    return await shop.orders.CreateOrder(wanted(**changed))


async def test_an_order_keeps_the_capture_of_the_moment_it_was_accepted(shop: Shop) -> None:
    one = await shop.orders.CreateOrder(wanted())
    other = await held(shop, request_id="r2")
    shop.capture_on(Capture.CONFIRM)
    assert (one.capture, one.captured_total) == (events_pb.CAPTURE_ON_CONFIRM, USD_9)
    assert (other.state, other.capture) == (pb.Order.STATE_CONFIRMED, events_pb.CAPTURE_ON_SHIPMENT)
    assert not other.HasField("captured_total")
    shipped = await ship(shop, other.order_id)
    assert (shipped.capture, shipped.captured_total) == (events_pb.CAPTURE_ON_SHIPMENT, USD_9)


async def test_orders_accepted_while_the_flag_flips_are_each_of_one_kind(shop: Shop) -> None:
    async def flip() -> None:
        for capture in itertools.cycle(Capture):
            shop.capture_on(capture)
            await asyncio.sleep(0.002)  # else nobody else would get on

    accepted = [await shop.orders.CreateOrder(wanted()), await held(shop, request_id="r2")]
    flipping = asyncio.create_task(flip())
    accepted += await asyncio.gather(
        *(shop.orders.CreateOrder(wanted(request_id=f"f{number}")) for number in range(20))
    )
    flipping.cancel()
    orders = [await settled(shop, order.order_id, pb.Order.STATE_CONFIRMED) for order in accepted]
    assert [order.capture for order in orders] == [order.capture for order in accepted]
    for order in orders:
        request = pb.ListOrderEventsRequest(order_id=order.order_id)
        events = (await shop.orders.ListOrderEvents(request)).events
        steps = [event.step_done.step for event in events if event.HasField("step_done")]
        is_paid = order.capture == events_pb.CAPTURE_ON_CONFIRM
        assert events[0].placed.capture == order.capture
        assert (pb.STEP_CAPTURE_PAYMENT in steps, order.HasField("captured_total")) == (is_paid, is_paid)


async def test_the_flag_may_go_by_order(shop: Shop) -> None:
    written = json.loads(file_of([CAPTURE]))
    rule = {"fractional": [{"var": "order_id"}, ["confirm", 50], ["shipment", 50]]}
    written["flags"][CAPTURE.name]["targeting"] = rule
    shop.flags_file.write_text(json.dumps(written))
    shop.flags.look()
    orders = await asyncio.gather(
        *(shop.orders.CreateOrder(wanted(request_id=f"r{number}")) for number in range(20))
    )
    assert len({order.capture for order in orders}) == 2


async def test_what_is_shipped_is_paid_first_and_once(shop: Shop) -> None:
    order = await held(shop)
    for _ in range(2):
        order = await ship(shop, order.order_id)
        assert (order.state, order.captured_total) == (pb.Order.STATE_SHIPPED, USD_9)
    assert shop.participants.steps.count(Step.CAPTURE_PAYMENT) == 1
    events = (await shop.orders.ListOrderEvents(pb.ListOrderEventsRequest(order_id=order.order_id))).events
    told = [event.WhichOneof("fact") for event in events[-3:]]
    assert told == ["capture_requested", "step_done", "shipped"]


async def test_who_ships_need_not_ask_twice_while_the_money_comes_at_once(shop: Shop) -> None:
    order = await held(shop)
    once = order_pb2_grpc.OrderServiceStub(shop.channel.without_retries())
    request = pb.UpdateOrderStatusRequest(
        order_id=order.order_id, state=pb.Order.STATE_SHIPPED, request_id="s1"
    )
    assert (await once.UpdateOrderStatus(request)).state == pb.Order.STATE_SHIPPED


def capturing_hangs(shop: Shop) -> asyncio.Event:
    """Until it is set."""
    over, ask = asyncio.Event(), shop.participants.ask

    async def hanging(order: domain.Order, step: Step) -> Answer:
        if step is Step.CAPTURE_PAYMENT:
            await over.wait()
        return await ask(order, step)

    shop.participants.ask = hanging  # type: ignore[method-assign]
    return over


async def test_while_the_money_does_not_come_the_parcel_stays(shop: Shop) -> None:
    order = await held(shop)
    over = capturing_hangs(shop)
    for _ in range(2):
        assert await refused(ship(shop, order.order_id, within_s=2.0)) == (
            grpc.StatusCode.ABORTED,
            "SHIPMENT_NOT_PAID",
        )
    order = await shop.orders.GetOrder(pb.GetOrderRequest(order_id=order.order_id))
    assert (order.state, order.HasField("captured_total")) == (pb.Order.STATE_CONFIRMED, False)
    over.set()
    assert (await ship(shop, order.order_id)).state == pb.Order.STATE_SHIPPED


async def test_an_order_whose_money_cannot_be_taken_never_ships(shop: Shop) -> None:
    order = await held(shop)
    shop.participants.script[Step.CAPTURE_PAYMENT] = [Refused("CAPTURE_REFUSED")]
    for _ in range(2):
        assert await refused(ship(shop, order.order_id)) == (
            grpc.StatusCode.FAILED_PRECONDITION,
            "ORDER_NOT_SHIPPABLE",
        )
    order = await settled(shop, order.order_id, pb.Order.STATE_CANCELLED)
    assert (order.cancel_reason, order.HasField("captured_total")) == ("CAPTURE_REFUSED", False)


async def test_who_is_not_paid_yet_may_still_be_called_off(shop: Shop) -> None:
    order = await held(shop)
    over = capturing_hangs(shop)
    await refused(ship(shop, order.order_id, within_s=2.0))
    await shop.orders.CancelOrder(pb.CancelOrderRequest(order_id=order.order_id, request_id="c1"))
    over.set()
    await settled(shop, order.order_id, pb.Order.STATE_CANCELLED)
    assert await refused(ship(shop, order.order_id)) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "ORDER_NOT_SHIPPABLE",
    )


async def last_event(shop: Shop, order_id: str) -> pb.OrderEvent:
    request = pb.ListOrderEventsRequest(order_id=order_id)
    return (await shop.orders.ListOrderEvents(request)).events[-1]


@pytest.mark.parametrize(("capture", "held"), [(Capture.CONFIRM, False), (Capture.SHIPMENT, True)])
async def test_whoever_calls_an_order_off_is_told_whether_its_price_was_only_held(
    shop: Shop,
    capture: Capture,
    held: bool,  # noqa: FBT001
) -> None:
    shop.capture_on(capture)
    order = await shop.orders.CreateOrder(wanted())
    await shop.orders.CancelOrder(pb.CancelOrderRequest(order_id=order.order_id, request_id="c1"))
    await settled(shop, order.order_id, pb.Order.STATE_CANCELLED)
    assert (await last_event(shop, order.order_id)).cancelled.held is held


async def test_pieces_refunded_after_they_were_paid_are_payments_to_tell(shop: Shop) -> None:
    order = await shop.orders.CreateOrder(wanted())
    lines = [pb.RefundLine(product_id=COFFEE, quantity=1)]
    await shop.orders.RefundOrder(
        pb.RefundOrderRequest(order_id=order.order_id, lines=lines, request_id="f1")
    )
    await settled(shop, order.order_id, pb.Order.STATE_PARTIALLY_REFUNDED)
    assert not (await last_event(shop, order.order_id)).refunded.held


async def test_pieces_refunded_before_they_are_paid_are_not_paid(shop: Shop) -> None:
    order = await held(shop)
    refund = pb.RefundOrderRequest(
        order_id=order.order_id, lines=[pb.RefundLine(product_id=COFFEE, quantity=1)], request_id="f1"
    )
    await shop.orders.RefundOrder(refund)
    await settled(shop, order.order_id, pb.Order.STATE_PARTIALLY_REFUNDED)
    assert shop.participants.steps[-1] is Step.RETURN_STOCK
    assert (await last_event(shop, order.order_id)).refunded.held, "for payment has nothing to tell of it"
    order = await ship(shop, order.order_id)
    assert (order.captured_total, order.refunded_total) == (USD_4_50, USD_4_50)
    assert Step.REFUND_PAYMENT not in shop.participants.steps


async def test_a_request_id_of_another_order_takes_no_money(shop: Shop) -> None:
    one, other = await held(shop), await held(shop, request_id="r2")
    await ship(shop, one.order_id)
    asked = pb.UpdateOrderStatusRequest(
        order_id=other.order_id, state=pb.Order.STATE_SHIPPED, request_id=f"ship-{one.order_id}-7"
    )
    assert (await refused(shop.orders.UpdateOrderStatus(asked)))[1] == "REQUEST_ID_REUSED"
    assert shop.participants.steps.count(Step.CAPTURE_PAYMENT) == 1
