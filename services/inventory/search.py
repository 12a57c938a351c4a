"""Looking for products: filters and order as one query. Pure; `store.fetch` runs it."""

from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from services.chassis.paging import Cursor
from services.inventory.tables import products, stock_levels
from services.kernel.money import CurrencyMismatch, Money

_BY_PRICE: Final = (products.c.currency, products.c.price_minor, products.c.product_id)
_BY_NAME: Final = (products.c.name_key, products.c.product_id)
_BY_TIME: Final = (products.c.create_time, products.c.product_id)

# Every order ends in the id, so that it is total and a page can begin after any product. Prices are compared
# within their currency: there is no rate between them here.
_ORDERS: Final[dict[str, tuple[tuple[sa.Column[Any], ...], bool]]] = {
    "": (_BY_TIME, True),
    "create_time desc": (_BY_TIME, True),
    "create_time": (_BY_TIME, False),
    "name": (_BY_NAME, False),
    "name desc": (_BY_NAME, True),
    "price": (_BY_PRICE, False),
    "price desc": (_BY_PRICE, True),
}


@dataclass(frozen=True, slots=True)
class Search:
    """What somebody is looking for. Raises CurrencyMismatch for prices in two currencies."""

    text: str = ""
    category: str = ""
    min_price: Money | None = None
    max_price: Money | None = None
    in_stock: bool = False
    order_by: str = ""
    """One of the orders of ListProducts."""

    def __post_init__(self) -> None:
        low, high = self.min_price, self.max_price
        if low is not None and high is not None and low.currency != high.currency:
            raise CurrencyMismatch(left=low.currency, right=high.currency)

    def page(self, *, after: Cursor | None, rows_max: int) -> sa.Select[Any]:
        """The matching products that come after a place in this order; from the first on if it is None."""
        columns, descending = _ORDERS[self.order_by]
        found = sa.select(products).where(*self._conditions())
        if after is not None:
            here, there = sa.tuple_(*columns), sa.tuple_(*after)
            found = found.where(here < there if descending else here > there)
        return found.order_by(*(sa.desc(column) if descending else column for column in columns)).limit(
            rows_max
        )

    def place(self, row: sa.RowMapping) -> Cursor:
        """Where a product stands in this order."""
        columns, _ = _ORDERS[self.order_by]
        return [row[column.name] for column in columns]

    def _conditions(self) -> list[sa.ColumnElement[bool]]:
        conditions: list[sa.ColumnElement[bool]] = []
        if self.text:
            conditions.append(products.c.search_text.contains(self.text.casefold(), autoescape=True))
        if self.category:
            conditions.append(products.c.category == self.category)
        if self.min_price is not None:
            conditions.append(products.c.currency == self.min_price.currency)
            conditions.append(products.c.price_minor >= self.min_price.amount_minor)
        if self.max_price is not None:
            conditions.append(products.c.currency == self.max_price.currency)
            conditions.append(products.c.price_minor <= self.max_price.amount_minor)
        if self.in_stock:
            conditions.append(
                sa.exists().where(
                    stock_levels.c.product_id == products.c.product_id,
                    stock_levels.c.on_hand > stock_levels.c.reserved,
                )
            )
        return conditions
