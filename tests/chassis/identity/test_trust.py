"""Whose tokens are believed, from settings, and where their keys come from."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from google.api.httpbody_pb2 import HttpBody
from pydantic import ValidationError

from services.chassis.identity import trust
from services.chassis.identity.config import IdentitySettings, OidcIssuer
from services.chassis.identity.tokens import Tokens
from services.chassis.testing import FakeClock
from tests.chassis.identity.issuer import USER, TestIssuer


@asynccontextmanager
async def answering(head: str, body: bytes) -> AsyncIterator[str]:
    """An HTTP server that has one answer; the address of it."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 {head}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/keys"


def outside(url: str, **more: Any) -> OidcIssuer:
    return OidcIssuer.model_validate(
        {"issuer": "https://id.example.com", "jwks_url": url, "audience": "bodega", **more}
    )


async def test_an_external_issuers_keys_come_by_http() -> None:
    clock = FakeClock()
    issuer = TestIssuer(clock, "https://id.example.com")
    async with answering("200 OK", await issuer.fetch()) as url:
        settings = outside(url, roles={"helpdesk": "support"}, algorithms=["EdDSA"])
        trusted = trust.external(settings, clock=clock)
        assert await trusted.keys.look_again()
    tokens = Tokens(clock)
    tokens.trust(trusted)
    caller = tokens.verify(issuer.token(roles=["helpdesk"], bodega_user_id=USER))
    assert (caller.user_id, caller.roles) == (USER, frozenset({"support"}))


@pytest.mark.parametrize(
    ("head", "body"),
    [
        ("500 Internal Server Error", b""),
        ("302 Found\r\nlocation: http://127.0.0.1:1/", b""),
        ("200 OK", b'{"keys": []}' + b" " * trust.KEY_SET_BYTES_MAX),
    ],
)
async def test_answers_that_are_no_key_set_are_not_taken_for_one(head: str, body: bytes) -> None:
    async with answering(head, body) as url:
        with pytest.raises((httpx.HTTPError, ValueError)):
            await trust.from_url(url)()


async def test_the_shops_own_keys_come_by_rpc() -> None:
    clock = FakeClock()
    issuer = TestIssuer(clock)

    async def call(_request: bytes, **_options: Any) -> bytes:
        return bytes(HttpBody(data=await issuer.fetch()).SerializeToString())

    tokens = Tokens(clock)
    tokens.trust(trust.own(IdentitySettings(), trust.from_rpc(call), clock=clock))
    assert (await tokens.verify_patiently(issuer.token())).user_id == USER


@pytest.mark.parametrize(
    "wrong",
    [
        {"jwks_url": "http://id.example.com/keys"},
        {"algorithms": ["HS256"]},
        {"algorithms": ["none"]},
        {"roles": {"boss": "owner"}},
        {"audience": ""},
        {"secret": "x"},
    ],
)
def test_settings_that_would_let_anyone_in_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        outside("https://id.example.com/keys", **wrong)
