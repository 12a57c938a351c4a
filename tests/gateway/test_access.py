"""Who gets past the edge, with the shop's own contract and a backend that says who came."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import httpx
import orjson
import pytest
import pytest_asyncio
from bodega.order.v1 import order_pb2
from bodega.policy.v1 import policy_pb2
from bodega.user.v1.api_key_pb2 import ExchangeApiKeyRequest, ExchangeApiKeyResponse
from google.api import annotations_pb2
from google.api.httpbody_pb2 import HttpBody
from google.protobuf import descriptor_pb2

from gateway import app
from gateway.app import Settings
from gateway.limits import Plan
from gateway.site import CannotServe
from services.chassis import telemetry
from services.chassis.identity.config import IdentitySettings
from services.chassis.testing import FakeClock
from services.cli import contracts
from tests.chassis.identity.issuer import USER, TestIssuer
from tests.gateway.test_edge import abort, error, reason
from tests.gateway.world import Backend, Seen, World

pytestmark = pytest.mark.asyncio(loop_scope="module")

OTHER = "0199a1b2-0000-7000-8000-000000000002"
ORDER = "0199a1b2-0000-7000-8000-00000000000f"


@dataclass(repr=False)
class Shop:
    """An edge that believes an issuer, and the backend behind it."""

    http: httpx.AsyncClient
    backend: Backend
    issuer: TestIssuer
    port: int

    async def __call__(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        return await self.http.request(method, path, **arguments)

    def bearer(self, **claims: Any) -> dict[str, str]:
        return {"authorization": f"Bearer {self.issuer.token(**claims)}"}

    @property
    def metadata(self) -> dict[str, str]:
        """Of the one call that reached the backend."""
        assert len(self.backend.calls) == 1
        return self.backend.calls[0].metadata


@pytest.fixture(scope="module")
def api() -> descriptor_pb2.FileDescriptorSet:
    return descriptor_pb2.FileDescriptorSet.FromString(contracts.descriptor_set())


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def open_shop(api: descriptor_pb2.FileDescriptorSet, backend: Backend) -> AsyncIterator[Shop]:
    issuer = TestIssuer(FakeClock(datetime.now(UTC)))
    backend.answers["ListSigningKeys"] = telling_keys(issuer)
    settings = Settings(identity=IdentitySettings(), proxies=("10.0.0.0/8",))
    gateway = app.build(api, [f"127.0.0.1:{backend.port}"], settings)
    async with (
        app.running(gateway) as running,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{running.port}", timeout=10) as http,
    ):
        async with asyncio.timeout(10):
            await backend.arrived.wait()  # the edge has asked for keys
        yield Shop(http, backend, issuer, running.port)


@pytest.fixture
def shop(open_shop: Shop) -> Shop:
    open_shop.backend.forget()
    open_shop.backend.answers["ListSigningKeys"] = telling_keys(open_shop.issuer)
    return open_shop


def telling_keys(issuer: TestIssuer) -> Any:
    async def answer(_context: Any, _seen: Seen) -> bytes:
        body = HttpBody(content_type="application/jwk-set+json", data=await issuer.fetch())
        return bytes(body.SerializeToString())

    return answer


def new_order(user_id: str = USER) -> dict[str, Any]:
    line = {"productId": ORDER, "quantity": "1"}
    return {"userId": user_id, "lines": [line], "paymentMethodId": ORDER, "currency": "USD"}


# -- tokens ----------------------------------------------------------------------------------------


async def test_whoever_proves_who_they_are_is_let_in_and_the_proof_goes_along(shop: Shop) -> None:
    signed_in = shop.bearer()
    response = await shop("POST", "/api/v1/orders", json=new_order(), headers=signed_in)
    assert response.status_code in (200, 201)
    assert shop.metadata["authorization"] == signed_in["authorization"]
    sent = order_pb2.CreateOrderRequest.FromString(shop.backend.calls[0].request)
    assert sent.user_id == USER


async def test_nobody_is_asked_to_sign_in_before_their_body_is_looked_at(shop: Shop) -> None:
    response = await shop(
        "POST", "/api/v1/orders", content=b"{", headers={"content-type": "application/json"}
    )
    assert (response.status_code, reason(response)) == (401, "NOT_SIGNED_IN")
    assert response.headers["www-authenticate"] == "Bearer"
    assert shop.backend.calls == []


@pytest.mark.parametrize(
    "made",
    [
        {"exp": 1},
        {"aud": "elsewhere"},
        {"iss": "elsewhere"},
        {"nbf": 4_000_000_000},
        {"exp": None},
        {"header": {"typ": "JWT"}},
        {"header": {"kid": "made-up"}},
        {"padding": "x" * 8192},
    ],
)
async def test_a_bad_token_is_refused_and_only_the_log_says_why(shop: Shop, made: dict[str, Any]) -> None:
    with telemetry.captured() as lines:
        response = await shop("GET", f"/api/v1/orders/{ORDER}", headers=shop.bearer(**made))
    assert (response.status_code, reason(response)) == (401, "INVALID_TOKEN")
    assert response.headers["www-authenticate"] == "Bearer"
    assert error(response)["message"] == "The token given is not valid; sign in again."
    assert [line["why"] for line in lines if line["event"] == "token refused"]
    assert not [call for call in shop.backend.calls if "GetOrder" in call.method]


@pytest.mark.parametrize("authorization", ["", "Bearer", "Bearer x", "Bearer a.b.c", "Basic dTpw"])
async def test_what_is_no_token_is_a_bad_one(shop: Shop, authorization: str) -> None:
    response = await shop("GET", f"/api/v1/orders/{ORDER}", headers={"authorization": authorization})
    assert (response.status_code, reason(response)) == (401, "INVALID_TOKEN")


async def test_two_tokens_are_none(shop: Shop) -> None:
    token = shop.bearer()["authorization"]
    response = await shop(
        "GET", f"/api/v1/orders/{ORDER}", headers=[("authorization", token), ("authorization", token)]
    )
    assert response.status_code == 400
    assert shop.backend.calls == []


async def test_a_key_that_came_later_is_asked_for(shop: Shop) -> None:
    shop.issuer.add_key("k2")
    response = await shop("GET", f"/api/v1/orders/{ORDER}", headers=shop.bearer(key_id="k2"))
    # Known at once, unless somebody invented a key id within the last seconds.
    assert response.status_code in (200, 401)


async def test_where_everyone_may_ask_a_stale_token_is_no_matter_and_goes_no_further(shop: Shop) -> None:
    registering = {"email": "a@example.com", "username": "ada", "password": "correct horse"}
    response = await shop("POST", "/api/v1/users", json=registering, headers=shop.bearer(exp=1))
    assert response.status_code in (200, 201)
    assert "authorization" not in shop.metadata


# -- API keys --------------------------------------------------------------------------------------


def exchanging(issuer: TestIssuer, known: dict[str, dict[str, Any]]) -> Any:
    """Gives tokens with these claims for the keys that are known."""

    async def answer(context: Any, seen: Seen) -> bytes:
        key = ExchangeApiKeyRequest.FromString(seen.request).api_key
        if key not in known:
            await abort(context, grpc.StatusCode.UNAUTHENTICATED, "The key is not valid.")
        response = ExchangeApiKeyResponse(access_token=issuer.token(**known[key]))
        response.expire_time.FromDatetime(datetime.now(UTC) + timedelta(minutes=5))
        return bytes(response.SerializeToString())

    return answer


async def test_a_key_is_worth_a_token_for_what_its_scopes_name(shop: Shop) -> None:
    shop.backend.answers["ExchangeApiKey"] = exchanging(shop.issuer, {"key-1": {"scopes": ["order:read"]}})
    key = {"x-api-key": "key-1"}
    for _ in range(3):
        assert (await shop("GET", f"/api/v1/orders/{ORDER}", headers=key)).status_code == 200
    refused = await shop("POST", "/api/v1/orders", json=new_order(), headers=key)
    assert (refused.status_code, reason(refused)) == (403, "NOT_ALLOWED")
    calls = [call.method.rpartition("/")[2] for call in shop.backend.calls]
    assert calls == ["ExchangeApiKey", "GetOrder", "GetOrder", "GetOrder"]
    assert shop.backend.calls[1].metadata["authorization"].startswith("Bearer ey")
    assert "x-api-key" not in shop.backend.calls[1].metadata


async def test_a_key_that_is_none_is_refused(shop: Shop) -> None:
    shop.backend.answers["ExchangeApiKey"] = exchanging(shop.issuer, {})
    response = await shop("GET", f"/api/v1/orders/{ORDER}", headers={"x-api-key": "made up"})
    assert (response.status_code, reason(response)) == (401, "INVALID_API_KEY")
    assert response.headers["www-authenticate"] == "Bearer"
    assert [call.method.rpartition("/")[2] for call in shop.backend.calls] == ["ExchangeApiKey"]


async def test_a_key_beside_a_token_is_refused_and_so_are_two(shop: Shop) -> None:
    both = {"x-api-key": "key-1", **shop.bearer()}
    for headers in (both, [("x-api-key", "key-1"), ("x-api-key", "key-1")]):
        response = await shop("GET", f"/api/v1/orders/{ORDER}", headers=headers)
        assert (response.status_code, reason(response)) == (400, "MALFORMED_REQUEST")
    assert shop.backend.calls == []


async def test_made_up_keys_are_no_way_around_the_limits_of_a_route(
    shop: Shop, api: descriptor_pb2.FileDescriptorSet
) -> None:
    shop.backend.answers["ExchangeApiKey"] = exchanging(shop.issuer, {})
    narrow = descriptor_pb2.FileDescriptorSet.FromString(api.SerializeToString())
    for method in (one for file in narrow.file for service in file.service for one in service.method):
        if method.name == "ListProducts":
            rate = method.options.Extensions[policy_pb2.method].rate_limits.add(requests=2)
            rate.per.FromSeconds(3600)
            rate.by = policy_pb2.RateLimit.BY_CALLER
    settings = Settings(identity=IdentitySettings(), rates=Plan())
    gateway = app.build(narrow, [f"127.0.0.1:{shop.backend.port}"], settings)
    async with app.running(gateway) as running, httpx.AsyncClient(timeout=10) as http:
        url = f"http://127.0.0.1:{running.port}/api/v1/products"
        answers = [await http.get(url, headers={"x-api-key": f"made up {n}"}) for n in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]


async def test_a_key_that_cannot_be_asked_about_is_not_called_bad(shop: Shop) -> None:
    async def away(context: Any, _seen: Seen) -> bytes:
        await context.abort(grpc.StatusCode.UNAVAILABLE, "down")
        return b""

    shop.backend.answers["ExchangeApiKey"] = away
    response = await shop("GET", f"/api/v1/orders/{ORDER}", headers={"x-api-key": "key-2"})
    assert response.status_code == 503


# -- rules -----------------------------------------------------------------------------------------


async def test_what_is_for_roles_is_for_them_alone(shop: Shop) -> None:
    refused = await shop("GET", "/api/v1/users", headers=shop.bearer(roles=["customer"]))
    assert (refused.status_code, reason(refused)) == (403, "NOT_ALLOWED")
    assert shop.backend.calls == []
    assert (await shop("GET", "/api/v1/users", headers=shop.bearer(roles=["admin"]))).status_code == 200


async def test_an_owner_named_in_the_request_must_be_who_asks(shop: Shop) -> None:
    response = await shop("POST", "/api/v1/orders", json=new_order(OTHER), headers=shop.bearer())
    assert (response.status_code, reason(response)) == (404, "NOT_FOUND")
    assert shop.backend.calls == []


async def test_whose_the_thing_addressed_is_only_its_service_knows(shop: Shop) -> None:
    response = await shop("GET", f"/api/v1/orders/{ORDER}", headers=shop.bearer())
    assert response.status_code == 200
    assert "authorization" in shop.metadata


async def test_streams_are_no_way_around(shop: Shop) -> None:
    response = await shop("GET", f"/api/v1/orders/{ORDER}:watch")
    assert (response.status_code, reason(response)) == (401, "NOT_SIGNED_IN")
    assert shop.backend.calls == []


async def test_a_token_with_scopes_needs_the_right_one(shop: Shop) -> None:
    headers = shop.bearer(scopes=["inventory:read"])
    response = await shop("GET", f"/api/v1/orders/{ORDER}", headers=headers)
    assert (response.status_code, reason(response)) == (403, "NOT_ALLOWED")
    headers = shop.bearer(scopes=["order:read"])
    assert (await shop("GET", f"/api/v1/orders/{ORDER}", headers=headers)).status_code == 200


# -- what pretends ---------------------------------------------------------------------------------


async def test_metadata_that_pretends_is_dropped(shop: Shop) -> None:
    pretending = {
        "x-user-id": OTHER,
        "x-bodega-on-behalf-of": f"user:{OTHER}",
        "x-bodega-client-address": "9.9.9.9",
        "x-bodega-anything": "1",
        "grpcgateway-authorization": "Bearer forged",
        "grpc-metadata-authorization": "Bearer forged",
        "x-forwarded-user": OTHER,
        "x-forwarded-email": "root@example.com",
        "x-forwarded-client-cert": "URI=spiffe://bodega/order",
        "x-remote-user": OTHER,
        "x-auth-request-user": OTHER,
        "x-roles": "admin",
        "cookie": "token=x",
        "te": "trailers",
    }
    signed_in = shop.bearer()
    await shop("GET", f"/api/v1/orders/{ORDER}", headers={**pretending, **signed_in})
    assert shop.metadata["authorization"] == signed_in["authorization"]
    assert shop.metadata["x-bodega-client-address"] == "127.0.0.1"
    arrived = {name: value for name, value in shop.metadata.items() if name in pretending}
    assert arrived == {"x-bodega-client-address": "127.0.0.1"}


async def test_a_client_cannot_write_its_own_address(shop: Shop) -> None:
    await shop("GET", f"/api/v1/orders/{ORDER}", headers={**shop.bearer(), "x-forwarded-for": "9.9.9.9"})
    assert shop.metadata["x-bodega-client-address"] == "127.0.0.1"


async def test_logs_name_who_asked_and_never_what_proves_it(shop: Shop) -> None:
    signed_in = shop.bearer()
    with telemetry.captured() as lines:
        await shop("GET", f"/api/v1/orders/{ORDER}", headers=signed_in)
        await shop("GET", f"/api/v1/orders/{ORDER}", headers={"authorization": "Bearer secret-text"})
    request = next(line for line in lines if line["event"] == "request")
    assert request["caller"] == f"user:{USER}"
    said = orjson.dumps(lines).decode()
    assert signed_in["authorization"][7:] not in said
    assert "secret-text" not in said


# -- start -----------------------------------------------------------------------------------------


async def test_what_says_nothing_of_access_is_not_served_where_access_counts(world: World) -> None:
    with pytest.raises(CannotServe, match=r"nobody could call it|could be believed"):
        app.build(world.files, ["127.0.0.1:1"], Settings(identity=IdentitySettings()))


async def test_what_is_for_the_edge_itself_is_not_served_to_others(
    api: descriptor_pb2.FileDescriptorSet,
) -> None:
    careless = descriptor_pb2.FileDescriptorSet.FromString(api.SerializeToString())
    for method in (one for file in careless.file for service in file.service for one in service.method):
        if method.name == "ExchangeApiKey":
            method.options.Extensions[annotations_pb2.http].post = "/api/v1/api-keys:exchange"
    with pytest.raises(CannotServe, match="for the edge itself"):
        app.build(careless, ["127.0.0.1:1"], Settings(identity=IdentitySettings()))


async def test_while_nobody_tells_the_keys_no_token_is_called_bad(
    api: descriptor_pb2.FileDescriptorSet,
) -> None:
    gateway = app.build(api, ["127.0.0.1:1"], Settings(identity=IdentitySettings()))
    issuer = TestIssuer(FakeClock(datetime.now(UTC)))
    async with (
        app.running(gateway) as running,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{running.port}", timeout=20) as http,
    ):
        token = issuer.token()
        response = await http.get(f"/api/v1/orders/{ORDER}", headers={"authorization": f"Bearer {token}"})
        assert (response.status_code, reason(response)) == (503, "ISSUER_AWAY")
        assert "retry-after" in response.headers
        response = await http.get(f"/api/v1/orders/{ORDER}")
        assert response.status_code == 401
