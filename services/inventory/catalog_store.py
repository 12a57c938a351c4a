"""Products, in and out of a transaction."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Final

import sqlalchemy as sa

from services.chassis.storage.faults import StaleVersion
from services.chassis.storage.session import Row, Session
from services.chassis.storage.statement import Statement
from services.inventory.announcements import Announcements
from services.inventory.catalog import (
    Description,
    PriceChanged,
    Product,
    ProductCreated,
    ProductNotFound,
    SkuTaken,
)
from services.inventory.tables import prices, products
from services.kernel.clock import from_micros, to_micros
from services.kernel.money import Money

_CHANGING: Final = [
    column.name for column in products.columns if column.name not in ("product_id", "create_time")
]

_FIND = Statement(sa.select(products).where(products.c.product_id == sa.bindparam("product_id")))
_FIND_SEVERAL = Statement(
    sa.select(products).where(products.c.product_id.in_(sa.bindparam("product_ids", expanding=True)))
)
_KNOWN = Statement(
    sa.select(products.c.product_id).where(
        products.c.product_id.in_(sa.bindparam("product_ids", expanding=True))
    )
)
_FIND_SKU = Statement(sa.select(products.c.product_id).where(products.c.sku == sa.bindparam("sku")))
_ADD = Statement(
    sa.insert(products).values({column.name: sa.bindparam(column.name) for column in products.columns})
)
_CHANGE = Statement(
    sa.update(products)
    .where(
        products.c.product_id == sa.bindparam("of_product_id"),
        products.c.version == sa.bindparam("of_version"),
    )
    .values({name: sa.bindparam(f"new_{name}") for name in _CHANGING})
)
_ADD_PRICE = Statement(
    sa.insert(prices).values({column.name: sa.bindparam(column.name) for column in prices.columns})
)


class Products:
    """The catalogue in one transaction."""

    def __init__(self, session: Session, announcements: Announcements) -> None:
        self._session = session
        self._announcements = announcements

    def get(self, product_id: str) -> Product:
        """Raises ProductNotFound."""
        found = self.find(product_id)
        if found is None:
            raise ProductNotFound(product_id=product_id)
        return found

    def find(self, product_id: str) -> Product | None:
        row = self._session.one(_FIND, product_id=product_id)
        return from_row(row) if row else None

    def several(self, product_ids: Iterable[str]) -> list[Product]:
        """Those of these products that exist."""
        return [from_row(row) for row in self._session.all(_FIND_SEVERAL, product_ids=list(product_ids))]

    def known(self, product_ids: Iterable[str]) -> set[str]:
        """The ids of those of these products that exist."""
        return {row["product_id"] for row in self._session.all(_KNOWN, product_ids=list(product_ids))}

    def save(self, product: Product) -> Product:
        """Writes the product with its price history and its events; nothing if nothing happened.

        Raises SkuTaken, and StaleVersion if someone else saved it since it was loaded.
        """
        if not product.pending_events:
            return product
        self._check_sku(product)
        saved = replace(product, version=product.version + 1, pending_events=())
        if product.version == 0:
            self._session.run(_ADD, **_row(saved))
        else:
            self._change(saved, product.version)
        if any(isinstance(event, ProductCreated | PriceChanged) for event in product.pending_events):
            self._add_price(saved)
        self._announcements.tell(product.pending_events)
        return saved

    def _check_sku(self, product: Product) -> None:
        row = self._session.one(_FIND_SKU, sku=product.described.sku)
        if row is not None and row["product_id"] != product.id:
            raise SkuTaken(sku=product.described.sku)

    def _change(self, saved: Product, expected_version: int) -> None:
        row = _row(saved)
        new = {f"new_{name}": row[name] for name in _CHANGING}
        if not self._session.run(_CHANGE, of_product_id=saved.id, of_version=expected_version, **new):
            raise StaleVersion(stream_id=saved.id, expected_version=expected_version)

    def _add_price(self, saved: Product) -> None:
        self._session.run(
            _ADD_PRICE,
            product_id=saved.id,
            product_version=saved.version,
            price_minor=saved.price.amount_minor,
            currency=saved.price.currency,
            effective_time=to_micros(saved.updated_at),
        )


def from_row(row: Row) -> Product:
    """The product that a row of `products` holds."""
    return Product(
        id=row["product_id"],
        described=Description(
            sku=row["sku"], name=row["name"], description=row["description"], category=row["category"]
        ),
        price=Money(row["price_minor"], row["currency"]),
        created_at=from_micros(row["create_time"]),
        updated_at=from_micros(row["update_time"]),
        version=row["version"],
    )


def _row(product: Product) -> dict[str, Any]:
    described = product.described
    return {
        "product_id": product.id,
        "sku": described.sku,
        "name": described.name,
        "description": described.description,
        "category": described.category,
        "price_minor": product.price.amount_minor,
        "currency": product.price.currency,
        "name_key": described.name.casefold(),
        # The unit separator keeps a search from matching across the seam of two fields.
        "search_text": f"{described.name}\x1f{described.sku}\x1f{described.description}".casefold(),
        "version": product.version,
        "create_time": to_micros(product.created_at),
        "update_time": to_micros(product.updated_at),
    }
