"""The access gate on a real server, in front of a contract of ours."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from bodega.order.v1 import order_pb2 as pb
from bodega.order.v1 import order_pb2_grpc
from bodega.user.v1 import user_pb2, user_pb2_grpc

from services.chassis import context, status, telemetry
from services.chassis.client.inherited import inherited
from services.chassis.context import RequestContext, TraceContext
from services.chassis.identity.caller import Caller
from services.chassis.identity.ownership import must_own
from services.chassis.identity.tokens import Tokens
from services.chassis.server import Denied
from services.chassis.server.access import Access
from services.chassis.testing import FakeClock, serving
from services.kernel import errors
from services.kernel.ids import TimeOrderedIds
from tests.chassis.identity.issuer import USER, TestIssuer

OTHER = "0199a1b2-0000-7000-8000-0000000000ff"
ORDER = "0199a1b2-0000-7000-8000-0000000000aa"


class OrderNotFound(errors.NotFound):
    """There is no order {order_id}."""


class Orders(order_pb2_grpc.OrderServiceServicer):
    """One order of USER's; says who asked in the order's id."""

    async def GetOrder(self, request: pb.GetOrderRequest, context: Any) -> pb.Order:
        absent = OrderNotFound(order_id=request.order_id)
        if request.order_id != ORDER:
            raise absent
        must_own(USER, absent)
        return pb.Order(order_id=_caller().name)

    async def GetOrderDetails(self, request: pb.GetOrderDetailsRequest, context: Any) -> pb.OrderDetails:
        return pb.OrderDetails()  # forgets to ask

    async def ListOrders(self, request: pb.ListOrdersRequest, context: Any) -> pb.ListOrdersResponse:
        return pb.ListOrdersResponse(next_page_token=_caller().name)

    async def CancelOrder(self, request: pb.CancelOrderRequest, context: Any) -> pb.Order:
        must_own(USER, OrderNotFound(order_id=request.order_id))
        return pb.Order(order_id=repr(_request().act))

    async def ListStuckOrders(
        self, request: pb.ListStuckOrdersRequest, context: Any
    ) -> pb.ListStuckOrdersResponse:
        return pb.ListStuckOrdersResponse(next_page_token=_caller().name)


def _request() -> RequestContext:
    request = context.current()
    assert request is not None
    return request


def _caller() -> Caller:
    return _request().caller


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def issuer(clock: FakeClock) -> TestIssuer:
    return TestIssuer(clock)


@asynccontextmanager
async def guarded(
    tokens: Tokens, workload: str = "", denied: Denied | None = None
) -> AsyncIterator[order_pb2_grpc.OrderServiceStub]:
    gate = Access(tokens, lambda _context: workload)
    orders: Any = Orders()  # type: ignore[abstract]  # of all RPCs, five are called
    async with serving(
        (order_pb2_grpc.add_OrderServiceServicer_to_server, orders),
        files=[pb.DESCRIPTOR],
        access=gate,
        denied=denied,
    ) as channel:
        yield order_pb2_grpc.OrderServiceStub(channel)


def bearer(token: str) -> dict[str, Any]:
    return {"metadata": (("authorization", f"Bearer {token}"),)}


async def refusal(call: Any) -> tuple[grpc.StatusCode, str | None, str | None]:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    return raised.value.code(), status.reason(raised.value), raised.value.details()


async def test_nobody_gets_nothing(issuer: TestIssuer) -> None:
    async with guarded(await issuer.trusted()) as stub:
        code, reason, _ = await refusal(stub.GetOrder(pb.GetOrderRequest(order_id=ORDER)))
    assert (code, reason) == (grpc.StatusCode.UNAUTHENTICATED, "NOT_SIGNED_IN")


async def test_strangers_do_not_even_learn_what_would_be_valid(issuer: TestIssuer) -> None:
    async with guarded(await issuer.trusted()) as stub:
        _, reason, _ = await refusal(stub.GetOrder(pb.GetOrderRequest(order_id="not an id")))
    assert reason == "NOT_SIGNED_IN"


async def test_an_owner_gets_what_is_theirs(issuer: TestIssuer) -> None:
    async with guarded(await issuer.trusted()) as stub:
        order = await stub.GetOrder(pb.GetOrderRequest(order_id=ORDER), **bearer(issuer.token()))
    assert order.order_id == f"user:{USER}"


async def test_what_is_not_yours_looks_like_what_is_not_there(issuer: TestIssuer) -> None:
    theirs = bearer(issuer.token(sub=OTHER))
    absent = TimeOrderedIds(issuer.clock).new()
    async with guarded(await issuer.trusted()) as stub:
        not_theirs = await refusal(stub.GetOrder(pb.GetOrderRequest(order_id=ORDER), **theirs))
        not_there = await refusal(stub.GetOrder(pb.GetOrderRequest(order_id=absent), **theirs))
    assert not_theirs[:2] == not_there[:2] == (grpc.StatusCode.NOT_FOUND, "ORDER_NOT_FOUND")
    assert str(not_theirs[2]).replace(ORDER, absent) == not_there[2]


async def test_a_handler_that_forgets_to_ask_answers_nobody_but_the_staff(issuer: TestIssuer) -> None:
    request = pb.GetOrderDetailsRequest(order_id=ORDER)
    with telemetry.captured() as lines:
        async with guarded(await issuer.trusted()) as stub:
            code, _, _ = await refusal(stub.GetOrderDetails(request, **bearer(issuer.token())))
            await stub.GetOrderDetails(request, **bearer(issuer.token(sub=OTHER, roles=["support"])))
    assert code is grpc.StatusCode.INTERNAL
    assert any("OwnerNotAsked" in line.get("stack", "") for line in lines)


async def test_staff_gets_in_by_role(issuer: TestIssuer) -> None:
    async with guarded(await issuer.trusted()) as stub:
        admin = bearer(issuer.token(sub=OTHER, roles=["admin"]))
        reply = await stub.ListStuckOrders(pb.ListStuckOrdersRequest(), **admin)
        refused = await refusal(stub.ListStuckOrders(pb.ListStuckOrdersRequest(), **bearer(issuer.token())))
    assert reply.next_page_token == f"user:{OTHER}"
    assert refused[:2] == (grpc.StatusCode.PERMISSION_DENIED, "NOT_ALLOWED")


async def test_an_owner_named_in_the_request_must_be_the_caller(issuer: TestIssuer) -> None:
    mine = bearer(issuer.token())
    async with guarded(await issuer.trusted()) as stub:
        await stub.ListOrders(pb.ListOrdersRequest(user_id=USER.upper()), **mine)
        others = await refusal(stub.ListOrders(pb.ListOrdersRequest(user_id=OTHER), **mine))
        everyones = await refusal(stub.ListOrders(pb.ListOrdersRequest(), **mine))
    assert others[0] is grpc.StatusCode.NOT_FOUND
    assert everyones[0] is grpc.StatusCode.PERMISSION_DENIED


BAD: dict[str, Callable[[TestIssuer], Any]] = {
    "expired": lambda issuer: bearer(issuer.token(exp=1)),
    "not bearer": lambda issuer: {"metadata": (("authorization", f"Basic {issuer.token()}"),)},
    "empty": lambda _issuer: {"metadata": (("authorization", ""),)},
    "given twice": lambda issuer: {"metadata": (*bearer(issuer.token())["metadata"],) * 2},
    "unknown key": lambda issuer: bearer(issuer.token(key_id="new")),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
async def test_why_a_token_was_refused_is_logged_and_not_told(
    issuer: TestIssuer, bad: Callable[[TestIssuer], Any]
) -> None:
    tokens = await issuer.trusted()
    issuer.add_key("new", publish=False)
    answers = set()
    with telemetry.captured() as lines:
        async with guarded(tokens) as stub:
            answers.add(await refusal(stub.GetOrder(pb.GetOrderRequest(order_id=ORDER), **bad(issuer))))
    assert answers == {
        (
            grpc.StatusCode.UNAUTHENTICATED,
            "INVALID_TOKEN",
            "The token given is not valid; sign in again.",
        )
    }
    (line,) = [line for line in lines if line["event"] == "token refused"]
    assert line["why"]
    assert issuer.token() not in str(lines)


async def test_a_new_key_is_fetched_while_the_call_waits(issuer: TestIssuer, clock: FakeClock) -> None:
    tokens = await issuer.trusted()
    issuer.add_key("k2")
    clock.advance(10)
    async with guarded(tokens) as stub:
        order = await stub.GetOrder(pb.GetOrderRequest(order_id=ORDER), **bearer(issuer.token(key_id="k2")))
    assert order.order_id == f"user:{USER}"


async def test_while_no_keys_are_known_a_good_token_is_not_called_bad(issuer: TestIssuer) -> None:
    issuer.is_away = True
    async with guarded(await issuer.trusted()) as stub:
        request = pb.GetOrderRequest(order_id=ORDER)
        code, reason, _ = await refusal(stub.GetOrder(request, **bearer(issuer.token())))
        assert (code, reason) == (grpc.StatusCode.UNAVAILABLE, "ISSUER_AWAY")
        issuer.is_away = False
        order = await stub.GetOrder(request, **bearer(issuer.token()))
    assert order.order_id == f"user:{USER}"


async def test_metadata_that_pretends_is_ignored(issuer: TestIssuer) -> None:
    pretended = (
        ("x-user-id", USER),
        ("x-bodega-on-behalf-of", f"user:{USER}"),
        ("x-bodega-workload", "order"),
        ("x-forwarded-user", USER),
        ("grpcgateway-authorization", f"Bearer {issuer.token()}"),
    )
    async with guarded(await issuer.trusted()) as stub:
        _, reason, _ = await refusal(stub.GetOrder(pb.GetOrderRequest(order_id=ORDER), metadata=pretended))
    assert reason == "NOT_SIGNED_IN"


async def test_the_edge_carries_users_but_is_none(issuer: TestIssuer) -> None:
    async with guarded(await issuer.trusted(), workload="gateway") as stub:
        order = await stub.GetOrder(pb.GetOrderRequest(order_id=ORDER), **bearer(issuer.token()))
        code, _, _ = await refusal(stub.GetOrder(pb.GetOrderRequest(order_id=ORDER)))
    assert order.order_id == f"user:{USER}"
    assert code is grpc.StatusCode.PERMISSION_DENIED


def test_a_users_token_travels_with_calls_made_for_them() -> None:
    for_ada = RequestContext(TraceContext.fresh(), caller=Caller(user_id="ada", token="t"))
    with context.working_on(for_ada):
        assert dict(inherited())["authorization"] == "Bearer t"
    later = RequestContext(TraceContext.fresh(), caller=Caller(workload="order", on_behalf_of="user:ada"))
    with context.working_on(later):
        metadata = dict(inherited())
    assert metadata["x-bodega-on-behalf-of"] == "user:ada"
    assert "authorization" not in metadata


class Record:
    """Who was refused, from where, and why."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str, str]] = []

    def note(self, request: RequestContext, address: str, reason: str) -> None:
        self.rows.append((request.caller.name, address, reason))


