"""Warehouses, in and out of a transaction."""

from typing import Any

import sqlalchemy as sa

from services.chassis.paging import Cursor
from services.chassis.storage.session import Row, Session
from services.chassis.storage.statement import Statement
from services.inventory.tables import warehouses
from services.inventory.warehouse import Warehouse, WarehouseNameTaken, WarehouseNotFound
from services.kernel.clock import from_micros, to_micros

_ORDER = (warehouses.c.preference, warehouses.c.warehouse_id)

_FIND = Statement(
    sa.select(warehouses.c.warehouse_id).where(warehouses.c.warehouse_id == sa.bindparam("warehouse_id"))
)
_FIND_NAME = Statement(sa.select(warehouses.c.warehouse_id).where(warehouses.c.name == sa.bindparam("name")))
_ADD = Statement(
    sa.insert(warehouses).values({column.name: sa.bindparam(column.name) for column in warehouses.columns})
)


class Warehouses:
    """Where stock can be, in one transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def check(self, warehouse_id: str) -> None:
        """Raises WarehouseNotFound."""
        if self._session.one(_FIND, warehouse_id=warehouse_id) is None:
            raise WarehouseNotFound(warehouse_id=warehouse_id)

    def add(self, opened: Warehouse) -> Warehouse:
        """Raises WarehouseNameTaken."""
        if self._session.one(_FIND_NAME, name=opened.name) is not None:
            raise WarehouseNameTaken(name=opened.name)
        self._session.run(
            _ADD,
            warehouse_id=opened.id,
            name=opened.name,
            preference=opened.preference,
            create_time=to_micros(opened.created_at),
        )
        return opened


def page(*, after: Cursor | None, rows_max: int) -> sa.Select[Any]:
    """The warehouses that come after a place, most preferred first; `store.fetch` runs it."""
    found = sa.select(warehouses)
    if after is not None:
        found = found.where(sa.tuple_(*_ORDER) > sa.tuple_(*after))
    return found.order_by(*_ORDER).limit(rows_max)


def place(row: sa.RowMapping) -> Cursor:
    """Where a warehouse stands in that order."""
    return [row[column.name] for column in _ORDER]


def from_row(row: Row) -> Warehouse:
    """The warehouse that a row of `warehouses` holds."""
    return Warehouse(
        id=row["warehouse_id"],
        name=row["name"],
        preference=row["preference"],
        created_at=from_micros(row["create_time"]),
    )
