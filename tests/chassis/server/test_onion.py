"""The server onion on a real server, seen from a real client."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2

from services.chassis import context, status, telemetry
from services.chassis.contract import ContractError, Method
from services.chassis.metrics import Metrics
from services.chassis.server import Onion
from services.chassis.server.access import Everyone
from services.chassis.server.gate import Guard
from services.chassis.testing import serving
from services.kernel import errors
from services.kernel.clock import SystemClock
from tests.chassis import playground
from tests.chassis.playground import Ping, Pong, Stub

WAIT_S = 5.0


class ShelfEmpty(errors.WrongState):
    """Shelf {shelf} is empty."""


class ShelfBusy(errors.Unavailable):
    """Shelf {shelf} is busy."""

    retry_after_s = 1.5


@asynccontextmanager
async def playing(metrics: Metrics | None = None, **handlers: Any) -> AsyncIterator[Stub]:
    async with serving(
        (playground.add_to_server, handlers), files=[playground.FILE], metrics=metrics
    ) as channel:
        yield Stub(channel)


async def refusal(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    return raised.value


def bare(stub: Stub, name: str) -> Any:
    """The method without our client's layers, taking and giving bytes."""
    channel: Any = stub._channel
    return channel.raw.unary_unary(f"/{playground.SERVICE}/{name}")


async def echo(request: Any, _context: Any) -> Any:
    return Pong(name=request.name)


async def test_a_reply_comes_back() -> None:
    async with playing(Read=echo) as stub:
        assert (await stub.Read(Ping(name="hi"))).name == "hi"


async def test_a_domain_error_arrives_as_code_reason_and_details() -> None:
    async def handler(_request: Any, _context: Any) -> Any:
        raise ShelfEmpty(shelf="A7")

    async with playing(Write=handler) as stub:
        error = await refusal(stub.Write(Ping()))
    assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert error.details() == "Shelf A7 is empty."
    assert status.reason(error) == "SHELF_EMPTY"
    assert status.metadata(error) == {"shelf": "A7"}
    failure = status.detail(error, error_details_pb2.PreconditionFailure)
    assert failure is not None
    assert failure.violations[0].type == "SHELF_EMPTY"


async def test_an_exceptions_text_never_leaves_and_is_logged_once_with_its_stack() -> None:
    async def handler(_request: Any, _context: Any) -> Any:
        raise ValueError("the vault opens with xyzzy")

    with telemetry.captured() as lines:
        async with playing(Fire=handler) as stub:
            error = await refusal(stub.Fire(Ping()))
    assert error.code() is grpc.StatusCode.INTERNAL
    assert status.reason(error) == "INTERNAL"
    sent = f"{error.details()} {error.trailing_metadata()} {error.debug_error_string()}"
    assert "xyzzy" not in sent
    assert "ValueError" not in sent
    logged = [line for line in lines if "xyzzy" in str(line)]
    assert len(logged) == 1
    assert "Traceback" in logged[0]["stack"]
    assert status.metadata(error)["trace_id"] == logged[0]["trace_id"]


@pytest.mark.parametrize("returned", [None, "text", Ping()])
async def test_a_wrong_reply_is_a_bug_and_says_nothing(returned: object) -> None:
    async def handler(_request: Any, _context: Any) -> Any:
        return returned

    with telemetry.captured():
        async with playing(Fire=handler) as stub:
            error = await refusal(stub.Fire(Ping()))
    assert (error.code(), error.details()) == (grpc.StatusCode.INTERNAL, "internal error")


async def test_a_neighbour_that_does_not_answer_makes_us_unavailable() -> None:
    async def handler(_request: Any, _context: Any) -> Any:
        raise grpc.aio.AioRpcError(
            grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata(), "tcp 10.0.0.7 refused"
        )

    with telemetry.captured():
        async with playing(Fire=handler) as stub:
            error = await refusal(stub.Fire(Ping()))
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert status.reason(error) == "NEIGHBOUR_UNAVAILABLE"
    assert "10.0.0.7" not in str(error.details())