async def test_who_was_refused_is_noted_with_why(issuer: TestIssuer) -> None:
    record = Record()
    get, mine = pb.GetOrderRequest(order_id=ORDER), bearer(issuer.token())
    async with guarded(await issuer.trusted(), denied=record.note) as stub:
        await refusal(stub.GetOrder(get))
        await refusal(stub.GetOrder(get, **bearer(issuer.token(exp=1))))
        await refusal(stub.ListStuckOrders(pb.ListStuckOrdersRequest(), **mine))
        await refusal(stub.ListOrders(pb.ListOrdersRequest(user_id=OTHER), **mine))
    assert record.rows == [
        ("", "127.0.0.1", "NOT_SIGNED_IN"),
        ("", "127.0.0.1", "INVALID_TOKEN"),
        (f"user:{USER}", "127.0.0.1", "NOT_ALLOWED"),
        (f"user:{USER}", "127.0.0.1", "NOT_FOUND"),
    ]


async def test_a_workload_that_may_not_is_noted_by_its_name(issuer: TestIssuer) -> None:
    record = Record()
    async with guarded(await issuer.trusted(), workload="payment", denied=record.note) as stub:
        await refusal(stub.GetOrder(pb.GetOrderRequest(order_id=ORDER)))
    assert [row[0] for row in record.rows] == ["workload:payment"]


