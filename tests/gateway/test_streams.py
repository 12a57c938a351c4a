"""Streams over HTTP: framing, ends, resumption, and clients of every kind."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import grpc
import httpx
import orjson
import pytest

from gateway import app, framing, http1
from gateway.app import Settings
from gateway.limits import Plan
from gateway.streams import Limits
from tests.gateway.world import Answer, Backend, Client, Seen, World

pytestmark = pytest.mark.asyncio(loop_scope="module")

EVENTS = {"accept": "text/event-stream"}
FOLLOW = "/v1/shelves/7:follow"


@asynccontextmanager
async def an_edge(
    world: World, backend: Backend, limits: Limits, rates: Plan | None = None
) -> AsyncIterator[Client]:
    """An edge of its own with these limits."""
    backend.forget()
    settings = Settings(operations_port=0, drain_max_s=5, streams=limits, rates=rates)
    gateway = app.build(world.files, [f"127.0.0.1:{backend.port}"], settings)
    async with AsyncExitStack() as stack:
        running = await stack.enter_async_context(app.running(gateway))
        http = await stack.enter_async_context(
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{running.port}", timeout=10)
        )
        assert running.operations_port is not None
        yield Client(http, backend, world, running.port, running.operations_port)


def move(world: World, version: int, title: str = "") -> bytes:
    return bytes(
        world.new("Move", at={"version": version} if version else None, title=title).SerializeToString()
    )


def moves(world: World, *versions: int) -> Answer:
    async def write(context: Any, _seen: Seen) -> None:
        for version in versions:
            await context.write(move(world, version, f"t{version}"))

    return write


def then(first: Answer, code: grpc.StatusCode, message: str) -> Answer:
    async def write(context: Any, seen: Seen) -> None:
        await first(context, seen)
        await context.abort(code, message)

    return write


def then_silence(first: Answer) -> Answer:
    async def write(context: Any, seen: Seen) -> None:
        await first(context, seen)
        await asyncio.Event().wait()

    return write


async def nothing(_context: Any, _seen: Seen) -> None:
    pass


def events(text: str) -> list[dict[str, str]]:
    """What a browser would be told: fields by name, comments left out."""
    assert text.endswith("\n\n")
    found = []
    for block in text.removesuffix("\n\n").split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if not line.startswith(":"))
        if fields:
            found.append(fields)
    return found


def reason(error: str) -> str:
    body = orjson.loads(error)["error"]
    return next(str(detail["reason"]) for detail in body["details"] if "reason" in detail)


async def metrics(edge: Client) -> str:
    return (await edge.http.get(f"http://127.0.0.1:{edge.operations_port}/metrics")).text


# -- framing ---------------------------------------------------------------------------------------


async def test_events_carry_the_contracts_number(edge: Client) -> None:
    edge.backend.answers["Follow"] = moves(edge.world, 1, 2, 9_007_199_254_740_993)
    response = await edge("GET", FOLLOW, headers=EVENTS)
    assert (response.status_code, response.headers["content-type"]) == (200, "text/event-stream")
    assert (response.headers["cache-control"], response.headers["vary"]) == ("no-store", "accept")
    assert "content-length" not in response.headers
    retry, *told = events(response.text)
    assert retry == {"retry": str(framing.RETRY_MS)}
    assert [event["id"] for event in told] == ["1", "2", "9007199254740993"]
    assert orjson.loads(told[1]["data"]) == {"at": {"version": "2"}, "title": "t2"}
    assert edge.received("FollowRequest").shelf_id == "7"


async def test_a_contract_that_numbers_nothing_gets_no_ids_and_no_hurry(edge: Client) -> None:
    async def write(context: Any, _seen: Seen) -> None:
        await context.write(edge.world.new("Shelf", title="a\nb\r").SerializeToString())

    edge.backend.answers["Watch"] = write
    told, end = events((await edge("GET", "/v1/shelves/7:watch", headers=EVENTS)).text)
    assert told == {"data": '{"title":"a\\nb\\r"}'}
    assert end["event"] == "end"


async def test_lines_are_what_everyone_else_gets(edge: Client) -> None:
    edge.backend.answers["Follow"] = moves(edge.world, 1, 2)
    for method, target, more in (
        ("GET", FOLLOW, {}),
        ("GET", FOLLOW, {"headers": {"accept": "application/x-ndjson"}}),
        ("POST", "/v1/shelves:follow", {"json": {"shelfId": "7"}}),
    ):
        response = await edge(method, target, **more)
        assert response.headers["content-type"] == "application/x-ndjson"
        assert response.text == '{"at":{"version":"1"},"title":"t1"}\n{"at":{"version":"2"},"title":"t2"}\n'


async def test_a_response_body_is_a_field_of_each_message_and_ids_come_from_the_whole(edge: Client) -> None:
    edge.backend.answers["Follow"] = moves(edge.world, 1, 2)
    assert (await edge("GET", "/v1/shelves/7/titles")).text == '"t1"\n"t2"\n'
    _, told, _ = events((await edge("GET", "/v1/shelves/7/titles", headers=EVENTS)).text)
    assert told == {"id": "1", "data": '"t1"'}


async def test_raw_chunks_are_joined_under_the_first_ones_type(edge: Client) -> None:
    async def write(context: Any, _seen: Seen) -> None:
        for kind, data in (("image/png", b"\x89P"), ("text/plain", b"NG"), ("", b"")):
            body = edge.world.new("google.api.HttpBody", content_type=kind, data=data)
            await context.write(body.SerializeToString())

    edge.backend.answers["Fetch"] = write
    response = await edge("GET", "/v1/pictures/1:fetch", headers=EVENTS)
    assert (response.headers["content-type"], response.content) == ("image/png", b"\x89PNG")
    edge.backend.answers["Fetch"] = nothing
    empty = await edge("GET", "/v1/pictures/1:fetch")
    assert (empty.status_code, empty.content) == (200, b"")


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("text/event-stream", True),
        ("Text/Event-Stream; charset=utf-8", True),
        ("text/html, text/event-stream;q=0.1, */*", True),
        ("application/x-ndjson;q=0.5, text/event-stream;q=0.9", True),
        ("application/x-ndjson, text/event-stream;q=0.9", False),
        ("text/event-stream;q=0", False),
        ("text/*", False),
        ("*/*", False),
        ("", False),
        ("text/event-stream;q=x, application/x-ndjson;q=0.2", True),
    ],
)
async def test_events_are_for_who_names_them(accept: str, wanted: bool) -> None:  # noqa: FBT001
    assert framing.prefers_events(accept.encode()) is wanted


async def test_head_tells_the_head_and_ends_the_call(world: World, backend: Backend) -> None:
    async with an_edge(world, backend, Limits(head_max_s=60)) as edge, asyncio.timeout(10):
        edge.backend.answers["Follow"] = then_silence(moves(world, 1))
        response = await edge("HEAD", FOLLOW, headers=EVENTS)
        assert (response.status_code, response.content) == (200, b"")
        assert response.headers["content-type"] == "text/event-stream"
        await edge.backend.calls[0].cancelled.wait()


# -- resuming --------------------------------------------------------------------------------------


async def test_the_last_event_id_is_where_a_stream_resumes_and_outdoes_the_query(edge: Client) -> None:
    edge.backend.answers["Follow"] = moves(edge.world, 6)
    await edge("GET", f"{FOLLOW}?afterVersion=2", headers={**EVENTS, "last-event-id": "5"})
    assert edge.received("FollowRequest").after_version == 5


async def test_a_last_event_id_of_nobodys_making_is_refused(edge: Client) -> None:
    for value in (b"x", b"1.5", b"\xff"):
        response = await edge("GET", FOLLOW, headers={**EVENTS, "last-event-id": value})
        assert response.status_code == 400
        assert "Last-Event-ID" in response.text
    assert edge.backend.calls == []
    ignored = await edge("GET", "/v1/shelves/7:watch", headers={"last-event-id": "x"})
    assert ignored.status_code == 200


async def test_a_stream_that_resumes_ends_so_that_browsers_come_back(edge: Client) -> None:
    """Their services end them with OK at a deadline or a restart, which is no end to whoever watches."""
    response = await edge("GET", FOLLOW, headers={**EVENTS, "last-event-id": "5"})
    assert (response.status_code, events(response.text)) == (200, [{"retry": "1000"}])
    other = await edge("GET", "/v1/shelves/7:watch", headers=EVENTS)
    assert events(other.text) == [{"event": "end", "data": "{}"}]


# -- failures --------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", [FOLLOW, "/v1/pictures/1:fetch"])
async def test_a_refusal_before_the_first_message_is_a_status(edge: Client, target: str) -> None:
    for method in ("Follow", "Fetch"):
        edge.backend.answers[method] = then(nothing, grpc.StatusCode.NOT_FOUND, "no such shelf")
    response = await edge("GET", target, headers=EVENTS)
    assert (response.status_code, response.headers["content-type"]) == (404, "application/json")
    assert response.json()["error"]["message"] == "no such shelf"


async def test_an_error_after_the_head_is_the_last_thing_said(edge: Client) -> None:
    edge.backend.answers["Follow"] = then(moves(edge.world, 1), grpc.StatusCode.RESOURCE_EXHAUSTED, "enough")
    *_, told, error = events((await edge("GET", FOLLOW, headers=EVENTS)).text)
    assert (told["id"], error["event"]) == ("1", "error")
    body = orjson.loads(error["data"])["error"]
    assert (body["code"], body["status"], body["message"]) == (429, "RESOURCE_EXHAUSTED", "enough")
    first, last = (await edge("GET", FOLLOW)).text.splitlines()
    assert "at" in orjson.loads(first)
    assert orjson.loads(last)["error"] == body


async def test_a_crash_behind_a_stream_shows_none_of_its_text(edge: Client) -> None:
    async def crash(context: Any, seen: Seen) -> None:
        await moves(edge.world, 1)(context, seen)
        raise RuntimeError("secret")

    edge.backend.answers["Follow"] = crash
    *_, error = events((await edge("GET", FOLLOW, headers=EVENTS)).text)
    assert orjson.loads(error["data"])["error"]["message"] == "Something went wrong."


async def test_a_message_without_json_form_ends_the_stream_and_the_call(edge: Client) -> None:
    async def write(context: Any, seen: Seen) -> None:
        await moves(edge.world, 1)(context, seen)
        await context.write(b"\xff")
        await asyncio.Event().wait()

    edge.backend.answers["Follow"] = write
    *_, error = events((await edge("GET", FOLLOW, headers=EVENTS)).text)
    assert orjson.loads(error["data"])["error"]["code"] == 500
    async with asyncio.timeout(5):
        await edge.backend.calls[0].cancelled.wait()


async def test_raw_bytes_that_break_off_do_not_look_whole(edge: Client) -> None:
    async def write(context: Any, _seen: Seen) -> None:
        await context.write(edge.world.new("google.api.HttpBody", data=b"half").SerializeToString())
        await context.abort(grpc.StatusCode.DATA_LOSS, "no more")

    edge.backend.answers["Fetch"] = write
    with pytest.raises(httpx.RemoteProtocolError):
        await edge("GET", "/v1/pictures/1:fetch")


async def test_a_deadline_that_passes_is_told(edge: Client) -> None:
    edge.backend.answers["Follow"] = then_silence(moves(edge.world, 1))
    response = await edge("GET", FOLLOW, headers={**EVENTS, "x-request-timeout": "0.2"})
    *_, error = events(response.text)
    assert orjson.loads(error["data"])["error"]["status"] == "DEADLINE_EXCEEDED"


@pytest.mark.parametrize(
    ("target", "asked", "least_s", "most_s"),
    [
        (FOLLOW, None, 1700, 1800),
        (FOLLOW, "600", 500, 600),
        (FOLLOW, "99999", 3500, 3600),
        ("/v1/shelves/7:watch", None, 3500, 3600),
    ],
)
async def test_a_stream_lives_as_long_as_asked_or_as_its_contract_says(
    edge: Client, target: str, asked: str | None, least_s: float, most_s: float
) -> None:
    await edge("GET", target, headers={"x-request-timeout": asked} if asked else {})
    assert least_s < edge.backend.calls[0].time_remaining_s <= most_s


async def test_http_1_0_has_no_streams(edge: Client) -> None:
    answer = await said(edge, b"GET /v1/shelves/7:follow HTTP/1.0\r\nHost: a\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 505 ")
    assert edge.backend.calls == []


async def said(edge: Client, data: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    writer.write(data)
    async with asyncio.timeout(5):
        found = await reader.read()
    writer.close()
    return found


# -- clients of every kind -------------------------------------------------------------------------


@pytest.mark.parametrize("accept", ["text/event-stream", "application/x-ndjson"])
async def test_a_client_that_leaves_takes_the_call_along(edge: Client, accept: str) -> None:
    edge.backend.answers["Follow"] = then_silence(moves(edge.world, 1))
    async with edge.http.stream("GET", FOLLOW, headers={"accept": accept}) as response:
        await anext(response.aiter_bytes())
    async with asyncio.timeout(5):
        await edge.backend.calls[0].cancelled.wait()


async def test_what_is_pipelined_behind_a_stream_goes_unheard_and_hides_no_leaving(edge: Client) -> None:
    edge.backend.answers["Follow"] = then_silence(moves(edge.world, 1))
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    get = b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n"
    writer.write(get % FOLLOW.encode() + get % b"/v1/shelves/8" * 100)
    async with asyncio.timeout(5):
        await reader.readuntil(b'"t1"}\n')
    writer.write(get % b"/v1/shelves/9")
    writer.close()
    async with asyncio.timeout(5):
        await edge.backend.calls[0].cancelled.wait()
    assert len(edge.backend.calls) == 1


async def test_a_silent_stream_opens_and_shows_that_it_lives(world: World, backend: Backend) -> None:
    async with an_edge(world, backend, Limits(head_max_s=0.05, heartbeat_s=0.05)) as edge:
        edge.backend.answers["Follow"] = then_silence(nothing)
        async with asyncio.timeout(5), edge.http.stream("GET", FOLLOW, headers=EVENTS) as response:
            assert response.status_code == 200
            lines = response.aiter_lines()
            assert [await anext(lines) for _ in range(6)] == ["retry: 1000", "", ":", "", ":", ""]
        async with asyncio.timeout(5), edge.http.stream("GET", FOLLOW) as response:
            assert response.status_code == 200
        head = await edge("HEAD", FOLLOW)
        assert head.status_code == 200


async def test_a_refusal_after_the_head_went_out_is_the_streams_end(world: World, backend: Backend) -> None:
    async with an_edge(world, backend, Limits(head_max_s=0.01)) as edge:
        asked = asyncio.Event()

        async def refuse(context: Any, _seen: Seen) -> None:
            await asked.wait()
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such shelf")

        edge.backend.answers["Follow"] = refuse
        async with asyncio.timeout(5), edge.http.stream("GET", FOLLOW, headers=EVENTS) as response:
            asked.set()
            assert response.status_code == 200
            *_, error = events((await response.aread()).decode())
        assert orjson.loads(error["data"])["error"]["code"] == 404


def endless(world: World) -> Answer:
    async def write(context: Any, seen: Seen) -> None:
        version = 0
        while True:
            version += 1
            await context.write(move(world, version, "x" * 100_000))

    return write


async def a_stalled_client(edge: Client) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Asks for events and reads none until it is cut off in the edge."""
    stalled = socket.socket()
    stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    stalled.setblocking(False)
    await asyncio.get_running_loop().sock_connect(stalled, ("127.0.0.1", edge.port))
    reader, writer = await asyncio.open_connection(sock=stalled, limit=4096)
    writer.write(b"GET %b HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n" % FOLLOW.encode())
    async with asyncio.timeout(10):
        await edge.backend.arrived.wait()
        await edge.backend.calls[0].ended.wait()
    return reader, writer


