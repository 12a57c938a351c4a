"""Inventory as a test speaks of it: over a real server, in few words."""

import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
import sqlalchemy as sa
from bodega.inventory.v1 import inventory_pb2 as pb
from bodega.inventory.v1.inventory_pb2_grpc import CatalogServiceStub, InventoryServiceStub
from google.protobuf.duration_pb2 import Duration
from google.type.money_pb2 import Money

from services.chassis import status
from services.chassis.storage.database import Store
from services.chassis.testing import FakeClock
from services.inventory.stock import DEFAULT_WAREHOUSE_ID
from services.inventory.store import Transaction
from services.inventory.tables import outbox_rows

INVALID = grpc.StatusCode.INVALID_ARGUMENT
NOT_FOUND = grpc.StatusCode.NOT_FOUND
WRONG_STATE = grpc.StatusCode.FAILED_PRECONDITION
EXISTS = grpc.StatusCode.ALREADY_EXISTS
TOO_MUCH = grpc.StatusCode.RESOURCE_EXHAUSTED

NOBODY = "ffffffff-ffff-4fff-8fff-ffffffffffff"
Figures = Callable[[], dict[str, dict[str, int]]]


@dataclass
class Shop:
    catalog: CatalogServiceStub
    inventory: InventoryServiceStub
    clock: FakeClock
    store: Store[Transaction]

    async def product(self, sku: str, *, on_hand: int = 0, **fields: Any) -> pb.Product:
        fields = {"name": sku, "price": euros(5), **fields}
        created = await self.catalog.CreateProduct(
            pb.CreateProductRequest(product=pb.Product(sku=sku, **fields))
        )
        if on_hand:
            await self.count(created, on_hand)
        return created

    async def count(self, product: pb.Product, on_hand: int, warehouse_id: str = "") -> pb.StockLevel:
        return await self.inventory.SetStock(
            pb.SetStockRequest(product_id=product.product_id, warehouse_id=warehouse_id, on_hand=on_hand)
        )

    async def adjust(self, product: pb.Product, delta: int, **fields: Any) -> pb.StockLevel:
        fields = {"reason": "found some", **fields}
        return await self.inventory.AdjustStock(
            pb.AdjustStockRequest(product_id=product.product_id, delta=delta, **fields)
        )

    async def warehouse(self, name: str, preference: int = 0, request_id: str = "") -> str:
        opened = await self.inventory.CreateWarehouse(
            pb.CreateWarehouseRequest(
                warehouse=pb.Warehouse(name=name, preference=preference), request_id=request_id
            )
        )
        return opened.warehouse_id

    async def plan(self, product: pb.Product, warehouse_id: str = "", **fields: Any) -> pb.RestockPlan:
        return await self.inventory.SetRestockPlan(
            pb.SetRestockPlanRequest(
                product_id=product.product_id, warehouse_id=warehouse_id or DEFAULT_WAREHOUSE_ID, **fields
            )
        )

    async def movements(self, product: pb.Product, **fields: Any) -> list[pb.StockMovement]:
        """Newest first, over all pages."""
        request = pb.ListStockMovementsRequest(product_id=product.product_id, **fields)
        found: list[pb.StockMovement] = []
        while True:
            reply = await self.inventory.ListStockMovements(request)
            found.extend(reply.movements)
            if not reply.next_page_token:
                return found
            request.page_token = reply.next_page_token

    async def reserve(
        self, order_id: str, *lines: tuple[pb.Product, int], request_id: str = "", expires_in_s: int = 0
    ) -> pb.Reservation:
        return await self.inventory.ReserveStock(
            pb.ReserveStockRequest(
                order_id=order_id,
                lines=[
                    pb.ReserveLine(product_id=product.product_id, quantity=quantity)
                    for product, quantity in lines
                ],
                expires_in=Duration(seconds=expires_in_s) if expires_in_s else None,
                request_id=request_id,
            )
        )

    async def release(self, order_id: str, request_id: str = "") -> pb.Reservation:
        return await self.inventory.ReleaseStock(
            pb.ReleaseStockRequest(order_id=order_id, request_id=request_id)
        )

    async def commit(self, order_id: str, request_id: str = "") -> pb.Reservation:
        return await self.inventory.CommitStock(
            pb.CommitStockRequest(order_id=order_id, request_id=request_id)
        )

    async def give_back(
        self,
        order_id: str,
        *lines: tuple[pb.Product, int] | tuple[pb.Product, int, str],
        return_id: str = "",
        request_id: str = "",
    ) -> pb.Reservation:
        """Lines may name the warehouse that the pieces go to."""
        return await self.inventory.ReturnStock(
            pb.ReturnStockRequest(
                order_id=order_id,
                return_id=return_id or order(),
                lines=[
                    pb.ReserveLine(
                        product_id=product.product_id, quantity=quantity, warehouse_id="".join(where)
                    )
                    for product, quantity, *where in lines
                ],
                request_id=request_id,
            )
        )

    async def bought(self, *lines: tuple[pb.Product, int]) -> str:
        """An order to which these pieces are sold."""
        order_id = order()
        await self.reserve(order_id, *lines)
        await self.commit(order_id)
        return order_id

    async def told(self, *kinds: str) -> list[str]:
        """Names of the events told so far, in order; only of these kinds."""
        rows = await self.store.fetch(sa.select(outbox_rows.c.type).order_by(outbox_rows.c.seq))
        names = [row["type"].rpartition(".")[2] for row in rows]
        return [name for name in names if name in kinds]

    async def available(self, product: pb.Product, quantity: int = 1) -> pb.CheckAvailabilityResponse:
        return await self.inventory.CheckAvailability(
            pb.CheckAvailabilityRequest(product_id=product.product_id, quantity=quantity)
        )

    async def listed(self, **search: Any) -> list[str]:
        """Article numbers, over all pages."""
        request = pb.ListProductsRequest(**search)
        found: list[str] = []
        while True:
            reply = await self.catalog.ListProducts(request)
            found.extend(product.sku for product in reply.products)
            if not reply.next_page_token:
                return found
            request.page_token = reply.next_page_token


def euros(units: int, nanos: int = 0, currency: str = "EUR") -> Money:
    return Money(currency_code=currency, units=units, nanos=nanos)


def order() -> str:
    return str(uuid.uuid4())


async def refused(call: Awaitable[Any], code: grpc.StatusCode, reason: str) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    assert (raised.value.code(), status.reason(raised.value)) == (code, reason)
    return raised.value