async def test_what_is_not_yours_is_noted_like_what_is_not_there(issuer: TestIssuer) -> None:
    record = Record()
    theirs = bearer(issuer.token(sub=OTHER))
    async with guarded(await issuer.trusted(), denied=record.note) as stub:
        await refusal(stub.GetOrder(pb.GetOrderRequest(order_id=ORDER), **theirs))
        await refusal(stub.GetOrder(pb.GetOrderRequest(order_id=OTHER), **theirs))
    assert record.rows == [(f"user:{OTHER}", "127.0.0.1", "ORDER_NOT_FOUND")] * 2


async def test_who_is_let_in_is_not_noted_and_nor_are_mistakes(issuer: TestIssuer) -> None:
    record = Record()
    mine, staff = bearer(issuer.token()), bearer(issuer.token(sub=OTHER, roles=["support"]))
    async with guarded(await issuer.trusted(), denied=record.note) as stub:
        await stub.GetOrder(pb.GetOrderRequest(order_id=ORDER), **mine)
        await refusal(stub.GetOrder(pb.GetOrderRequest(order_id="no id"), **mine))
        await refusal(stub.GetOrder(pb.GetOrderRequest(order_id=OTHER), **staff))
    assert record.rows == []


async def test_an_act_of_staff_is_told_apart_from_that_of_an_owner(issuer: TestIssuer) -> None:
    cancel = pb.CancelOrderRequest(order_id=ORDER, reason="late", request_id="r")
    async with guarded(await issuer.trusted()) as stub:
        owner = await stub.CancelOrder(cancel, **bearer(issuer.token()))
        staff = await stub.CancelOrder(cancel, **bearer(issuer.token(sub=OTHER, roles=["support"])))
    assert (owner.order_id, staff.order_id) == ("None", repr({"order_id": ORDER}))