async def test_a_neighbours_refusal_that_nobody_handled_is_a_bug() -> None:
    async def handler(_request: Any, _context: Any) -> Any:
        raise grpc.aio.AioRpcError(
            grpc.StatusCode.NOT_FOUND, grpc.aio.Metadata(), grpc.aio.Metadata(), "no such thing over there"
        )

    with telemetry.captured():
        async with playing(Fire=handler) as stub:
            error = await refusal(stub.Fire(Ping()))
    assert error.code() is grpc.StatusCode.INTERNAL
    assert "over there" not in str(error.details())


async def test_unavailable_says_when_to_come_back() -> None:
    async def handler(_request: Any, _context: Any) -> Any:
        raise ShelfBusy(shelf="A7")

    async with playing(Fire=handler) as stub:
        error = await refusal(stub.Fire(Ping()))
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert status.retry_after_s(error) == 1.5


async def test_a_remembered_refusal_is_sent_as_it_was() -> None:
    async def handler(_request: Any, _context: Any) -> Any:
        raise status.Refused(status.from_error(ShelfEmpty(shelf="B1")))

    async with playing(Fire=handler) as stub:
        error = await refusal(stub.Fire(Ping()))
    assert status.metadata(error) == {"shelf": "B1"}


async def test_all_violations_are_named_at_once() -> None:
    bad = Ping(name="x" * 21, count=-1, lines=[{"quantity": 1}, {"quantity": 0}])
    async with playing(Fire=echo) as stub:
        error = await refusal(stub.Fire(bad))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    found = status.detail(error, error_details_pb2.BadRequest)
    assert found is not None
    assert {(violation.field, violation.reason) for violation in found.field_violations} == {
        ("name", "string.max_len"),
        ("count", "int32.gte"),
        ("lines[1].quantity", "int32.gt"),
    }
    assert all(violation.description for violation in found.field_violations)


async def test_a_secret_is_not_repeated_by_the_rule_that_refuses_it() -> None:
    async with playing(Fire=echo) as stub:
        error = await refusal(stub.Fire(Ping(secret="open sesame")))
    found = status.detail(error, error_details_pb2.BadRequest)
    assert found is not None
    assert found.field_violations[0].field == "secret"
    assert "sesame" not in f"{error.details()} {found}"


async def test_thousands_of_violations_still_arrive_as_a_status() -> None:
    async with playing(Fire=echo) as stub:
        error = await refusal(stub.Fire(Ping(lines=[{"quantity": 0}] * 5000)))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert status.reason(error) == "INVALID_REQUEST"
    assert status.metadata(error)["count"] == "5000"
    assert status.detail(error, error_details_pb2.BadRequest) is not None


@pytest.mark.parametrize("raw", [b"\x0a\x02\xff\xfe", b"\xff\xff\xff", b"\x0a\x7f"])
async def test_bytes_that_are_no_message_are_refused_in_our_words(raw: bytes) -> None:
    with telemetry.captured() as lines:
        async with playing(Fire=echo) as stub:
            error = await refusal(bare(stub, "Fire")(raw))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert status.reason(error) == "MALFORMED_REQUEST"
    assert [line["code"] for line in lines if line["event"] == "call"] == ["INVALID_ARGUMENT"]


async def test_a_method_nobody_implements_is_unimplemented() -> None:
    async with playing(Read=echo) as stub:
        error = await refusal(stub.Fire(Ping()))
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_the_handler_knows_its_deadline() -> None:
    seen = []

    async def handler(_request: Any, _context: Any) -> Any:
        request = context.current()
        assert request is not None
        assert request.deadline is not None
        seen.append(request.deadline - SystemClock().monotonic())
        return Pong()

    async with playing(Read=handler) as stub:
        raw = bare(stub, "Read")
        for timeout_s in (None, 3.0, 5000.0):
            await raw(b"", timeout=timeout_s)
    contract_s, asked_s, capped_s = seen
    assert 19 < contract_s <= 20
    assert 2 < asked_s < 3.1  # grpc rounds timeouts up a little on the wire
    assert 59 < capped_s <= 60


async def test_a_call_without_a_deadline_gets_its_contracts_and_is_held_to_it() -> None:
    ended = asyncio.Event()

    async def handler(_request: Any, _context: Any) -> Any:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with playing(Quick=handler) as stub:
        raw = bare(stub, "Quick")
        error = await refusal(raw(b""))
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert status.reason(error) == "DEADLINE_EXCEEDED"
    assert ended.is_set()


