"""A REST edge with FastAPI: pydantic models in and out, json_format to protobuf and back, a stub."""

import asyncio
from typing import Any

import grpc
import uvicorn
from bodega.order.v1 import order_pb2, order_pb2_grpc
from fastapi import FastAPI, Header, HTTPException
from google.protobuf import json_format
from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from tests.load.programs import commands

DEADLINE_S = 10.0


class Json(BaseModel):
    """What goes over the wire in camelCase."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class Money(Json):
    currency_code: str
    units: str = "0"
    nanos: int = 0


class LineWanted(Json):
    product_id: str
    quantity: str


class CreateOrder(Json):
    user_id: str
    lines: list[LineWanted]
    payment_method_id: str
    currency: str
    expected_total: Money | None = None
    wait_until_settled: bool = False


class Line(Json):
    product_id: str
    sku: str
    name: str
    quantity: str
    unit_price: Money


class Order(Json):
    order_id: str
    user_id: str
    state: str
    lines: list[Line] = []
    total: Money
    payment_method_id: str
    rejection_reason: str = ""
    reservation_id: str = ""
    payment_id: str = ""
    version: str = "0"
    create_time: str
    update_time: str


class Edge:
    """The one route that orders take."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._orders = order_pb2_grpc.OrderServiceStub(channel)

    async def create_order(self, order: CreateOrder, idempotency_key: str = Header()) -> Order:
        content = order.model_dump(by_alias=True, exclude_none=True)
        request = json_format.ParseDict(
            {**content, "requestId": idempotency_key}, order_pb2.CreateOrderRequest()
        )
        try:
            reply = await self._orders.CreateOrder(request, timeout=DEADLINE_S)
        except grpc.aio.AioRpcError as error:
            raise HTTPException(502, detail=error.details()) from None
        return Order.model_validate(json_format.MessageToDict(reply))


async def serve(target: str, *, access_log: bool) -> None:
    """Serves until standard input ends."""
    async with grpc.aio.insecure_channel(target) as channel:
        app = FastAPI()
        app.add_api_route(
            "/api/v1/orders", Edge(channel).create_order, methods=["POST"], response_model_exclude_none=True
        )
        config = uvicorn.Config(app, port=0, lifespan="off", access_log=access_log)
        await _until_told(uvicorn.Server(config))


async def _until_told(server: Any) -> None:
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 (uvicorn has no event for it)
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    await commands.obey(port=port)
    server.should_exit = True
    await serving