async def test_a_client_that_takes_nothing_is_told_and_cut(world: World, backend: Backend) -> None:
    async with an_edge(world, backend, Limits(stall_max_s=0.2)) as edge:
        edge.backend.answers["Follow"] = endless(world)
        reader, writer = await a_stalled_client(edge)
        async with asyncio.timeout(5):
            tail = (await reader.read())[-1000:]
        writer.close()
        assert tail.endswith(b"\r\n0\r\n\r\n")
        assert b"event: error\ndata: " in tail
        assert b'"reason":"CLIENT_TOO_SLOW"' in tail
        assert (
            'stream_ends_total{http_method="GET",http_route="/v1/shelves/{shelf_id}:follow",outcome="slow"} 1'
            in (await metrics(edge))
        )


async def test_a_client_that_takes_nothing_does_not_linger(
    world: World, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http1, "LINGER_S", 0.0)
    async with an_edge(world, backend, Limits(stall_max_s=0.05)) as edge:
        edge.backend.answers["Follow"] = endless(world)
        reader, writer = await a_stalled_client(edge)
        async with asyncio.timeout(5):
            while "http_server_streams_open 0.0" not in await metrics(edge):
                pass
            assert not (await reader.read()).endswith(b"\r\n0\r\n\r\n")
        writer.close()