class SlowDoor:
    """Lets everybody in, later than a call of Quick may take."""

    def guard(self, method: Method) -> Guard:
        async def later() -> None:
            await asyncio.sleep(1.1 * method.deadline_s)

        return lambda _request, _call, _context: later()


async def test_a_handler_is_not_begun_when_its_time_went_by_at_a_gate() -> None:
    begun = []

    async def handler(_request: Any, _context: Any) -> Any:
        begun.append(True)
        return Pong()

    handlers = {"Quick": handler}
    async with serving(
        (playground.add_to_server, handlers), files=[playground.FILE], access=SlowDoor()
    ) as channel:
        error = await refusal(bare(Stub(channel), "Quick")(b""))
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert begun == []


async def test_a_handlers_own_timeout_is_not_mistaken_for_the_deadline() -> None:
    async def handler(_request: Any, _context: Any) -> Any:
        raise TimeoutError

    with telemetry.captured():
        async with playing(Quick=handler) as stub:
            raw = bare(stub, "Quick")
            error = await refusal(raw(b""))
    assert error.code() is grpc.StatusCode.INTERNAL


async def test_a_client_that_leaves_cancels_the_handler() -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def handler(_request: Any, _context: Any) -> Any:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.set()
            raise

    with telemetry.captured() as lines:
        async with playing(Fire=handler) as stub:
            call = asyncio.ensure_future(stub.Fire(Ping()))
            await asyncio.wait_for(begun.wait(), WAIT_S)
            call.cancel()
            await asyncio.wait_for(ended.wait(), WAIT_S)
    assert [line["code"] for line in lines if line["event"] == "call"] == ["CANCELLED"]


async def test_one_log_line_per_call_with_the_callers_trace() -> None:
    trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"

    async def handler(request: Any, _context: Any) -> Any:
        at_hand = context.current()
        assert at_hand is not None
        at_hand.labels["order_id"] = "o-1"
        return Pong(name=request.name)

    with telemetry.captured() as lines:
        async with playing(Fire=handler) as stub:
            raw = bare(stub, "Fire")
            await raw(
                Ping(name="private").SerializeToString(),
                metadata=(("traceparent", f"00-{trace_id}-00f067aa0ba902b7-01"),),
            )
    (line,) = [line for line in lines if line["event"] == "call"]
    assert line["trace_id"] == trace_id
    assert line["span_id"] != "00f067aa0ba902b7"
    assert line["method"] == f"/{playground.SERVICE}/Fire"
    assert line["code"] == "OK"
    assert line["order_id"] == "o-1"
    assert line["duration_ms"] > 0
    assert "private" not in str(line)


async def test_the_request_context_ends_with_the_call() -> None:
    async with playing(Read=echo) as stub:
        await stub.Read(Ping())
    assert context.current() is None


async def test_metrics_count_every_call_by_code() -> None:
    async def handler(request: Any, _context: Any) -> Any:
        if request.name == "no":
            raise ShelfEmpty(shelf="A")
        return Pong()

    metrics = Metrics()
    async with playing(metrics, Read=handler) as stub:
        await stub.Read(Ping())
        await refusal(stub.Read(Ping(name="no")))
    labels = {"grpc_service": playground.SERVICE, "grpc_method": "Read"}

    def value(name: str, **more: str) -> float | None:
        return metrics.registry.get_sample_value(name, labels | more)

    assert value("grpc_server_started_total") == 2
    assert value("grpc_server_handled_total", grpc_code="OK") == 1
    assert value("grpc_server_handled_total", grpc_code="FAILED_PRECONDITION") == 1
    assert value("grpc_server_handling_seconds_count") == 2
    assert value("grpc_server_in_flight") == 0


async def numbers(request: Any, _context: Any) -> Any:
    for number in range(request.count):
        yield Pong(name=str(number))


