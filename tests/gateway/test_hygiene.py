"""What browsers are told: that answers are data, and whose pages may read them."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest
import pytest_asyncio

from gateway import app
from gateway.app import Settings
from gateway.hygiene import BadOrigin, Hygiene
from gateway.site import CannotServe
from tests.gateway.world import Backend, Client, World

pytestmark = pytest.mark.asyncio(loop_scope="module")

SHOP = "https://shop.example"
ASKING = {"origin": SHOP, "access-control-request-method": "POST"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def open_edge(world: World, backend: Backend) -> AsyncIterator[httpx.AsyncClient]:
    """An edge whose answers the pages of one origin may read."""
    settings = Settings(origins=(SHOP, "http://localhost:5173"), https_only=True)
    gateway = app.build(world.files, [f"127.0.0.1:{backend.port}"], settings)
    async with (
        app.running(gateway) as running,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{running.port}", timeout=10) as http,
    ):
        yield http


def cors(response: httpx.Response) -> dict[str, str]:
    return {name: value for name, value in response.headers.items() if name.startswith("access-control-")}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/shelves/1"),
        ("GET", "/nothing"),
        ("DELETE", "/v1/shelves/1"),
        ("OPTIONS", "/v1/shelves/1"),
        ("GET", "/v1/shelves/1:follow"),
        ("GET", "/openapi.json"),
        ("GET", "/health/live"),
    ],
)
async def test_every_answer_is_data_and_no_page(edge: Client, method: str, path: str) -> None:
    response = await edge(method, path)
    assert response.headers.get_list("x-content-type-options") == ["nosniff"]
    assert "frame-ancestors 'none'" in response.headers["content-security-policy"]
    assert response.headers["referrer-policy"] == "no-referrer"
    assert "strict-transport-security" not in response.headers


async def test_a_request_whose_head_is_refused_gets_them_too(edge: Client) -> None:
    response = await edge(
        "GET", "/v1/shelves/1", headers=[("idempotency-key", "a"), ("idempotency-key", "b")]
    )
    assert response.status_code == 400
    assert response.headers["x-content-type-options"] == "nosniff"


async def test_browsers_are_sent_to_tls_where_there_is_nothing_else(open_edge: httpx.AsyncClient) -> None:
    response = await open_edge.get("/v1/shelves/1")
    assert response.headers["strict-transport-security"].startswith("max-age=")


@pytest.mark.parametrize("header", ["authorization", "x-api-key"])
@pytest.mark.parametrize("path", ["/v1/shelves/1", "/nothing"])
async def test_what_was_asked_with_credentials_is_kept_by_no_cache(
    edge: Client, header: str, path: str
) -> None:
    assert (await edge("GET", path, headers={header: "x"})).headers["cache-control"] == "no-store"
    assert "cache-control" not in (await edge("GET", path)).headers


async def test_an_answer_that_may_hold_a_secret_is_kept_by_no_cache(edge: Client) -> None:
    response = await edge("POST", "/v1/echo", json={})  # such as the tokens of who has just signed in
    assert response.headers["cache-control"] == "no-store"


async def test_a_service_may_say_how_long_its_answer_is_kept(edge: Client) -> None:
    async def kept(context: Any, _seen: object) -> bytes:
        await context.send_initial_metadata((("cache-control", "private, max-age=9"),))
        return b""

    edge.backend.answers["GetShelf"] = kept
    response = await edge("GET", "/v1/shelves/1", headers={"authorization": "x"})
    assert response.headers.get_list("cache-control") == ["private, max-age=9"]


async def test_cookies_are_neither_read_nor_set(edge: Client) -> None:
    async def baking(context: Any, _seen: object) -> bytes:
        await context.send_initial_metadata((("set-cookie", "a=b"),))
        return b""

    edge.backend.answers["GetShelf"] = baking
    response = await edge("GET", "/v1/shelves/1", headers={"cookie": "session=1"})
    assert "set-cookie" not in response.headers
    assert "cookie" not in edge.backend.calls[0].metadata


async def test_no_page_reads_anything_unless_told_so(edge: Client) -> None:
    asked = await edge("OPTIONS", "/v1/shelves", headers=ASKING)
    answered = await edge("GET", "/v1/shelves/1", headers={"origin": SHOP})
    assert (asked.status_code, cors(asked), cors(answered)) == (204, {}, {})


async def test_a_preflight_of_a_page_that_may_ask_is_answered(open_edge: httpx.AsyncClient) -> None:
    response = await open_edge.options("/v1/shelves", headers=ASKING)
    assert response.status_code == 204
    found = cors(response)
    assert found["access-control-allow-origin"] == SHOP
    assert "POST" in found["access-control-allow-methods"]
    assert {"authorization", "x-api-key", "idempotency-key", "content-type"} <= set(
        found["access-control-allow-headers"].split(", ")
    )
    assert "access-control-allow-credentials" not in found
    assert response.headers["vary"] == "origin"


@pytest.mark.parametrize("path", ["/v1/shelves/1", "/nothing", "/v1/shelves/1:follow"])
async def test_its_page_reads_answers_and_errors_and_streams(open_edge: httpx.AsyncClient, path: str) -> None:
    response = await open_edge.get(path, headers={"origin": SHOP})
    assert response.headers["access-control-allow-origin"] == SHOP
    assert "location" in response.headers["access-control-expose-headers"]
    assert "origin" in response.headers.get_list("vary", split_commas=True)


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "http://shop.example", "https://shop.example.evil.example", "null"]
)
async def test_another_page_reads_nothing(open_edge: httpx.AsyncClient, origin: str) -> None:
    for send in _preflight_and_request(open_edge, origin):
        response = await send()
        assert cors(response) == {}
        assert response.headers["vary"] == "origin"  # a cache must not hand this answer to the other


def _preflight_and_request(
    http: httpx.AsyncClient, origin: str
) -> list[Callable[[], Awaitable[httpx.Response]]]:
    return [
        lambda: http.options("/v1/shelves", headers={**ASKING, "origin": origin}),
        lambda: http.get("/v1/shelves/1", headers={"origin": origin}),
    ]


@pytest.mark.parametrize("origin", ["shop.example", "https://shop.example/", "https://*.example", "null", ""])
async def test_what_is_no_origin_is_no_allow_list(world: World, origin: str) -> None:
    with pytest.raises(BadOrigin):
        Hygiene([origin])
    with pytest.raises(CannotServe, match="no origin"):
        app.build(world.files, ["127.0.0.1:1"], Settings(origins=(origin,)))