async def test_a_slow_client_holds_its_backend_back(world: World, backend: Backend) -> None:
    """Nothing piles up: gRPC's flow control reaches through, and who reads on gets every message in order."""
    async with an_edge(world, backend, Limits()) as edge:
        count = 200
        written = 0

        async def write(context: Any, _seen: Seen) -> None:
            nonlocal written
            for version in range(1, count + 1):
                await context.write(move(world, version, "x" * 100_000))
                written += 1

        edge.backend.answers["Follow"] = write
        async with asyncio.timeout(20), edge.http.stream("GET", FOLLOW) as response:
            lines = response.aiter_lines()
            first = await anext(lines)
            assert written < count / 2
            versions = [1, *[int(orjson.loads(line)["at"]["version"]) async for line in lines]]
        assert orjson.loads(first)["at"] == {"version": "1"}
        assert versions == list(range(1, count + 1))


async def test_there_are_only_so_many_streams_and_other_requests_pass(world: World, backend: Backend) -> None:
    async with an_edge(world, backend, Limits(open_max=1)) as edge:
        edge.backend.answers["Follow"] = then_silence(moves(world, 1))
        async with asyncio.timeout(10), edge.http.stream("GET", FOLLOW) as response:
            lines = response.aiter_lines()  # kept: without it httpx would leave
            await anext(lines)
            refused = await edge("GET", FOLLOW)
            assert (refused.status_code, reason(refused.text)) == (503, "TOO_MANY_STREAMS")
            assert refused.headers["retry-after"] == "1"
            assert (await edge("GET", "/v1/shelves/1")).status_code == 200
            assert "http_server_streams_open 1.0" in await metrics(edge)


