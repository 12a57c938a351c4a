"""The RPCs of inventory, in proto order."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from datetime import datetime
from typing import Any, Final

import grpc
from bodega.inventory.v1 import inventory_pb2 as pb
from bodega.inventory.v1 import inventory_pb2_grpc

from services.chassis import failpoints, masks, wire
from services.chassis.paging import Pages
from services.chassis.storage.database import Store
from services.chassis.storage.idempotency import Call, call
from services.inventory import catalog_store, convert, holds, ledger, warehouse_store
from services.inventory.catalog import Product
from services.inventory.restock import RestockPlan
from services.inventory.stock import DEFAULT_WAREHOUSE_ID, OutOfStock, StockLevel, Want, allocate
from services.inventory.store import Transaction
from services.inventory.warehouse import Warehouse
from services.inventory.watch import StockWatch
from services.kernel.clock import Clock
from services.kernel.errors import DomainError
from services.kernel.ids import Ids

Context = grpc.aio.ServicerContext[Any, Any]

STEPS: Final = ("reserve", "release", "commit", "return")
BEFORE_COMMIT: Final = {step: failpoints.site(f"inventory.{step}.commit.before") for step in STEPS}
AFTER_COMMIT: Final = {step: failpoints.site(f"inventory.{step}.commit.after") for step in STEPS}

MUTABLE_FIELDS: Final = ("sku", "name", "description", "category")


class CatalogServicer(inventory_pb2_grpc.CatalogServiceServicer):
    """The products of the shop and their prices."""

    def __init__(self, store: Store[Transaction], *, clock: Clock, ids: Ids, pages: Pages) -> None:
        self._store = store
        self._clock = clock
        self._ids = ids
        self._pages = pages

    async def CreateProduct(self, request: pb.CreateProductRequest, context: Context) -> pb.Product:
        created = Product.create(
            product_id=self._ids.new(),
            described=convert.description_from_proto(request.product),
            price=wire.money_from_proto(request.product.price),
            at=self._clock.now(),
        )
        return await self._store.once(
            call(request), lambda tx: convert.product_to_proto(tx.products.save(created))
        )

    async def GetProduct(self, request: pb.GetProductRequest, context: Context) -> pb.Product:
        product_id = wire.uuid_key(request.product_id)
        return convert.product_to_proto(await self._store.read(lambda tx: tx.products.get(product_id)))

    async def BatchGetProducts(
        self, request: pb.BatchGetProductsRequest, context: Context
    ) -> pb.BatchGetProductsResponse:
        product_ids = sorted({wire.uuid_key(product_id) for product_id in request.product_ids})
        found = await self._store.read(lambda tx: tx.products.several(product_ids))
        return pb.BatchGetProductsResponse(products=map(convert.product_to_proto, found))

    async def ListProducts(
        self, request: pb.ListProductsRequest, context: Context
    ) -> pb.ListProductsResponse:
        search = convert.search_from_proto(request)
        after = self._pages.begin(request)
        rows_max = self._pages.size(request) + 1
        rows = await self._store.fetch(search.page(after=after, rows_max=rows_max))
        page, next_page_token = self._pages.cut(request, rows, search.place)
        return pb.ListProductsResponse(
            products=(convert.product_to_proto(catalog_store.from_row(row)) for row in page),
            next_page_token=next_page_token,
        )

    async def UpdateProduct(self, request: pb.UpdateProductRequest, context: Context) -> pb.Product:
        now = self._clock.now()

        def update(tx: Transaction) -> pb.Product:
            product = tx.products.get(wire.uuid_key(request.product.product_id)).expect(request.product.etag)
            wanted = masks.updated(
                convert.product_to_proto(product), request.product, request.update_mask, MUTABLE_FIELDS
            )
            described = product.describe(convert.description_from_proto(wanted), at=now)
            return convert.product_to_proto(tx.products.save(described))

        return await self._store.once(call(request), update)

    async def SetPrice(self, request: pb.SetPriceRequest, context: Context) -> pb.Product:
        price = wire.money_from_proto(request.price)
        now = self._clock.now()

        def set_price(tx: Transaction) -> pb.Product:
            product = tx.products.get(wire.uuid_key(request.product_id))
            return convert.product_to_proto(tx.products.save(product.set_price(price, at=now)))

        return await self._store.once(call(request), set_price)


class InventoryServicer(inventory_pb2_grpc.InventoryServiceServicer):
    """How much of each product is where, and for whom it is held."""

    def __init__(
        self, store: Store[Transaction], *, clock: Clock, ids: Ids, pages: Pages, watch: StockWatch
    ) -> None:
        self._store = store
        self._clock = clock
        self._ids = ids
        self._pages = pages
        self._watch = watch

    async def CheckAvailability(
        self, request: pb.CheckAvailabilityRequest, context: Context
    ) -> pb.CheckAvailabilityResponse:
        want = Want(
            wire.uuid_key(request.product_id), wire.uuid_key(request.warehouse_id), request.quantity or 1
        )
        now = self._clock.now()

        def look(tx: Transaction) -> pb.CheckAvailabilityResponse:
            holds.check_known(tx, want.product_id, want.warehouse_id)
            reply = _availability(want, tx.stock.levels([want.product_id]))
            if not reply.available:
                expected_at = tx.plans.next_expected(want.product_id, want.warehouse_id, after=now)
                if expected_at is not None:
                    reply.estimated_restock_time.CopyFrom(wire.timestamp(expected_at))
            return reply

        return await self._store.read(look)

    async def SetStock(self, request: pb.SetStockRequest, context: Context) -> pb.StockLevel:
        now = self._clock.now()
        return await self._correct(request, lambda level: level.count(request.on_hand, at=now), now)

    async def AdjustStock(self, request: pb.AdjustStockRequest, context: Context) -> pb.StockLevel:
        now = self._clock.now()
        return await self._correct(
            request, lambda level: level.adjust(request.delta, reason=request.reason, at=now), now
        )

    async def ListStockMovements(
        self, request: pb.ListStockMovementsRequest, context: Context
    ) -> pb.ListStockMovementsResponse:
        product_id, warehouse_id = wire.uuid_key(request.product_id), wire.uuid_key(request.warehouse_id)
        after = self._pages.begin(request)
        await self._store.read(lambda tx: holds.check_known(tx, product_id, warehouse_id))
        rows = await self._store.fetch(
            ledger.page(product_id, warehouse_id, after=after, rows_max=self._pages.size(request) + 1)
        )
        page, next_page_token = self._pages.cut(request, rows, ledger.place)
        return pb.ListStockMovementsResponse(
            movements=(convert.movement_to_proto(ledger.from_row(row)) for row in page),
            next_page_token=next_page_token,
        )

    async def WatchStock(
        self, request: pb.WatchStockRequest, context: Context
    ) -> AsyncGenerator[pb.WatchStockResponse, None]:
        watched = self._watch.levels(wire.uuid_key(request.product_id), after_version=request.after_version)
        async with aclosing(watched) as newest:
            async for levels in newest:
                yield levels

    async def CreateWarehouse(self, request: pb.CreateWarehouseRequest, context: Context) -> pb.Warehouse:
        wanted = request.warehouse
        opened = Warehouse(self._ids.new(), wanted.name, wanted.preference, self._clock.now())
        return await self._store.once(
            call(request), lambda tx: convert.warehouse_to_proto(tx.warehouses.add(opened))
        )

    async def ListWarehouses(
        self, request: pb.ListWarehousesRequest, context: Context
    ) -> pb.ListWarehousesResponse:
        after = self._pages.begin(request)
        rows_max = self._pages.size(request) + 1
        rows = await self._store.fetch(warehouse_store.page(after=after, rows_max=rows_max))
        page, next_page_token = self._pages.cut(request, rows, warehouse_store.place)
        return pb.ListWarehousesResponse(
            warehouses=(convert.warehouse_to_proto(warehouse_store.from_row(row)) for row in page),
            next_page_token=next_page_token,
        )

    async def SetRestockPlan(self, request: pb.SetRestockPlanRequest, context: Context) -> pb.RestockPlan:
        product_id, warehouse_id = wire.uuid_key(request.product_id), wire.uuid_key(request.warehouse_id)
        now = self._clock.now()

        def plan(tx: Transaction) -> pb.RestockPlan:
            holds.check_known(tx, product_id, warehouse_id)
            before = tx.plans.find(product_id, warehouse_id) or RestockPlan(product_id, warehouse_id, now)
            changed = before.change(
                expected_at=convert.expected_time(request),
                expected_quantity=request.expected_quantity,
                low_stock_below=request.low_stock_below,
                at=now,
            )
            level = tx.stock.level(product_id, warehouse_id, at=now)
            return convert.plan_to_proto(tx.plans.save(changed.observe(level.available, at=now)))

        return await self._store.once(call(request), plan)

    async def ReserveStock(self, request: pb.ReserveStockRequest, context: Context) -> pb.Reservation:
        now = self._clock.now()
        reservation_id = self._ids.new()

        def reserve(tx: Transaction) -> pb.Reservation | DomainError:
            outcome = holds.reserve(
                tx,
                order_id=wire.uuid_key(request.order_id),
                reservation_id=reservation_id,
                wants=convert.wants_from_proto(request.lines),
                expires_at=now + convert.hold_time(request),
                at=now,
            )
            # A refusal is returned, for its tombstone is to stay.
            return outcome if isinstance(outcome, DomainError) else convert.reservation_to_proto(outcome)

        return await self._once("reserve", call(request), reserve)

    async def ReleaseStock(self, request: pb.ReleaseStockRequest, context: Context) -> pb.Reservation:
        now = self._clock.now()
        order_id = wire.uuid_key(request.order_id)
        return await self._once(
            "release",
            call(request),
            lambda tx: convert.reservation_to_proto(holds.release(tx, order_id=order_id, at=now)),
        )

    async def CommitStock(self, request: pb.CommitStockRequest, context: Context) -> pb.Reservation:
        now = self._clock.now()
        order_id = wire.uuid_key(request.order_id)
        return await self._once(
            "commit",
            call(request),
            lambda tx: convert.reservation_to_proto(holds.commit(tx, order_id=order_id, at=now)),
        )

    async def ReturnStock(self, request: pb.ReturnStockRequest, context: Context) -> pb.Reservation:
        now = self._clock.now()

        def give_back(tx: Transaction) -> pb.Reservation | DomainError:
            outcome = holds.give_back(
                tx,
                order_id=wire.uuid_key(request.order_id),
                return_id=wire.uuid_key(request.return_id),
                wants=convert.wants_from_proto(request.lines),
                at=now,
            )
            # As for ReserveStock: a refusal is returned, for it is to stay.
            return outcome if isinstance(outcome, DomainError) else convert.reservation_to_proto(outcome)

        return await self._once("return", call(request), give_back)

    async def _correct(
        self,
        request: pb.SetStockRequest | pb.AdjustStockRequest,
        change: Callable[[StockLevel], StockLevel],
        now: datetime,
    ) -> pb.StockLevel:
        product_id = wire.uuid_key(request.product_id)
        warehouse_id = wire.uuid_key(request.warehouse_id) or DEFAULT_WAREHOUSE_ID
        return await self._store.once(
            call(request),
            lambda tx: convert.level_to_proto(holds.correct(tx, product_id, warehouse_id, change, at=now)),
        )

    async def _once(
        self, step: str, this: Call, fn: Callable[[Transaction], pb.Reservation | DomainError]
    ) -> pb.Reservation:
        """One step of the order saga: where a test may kill us, before or after it is on disk."""

        def decided(tx: Transaction) -> pb.Reservation | DomainError:
            outcome = fn(tx)
            failpoints.reach(BEFORE_COMMIT[step])
            return outcome

        try:
            return await self._store.once(this, decided)
        finally:
            await failpoints.areach(AFTER_COMMIT[step])


def _availability(want: Want, levels: list[StockLevel]) -> pb.CheckAvailabilityResponse:
    fitting = [level for level in levels if want.warehouse_id in ("", level.warehouse_id)]
    # Set even where it is nothing: fields without a value are not shown over REST.
    reply = pb.CheckAvailabilityResponse(
        available=False, available_quantity=sum(level.available for level in fitting)
    )
    try:
        lines = allocate([want], fitting)
    except OutOfStock:
        return reply
    reply.available = True
    if len(lines) == 1:
        reply.warehouse_id = lines[0].warehouse_id
    return reply
