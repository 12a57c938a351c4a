"""A program gets a key at the edge, and the edge a token for it."""

import grpc
import pytest
from bodega.user.v1 import api_key_pb2
from bodega.user.v1.api_key_pb2_grpc import ApiKeyServiceStub

from services.chassis import client, status
from services.cli.edge import new_id
from services.cli.endpoints import Endpoints
from services.cli.shopper import Shopper


async def exchanged(shop: Endpoints, secret: str) -> api_key_pb2.ExchangeApiKeyResponse:
    """What the edge gets for a key."""
    mesh, identity = shop.services["user"].mesh, shop.identity("gateway")
    async with client.connect(mesh, api_key_pb2.DESCRIPTOR, tls=identity) as channel:
        request = api_key_pb2.ExchangeApiKeyRequest(api_key=secret)
        return await ApiKeyServiceStub(channel).ExchangeApiKey(request)


async def test_a_key_made_at_the_edge_is_worth_a_token_until_it_is_revoked(
    shop: Endpoints, shopper: Shopper
) -> None:
    path = f"/api/v1/users/{shopper.buyer()['userId']}/api-keys"
    body, key = {"name": "till", "scopes": ["order:read"]}, new_id()
    made = shopper.ask("POST", path, body=body, key=key)
    assert shopper.ask("POST", path, body=body, key=key) == {"apiKey": made["apiKey"]}  # shown once
    assert [shown["ending"] for shown in shopper.ask("GET", path)["apiKeys"]] == [made["secret"][-4:]]
    worth = await exchanged(shop, made["secret"])
    assert worth.access_token
    assert worth.api_key_id == made["apiKey"]["apiKeyId"]
    shopper.ask("DELETE", f"{path}/{worth.api_key_id}")
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await exchanged(shop, made["secret"])
    assert (refused.value.code(), status.reason(refused.value)) == (
        grpc.StatusCode.UNAUTHENTICATED,
        "INVALID_API_KEY",
    )