@pytest.mark.parametrize(
    ("rates", "status"), [(Plan(), 429), (Plan(exempt=("127.0.0.0/8",)), 200), (None, 200)]
)
async def test_one_address_may_have_only_so_many_streams(
    world: World, backend: Backend, rates: Plan | None, status: int
) -> None:
    async with an_edge(world, backend, Limits(open_per_caller_max=2), rates) as edge, asyncio.timeout(10):
        edge.backend.answers["Follow"] = then_silence(moves(world, 1))
        async with edge.http.stream("GET", FOLLOW) as first, edge.http.stream("GET", FOLLOW) as second:
            lines = [response.aiter_lines() for response in (first, second)]  # kept: else httpx would leave
            for line in lines:
                await anext(line)
            async with edge.http.stream("GET", FOLLOW) as third:
                assert third.status_code == status
                if status == 429:
                    assert reason((await third.aread()).decode()) == "TOO_MANY_OWN_STREAMS"
                    assert third.headers["retry-after"] == "1"
        while "http_server_streams_open 0.0" not in await metrics(edge):
            pass
        async with edge.http.stream("GET", FOLLOW) as again:
            assert again.status_code == 200, "who closes one may have another"


@pytest.mark.parametrize(
    ("path", "headers", "end"),
    [
        (FOLLOW, EVENTS, ""),
        (FOLLOW, {}, ""),
        ("/v1/shelves/7:watch", EVENTS, "STREAM_IDLE"),
        ("/v1/shelves/7:watch", {}, "STREAM_IDLE"),
    ],
)
async def test_a_stream_that_has_nothing_to_tell_ends(
    world: World, backend: Backend, path: str, headers: dict[str, str], end: str
) -> None:
    limits = Limits(head_max_s=0.01, heartbeat_s=0.05, idle_max_s=0.15)
    async with an_edge(world, backend, limits) as edge, asyncio.timeout(10):
        for name in ("Follow", "Watch"):
            edge.backend.answers[name] = then_silence(nothing)
        answer = await edge("GET", path, headers=headers)
        assert answer.status_code == 200
        *_, last = ["", *filter(None, answer.text.splitlines())]
        assert (end in last) if end else "error" not in answer.text
        await edge.backend.calls[0].cancelled.wait()
        assert 'outcome="idle"} 1.0' in await metrics(edge)