async def test_a_stream_passes_through_the_same_layers() -> None:
    with telemetry.captured() as lines:
        async with playing(Watch=numbers) as stub:
            assert [reply.name async for reply in stub.Watch(Ping(count=3))] == ["0", "1", "2"]
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                _ = [reply async for reply in stub.Watch(Ping(count=-1))]
    assert status.reason(raised.value) == "INVALID_REQUEST"
    assert [line["code"] for line in lines if line["event"] == "call"] == ["OK", "INVALID_ARGUMENT"]


async def test_a_stream_that_fails_midway_keeps_its_secrets() -> None:
    async def handler(_request: Any, _context: Any) -> Any:
        yield Pong(name="first")
        raise ValueError("the vault opens with xyzzy")

    with telemetry.captured():
        async with playing(Watch=handler) as stub:
            replies = aiter(stub.Watch(Ping()))
            assert (await anext(replies)).name == "first"
            error = await refusal(anext(replies))
    assert error.code() is grpc.StatusCode.INTERNAL
    assert "xyzzy" not in str(error.trailing_metadata())


async def test_a_stream_without_a_deadline_gets_its_contracts() -> None:
    ended = asyncio.Event()

    async def handler(_request: Any, _context: Any) -> Any:
        try:
            yield Pong(name="first")
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with playing(Glance=handler) as stub:
        replies = aiter(stub.Glance(Ping()))
        assert (await anext(replies)).name == "first"
        error = await refusal(anext(replies))
    assert status.reason(error) == "DEADLINE_EXCEEDED"
    assert ended.is_set()


async def test_a_stream_may_take_an_hour_where_its_contract_says_so_and_no_longer() -> None:
    seen = []

    async def handler(_request: Any, _context: Any) -> Any:
        request = context.current()
        assert request is not None
        assert request.deadline is not None
        seen.append(request.deadline - SystemClock().monotonic())
        yield Pong()

    async with playing(Stare=handler) as stub:
        channel: Any = stub._channel
        raw = channel.raw.unary_stream(f"/{playground.SERVICE}/Stare")
        calls = (
            partial(stub.Stare, Ping()),
            partial(raw, b""),
            partial(raw, b"", timeout=3.0),
            partial(raw, b"", timeout=5000.0),
        )
        for call in calls:  # one after the other: calls begin when they are made
            assert len([reply async for reply in call()]) == 1
    ours_s, contract_s, asked_s, capped_s = seen
    assert 3590 < ours_s <= 3600
    assert 3590 < contract_s <= 3600
    assert 2 < asked_s < 3.1
    assert 3590 < capped_s <= 3600


async def test_a_reader_that_leaves_ends_the_stream_at_once() -> None:
    ended = asyncio.Event()
    tasks = []

    async def handler(_request: Any, _context: Any) -> Any:
        tasks.append(asyncio.current_task())
        try:
            while True:  # never waits for anything of its own: the write must notice
                yield Pong(name="x" * 1000)
        finally:
            tasks.append(asyncio.current_task())
            ended.set()

    with telemetry.captured() as lines:
        async with playing(Watch=handler) as stub:
            call = stub.Watch(Ping())
            await anext(aiter(call))
            call.cancel()
            await asyncio.wait_for(ended.wait(), WAIT_S)
    assert tasks[0] is tasks[1], "closed by its own call, not by the garbage collector"
    assert [line["code"] for line in lines if line["event"] == "call"] == ["CANCELLED"]


def test_what_cannot_be_served_is_refused_at_registration() -> None:
    async def coroutine(_request: Any, _context: Any) -> Any: ...

    def plain(_request: Any, _context: Any) -> Any: ...

    def register(name: str, handler: Any, *files: Any) -> None:
        onion = Onion(Metrics(), SystemClock(), Everyone())
        onion.serve(_NoServer(), playground.add_to_server, {name: handler}, *files)  # type: ignore[arg-type]

    with pytest.raises(ContractError, match="coroutine function"):
        register("Read", plain, playground.FILE)
    with pytest.raises(ContractError, match="async generator function"):
        register("Watch", coroutine, playground.FILE)
    with pytest.raises(ContractError, match="not declared"):
        register("Read", coroutine)


class _NoServer:
    def add_generic_rpc_handlers(self, handlers: Any) -> None: ...

    def add_registered_method_handlers(self, service: str, handlers: Any) -> None: ...
