"""Contract ⇄ domain, pure. Ids are lower-cased at the door: a UUID names the same thing in either case."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from bodega.inventory.v1 import inventory_pb2 as pb

from services.chassis import wire
from services.inventory.catalog import Description, Product
from services.inventory.reservation import Reservation, State
from services.inventory.restock import RestockPlan
from services.inventory.search import Search
from services.inventory.stock import Movement, MovementKind, StockLevel, Want, summed
from services.inventory.warehouse import Warehouse

HOLD_DEFAULT: Final = timedelta(minutes=15)  # time to finish a payment, and then some

_STATES: Final = {
    State.RESERVED: pb.Reservation.STATE_RESERVED,
    State.COMMITTED: pb.Reservation.STATE_COMMITTED,
    State.RELEASED: pb.Reservation.STATE_RELEASED,
    State.EXPIRED: pb.Reservation.STATE_EXPIRED,
}
_KINDS: Final = {
    MovementKind.SET: pb.StockMovement.KIND_COUNTED,
    MovementKind.ADJUST: pb.StockMovement.KIND_ADJUSTED,
    MovementKind.RESERVE: pb.StockMovement.KIND_RESERVED,
    MovementKind.RELEASE: pb.StockMovement.KIND_RELEASED,
    MovementKind.COMMIT: pb.StockMovement.KIND_COMMITTED,
    MovementKind.RETURN: pb.StockMovement.KIND_RETURNED,
    MovementKind.EXPIRE: pb.StockMovement.KIND_EXPIRED,
}


def description_from_proto(product: pb.Product) -> Description:
    """Raises SkuRequired or NameRequired."""
    return Description(
        sku=product.sku, name=product.name, description=product.description, category=product.category
    )


def product_to_proto(product: Product) -> pb.Product:
    described = product.described
    return pb.Product(
        product_id=product.id,
        sku=described.sku,
        name=described.name,
        description=described.description,
        category=described.category,
        price=wire.money_to_proto(product.price),
        create_time=wire.timestamp(product.created_at),
        update_time=wire.timestamp(product.updated_at),
        etag=product.etag,
    )


def search_from_proto(request: pb.ListProductsRequest) -> Search:
    """Raises what `money_from_proto` does, and CurrencyMismatch."""
    return Search(
        text=request.query,
        category=request.category,
        min_price=wire.money_from_proto(request.min_price) if request.HasField("min_price") else None,
        max_price=wire.money_from_proto(request.max_price) if request.HasField("max_price") else None,
        in_stock=request.in_stock,
        order_by=request.order_by,
    )


def level_to_proto(level: StockLevel) -> pb.StockLevel:
    return pb.StockLevel(
        product_id=level.product_id,
        warehouse_id=level.warehouse_id,
        on_hand=level.on_hand,
        reserved=level.reserved,
        available=level.available,
        update_time=wire.timestamp(level.updated_at),
    )


def levels_to_proto(version: int, levels: Sequence[StockLevel]) -> pb.WatchStockResponse:
    return pb.WatchStockResponse(
        version=version,
        levels=map(level_to_proto, levels),
        available=sum(level.available for level in levels),
    )


def movement_to_proto(movement: Movement) -> pb.StockMovement:
    return pb.StockMovement(
        movement_id=movement.sequence,
        product_id=movement.product_id,
        warehouse_id=movement.warehouse_id,
        kind=_KINDS[movement.kind],
        on_hand_delta=movement.delta_on_hand,
        reserved_delta=movement.delta_reserved,
        order_id=movement.order_id,
        reason=movement.reason,
        create_time=wire.timestamp(movement.at),
    )


def warehouse_to_proto(warehouse: Warehouse) -> pb.Warehouse:
    return pb.Warehouse(
        warehouse_id=warehouse.id,
        name=warehouse.name,
        preference=warehouse.preference,
        create_time=wire.timestamp(warehouse.created_at),
    )


def plan_to_proto(plan: RestockPlan) -> pb.RestockPlan:
    return pb.RestockPlan(
        product_id=plan.product_id,
        warehouse_id=plan.warehouse_id,
        expected_time=wire.timestamp(plan.expected_at) if plan.expected_at else None,
        expected_quantity=plan.expected_quantity,
        low_stock_below=plan.low_stock_below,
        update_time=wire.timestamp(plan.updated_at),
    )


def expected_time(request: pb.SetRestockPlanRequest) -> datetime | None:
    return request.expected_time.ToDatetime(UTC) if request.HasField("expected_time") else None


def wants_from_proto(lines: Iterable[pb.ReserveLine]) -> tuple[Want, ...]:
    return summed(
        Want(wire.uuid_key(line.product_id), wire.uuid_key(line.warehouse_id), line.quantity)
        for line in lines
    )


def hold_time(request: pb.ReserveStockRequest) -> timedelta:
    return request.expires_in.ToTimedelta() if request.HasField("expires_in") else HOLD_DEFAULT


def reservation_to_proto(reservation: Reservation) -> pb.Reservation:
    """What callers see of a hold; a REFUSED one is answered with its refusal instead."""
    made = pb.Reservation(
        reservation_id=reservation.id,
        order_id=reservation.order_id,
        state=_STATES[reservation.state],
        lines=(
            pb.ReservedLine(
                product_id=line.product_id,
                warehouse_id=line.warehouse_id,
                quantity=line.quantity,
                returned_quantity=line.returned,
            )
            for line in reservation.lines
        ),
        create_time=wire.timestamp(reservation.created_at),
        update_time=wire.timestamp(reservation.updated_at),
    )
    if reservation.expires_at is not None:
        made.expire_time.CopyFrom(wire.timestamp(reservation.expires_at))
    return made
