"""One HTTP/1.1 exchange on a connection of its own, byte for byte as a case says; h11 reads the answer."""

import asyncio
import base64
import gzip
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import h11

_PATIENCE_S: Final = 20.0
_CHUNK: Final = 1 << 18

Http = Mapping[str, Any]


@dataclass
class Answer:
    """What came back."""

    status: int = 0
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    complete: bool = False
    trailing: bytes = b""
    """Bytes behind the answer: there must be none."""

    closed: bool = False
    first_line: str = ""
    ms: float = 0.0

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace")

    def header(self, name: str) -> str | None:
        values = [value for given, value in self.headers if given == name]
        return ", ".join(values) if values else None


def built(plan: Mapping[str, Any]) -> str:
    times = plan["times"]
    middle = plan["repeat"] * times + plan.get("mid", "") + plan.get("repeat_end", "") * times
    return f"{plan.get('prefix', '')}{middle}{plan.get('suffix', '')}"


def target(http: Http) -> str:
    return str(http["path"]) if "path" in http else built(http["path_build"])


def request(http: Http, host: str) -> bytes:
    given = http.get("headers", {})
    names = {name.lower() for name in given}
    lines = [f"{http['method']} {target(http)} HTTP/1.1", f"Host: {host}"]
    lines += [f"{name}: {value}" for name, value in given.items()]
    body = _body(http)
    if given.get("transfer-encoding") == "chunked":
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body or b""), body or b"")
    elif "content-length" not in names and (body is not None or http["method"] in ("POST", "PUT", "PATCH")):
        lines.append(f"Content-Length: {len(body or b'')}")
    return "\r\n".join((*lines, "", "")).encode() + (body or b"")


def _body(http: Http) -> bytes | None:
    if "body_b64" in http:
        return base64.b64decode(http["body_b64"])
    if "body_build" in http:
        return built(http["body_build"]).encode()
    if "body_gzip_of" in http:
        return gzip.compress(built(http["body_gzip_of"]).encode(), 6)
    return http["body"].encode() if "body" in http else None


async def exchange(
    port: int,
    data: bytes,
    *,
    method: str = "GET",
    hangs_up_after_s: float | None = None,
    closes: bool = False,
) -> Answer:
    """The answer to these bytes. `closes`: waits for the connection's end behind it too."""
    began = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = Answer()
    writing = asyncio.create_task(_write(writer, data), name="request")
    try:
        async with asyncio.timeout(hangs_up_after_s or _PATIENCE_S):
            await _read(reader, method, answer)
            if closes and not answer.closed:
                answer.closed = await reader.read() == b""
    except TimeoutError:
        assert hangs_up_after_s is not None or answer.complete, "no answer in time"
    finally:
        answer.ms = (time.monotonic() - began) * 1000
        writing.cancel()
        await asyncio.wait({writing})
        writer.close()
    return answer


async def _write(writer: asyncio.StreamWriter, data: bytes) -> None:
    try:
        writer.write(data)
        await writer.drain()
    except ConnectionError:
        pass  # refused half-way: what it has to say is read all the same


async def _read(reader: asyncio.StreamReader, method: str, answer: Answer) -> None:
    parser = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
    parser.send(
        h11.Request(method="HEAD" if method == "HEAD" else "GET", target="/", headers=[("host", "x")])
    )
    parser.send(h11.EndOfMessage())
    while not answer.complete and not answer.closed:
        try:
            data = await reader.read(_CHUNK)
        except ConnectionError:
            data = b""
        answer.closed = not data
        answer.first_line = answer.first_line or data.partition(b"\r\n")[0].decode("latin-1")
        try:
            parser.receive_data(data)
            _take(parser, answer)
        except h11.RemoteProtocolError:
            return  # cut short, or no HTTP: not complete either way


def _take(parser: h11.Connection, answer: Answer) -> None:
    while True:
        event = parser.next_event()
        if isinstance(event, h11.Response):
            answer.status = event.status_code
            answer.headers = [(n.decode().lower(), v.decode("utf-8", "replace")) for n, v in event.headers]
        elif isinstance(event, h11.Data):
            answer.body += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            answer.complete = True
            answer.trailing = parser.trailing_data[0]
            return
        elif not isinstance(event, h11.InformationalResponse):
            return