async def test_the_operator_is_on_record_and_other_workloads_are_not(issuer: TestIssuer) -> None:
    made: list[dict[str, str] | None] = []

    class Users(user_pb2_grpc.UserServiceServicer):
        async def CreateAdministrator(
            self, request: user_pb2.CreateAdministratorRequest, context: Any
        ) -> user_pb2.User:
            made.append(_request().act)
            return user_pb2.User()

        async def IssueActivationToken(
            self, request: user_pb2.IssueActivationTokenRequest, context: Any
        ) -> user_pb2.IssueActivationTokenResponse:
            made.append(_request().act)
            return user_pb2.IssueActivationTokenResponse()

    tokens = await issuer.trusted()
    users: Any = Users()  # type: ignore[abstract]
    for workload in ("operator", "notification"):
        async with serving(
            (user_pb2_grpc.add_UserServiceServicer_to_server, users),
            files=[user_pb2.DESCRIPTOR],
            access=Access(tokens, lambda _context, name=workload: name),  # type: ignore[misc]
        ) as channel:
            stub = user_pb2_grpc.UserServiceStub(channel)
            if workload == "operator":
                await stub.CreateAdministrator(
                    user_pb2.CreateAdministratorRequest(
                        email="a@b.org", username="root", password="correct horse battery", request_id="r"
                    )
                )
            else:
                await stub.IssueActivationToken(
                    user_pb2.IssueActivationTokenRequest(user_id=USER, request_id="r")
                )
    assert made == [{}, None]
