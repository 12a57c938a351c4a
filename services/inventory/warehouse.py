"""The houses that stock is kept in."""

from dataclasses import dataclass
from datetime import datetime

from services.kernel import errors


class WarehouseNotFound(errors.NotFound):
    """There is no warehouse {warehouse_id}."""


class WarehouseNameTaken(errors.AlreadyExists):
    """Another warehouse already has the name {name}."""


@dataclass(frozen=True, slots=True)
class Warehouse:
    id: str
    name: str
    preference: int
    """Orders take stock from the lowest number first."""

    created_at: datetime