@pytest.mark.parametrize("accept", ["text/event-stream", "application/x-ndjson"])
async def test_draining_ends_streams_with_a_word(world: World, backend: Backend, accept: str) -> None:
    backend.forget()
    backend.answers["Follow"] = then_silence(moves(world, 1))
    gateway = app.build(world.files, [f"127.0.0.1:{backend.port}"], Settings(drain_max_s=30))
    async with AsyncExitStack() as stack, httpx.AsyncClient(timeout=10) as http:
        running = await stack.enter_async_context(app.running(gateway))
        url = f"http://127.0.0.1:{running.port}{FOLLOW}"
        async with http.stream("GET", url, headers={"accept": accept}) as response:
            lines = response.aiter_lines()
            while '"t1"' not in await anext(lines):
                pass
            async with asyncio.timeout(4):  # less than draining would wait for a request
                await stack.aclose()
                rest = [line.removeprefix("data: ") async for line in lines]
        assert reason(next(line for line in rest if line.startswith("{"))) == "DRAINING"


async def test_every_watcher_of_many_sees_every_version_in_order(edge: Client) -> None:
    watchers, versions = 100, range(1, 21)
    edge.backend.answers["Follow"] = moves(edge.world, *versions)

    async def watch(http: httpx.AsyncClient) -> list[int]:
        response = await http.get(FOLLOW, headers=EVENTS)
        return [int(event["id"]) for event in events(response.text) if "id" in event]

    limits = httpx.Limits(max_connections=watchers)
    async with httpx.AsyncClient(base_url=str(edge.http.base_url), timeout=20, limits=limits) as http:
        seen = await asyncio.gather(*[watch(http) for _ in range(watchers)])
    assert seen == [list(versions)] * watchers
