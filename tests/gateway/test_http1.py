"""Bytes on the wire that no client library would send."""

import asyncio

import pytest

from gateway import http1
from tests.gateway.world import Client

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def said(edge: Client, data: bytes) -> bytes:
    """Everything the edge says before it closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    writer.write(data)
    try:
        async with asyncio.timeout(5):
            return await reader.read()
    finally:
        writer.close()


@pytest.mark.parametrize(
    "head",
    [
        b"GET /v1/echo HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET foo HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /v1/echo HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n",
        b"GET /v1/\xff HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /v1/echo HTTP/9.9\r\nHost: a\r\n\r\n",
        b"POST /v1/echo HTTP/1.1\r\nHost: a\r\nContent-Length: +2\r\n\r\n{}",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
    ],
)
async def test_what_is_not_http_is_refused_in_our_shape_and_cut_off(edge: Client, head: bytes) -> None:
    answer = await said(edge, head)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b'"status":"INVALID_ARGUMENT"' in answer
    assert edge.backend.calls == []


async def test_a_head_beyond_its_bound_is_431(edge: Client) -> None:
    big = b"a" * (http1.HEAD_BYTES_MAX + 1)
    for head in (
        b"GET /" + big,
        b"GET / HTTP/1.1\r\nHost: a\r\nX: " + big,
        b"GET / HTTP/1.1\r\n" + b"X: a\r\n" * 20_000,
    ):
        assert (await said(edge, head + b"\r\n\r\n")).startswith(b"HTTP/1.1 431 ")


async def test_more_headers_than_anyone_needs_are_431(edge: Client) -> None:
    fits = b"GET /v1/echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\n" + b"X: a\r\n" * (
        http1.HEADERS_MAX - 2
    )
    assert (await said(edge, fits + b"\r\n")).startswith(b"HTTP/1.1 200 ")
    assert (await said(edge, fits + b"X: a\r\n\r\n")).startswith(b"HTTP/1.1 431 ")


async def test_a_request_that_never_arrives_is_dropped(edge: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http1, "ARRIVAL_MAX_S", 0.1)
    assert await said(edge, b"") == b""
    assert await said(edge, b"GET /v1/echo HTTP/1.1\r\nX-Slow: ") == b""
    assert await said(edge, b"POST /v1/echo HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n{") == b""
    assert edge.backend.calls == []
    monkeypatch.setattr(http1, "ARRIVAL_MAX_S", 2.0)  # the answer to the first may take a moment
    whole = b"GET /v1/echo HTTP/1.1\r\nHost: a\r\n\r\n"
    assert (await said(edge, whole + b"GET /v1/echo HTT")).startswith(b"HTTP/1.1 200 ")


async def test_who_asks_before_sending_too_much_is_told_not_to(edge: Client) -> None:
    head = (
        b"POST /v1/echo HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
        b"Content-Length: 900000\r\nExpect: 100-continue\r\n\r\n"
    )
    assert (await said(edge, head)).startswith(b"HTTP/1.1 413 ")


async def test_connections_are_kept_and_pipelined_requests_answered_in_order(edge: Client) -> None:
    one = b"GET /v1/echo?text=%d HTTP/1.1\r\nHost: a\r\n%b\r\n"
    answer = await said(edge, one % (1, b"") + one % (2, b"") + one % (3, b"Connection: close\r\n"))
    assert answer.count(b"HTTP/1.1 200 OK") == 3
    assert answer.index(b'"1"') < answer.index(b'"2"') < answer.index(b'"3"')
