"""Products and their prices: what may become of them."""

from dataclasses import dataclass, replace
from datetime import datetime

from services.kernel import errors
from services.kernel.money import Money


class ProductNotFound(errors.NotFound):
    """There is no product {product_id}."""


class SkuTaken(errors.AlreadyExists):
    """Another product already has the article number {sku}."""


class SkuRequired(errors.Invalid):
    """A product cannot be without an article number."""

    field = "product.sku"


class NameRequired(errors.Invalid):
    """A product cannot be without a name."""

    field = "product.name"


class StaleEtag(errors.Stale):
    """Product {product_id} has changed since the etag {etag}; it is at {current_etag}."""


@dataclass(frozen=True, slots=True)
class ProductCreated:
    product_id: str
    sku: str
    price: Money
    at: datetime


@dataclass(frozen=True, slots=True)
class ProductUpdated:
    product_id: str
    changed_fields: tuple[str, ...]
    at: datetime


@dataclass(frozen=True, slots=True)
class PriceChanged:
    product_id: str
    old_price: Money
    new_price: Money
    at: datetime


CatalogEvent = ProductCreated | ProductUpdated | PriceChanged


@dataclass(frozen=True, slots=True)
class Description:
    """What can be said of a product beside its price."""

    sku: str
    name: str
    description: str = ""
    category: str = ""

    def __post_init__(self) -> None:
        if not self.sku:
            raise SkuRequired
        if not self.name.strip():
            raise NameRequired

    def differences(self, other: "Description") -> tuple[str, ...]:
        """Names of the fields in which the other differs, in the order of the contract."""
        return tuple(name for name in self.__slots__ if getattr(self, name) != getattr(other, name))


@dataclass(frozen=True, slots=True)
class Product:
    """Something for sale."""

    id: str
    described: Description
    price: Money
    created_at: datetime
    updated_at: datetime
    version: int = 0
    """How often it was saved; 0 for one that never was."""

    pending_events: tuple[CatalogEvent, ...] = ()
    """What happened since it was loaded; saved with it."""

    @classmethod
    def create(cls, *, product_id: str, described: Description, price: Money, at: datetime) -> "Product":
        return cls(
            id=product_id,
            described=described,
            price=price,
            created_at=at,
            updated_at=at,
            pending_events=(ProductCreated(product_id, described.sku, price, at),),
        )

    @property
    def etag(self) -> str:
        """Changes with every change; opaque to callers."""
        return f"v{self.version}"

    def expect(self, etag: str) -> "Product":
        """Itself, if the etag is current or empty; else raises StaleEtag."""
        if etag and etag != self.etag:
            raise StaleEtag(product_id=self.id, etag=etag, current_etag=self.etag)
        return self

    def describe(self, described: Description, *, at: datetime) -> "Product":
        """The product under a new description; nothing happens if it is the old one."""
        changed = self.described.differences(described)
        if not changed:
            return self
        return replace(self._happened(ProductUpdated(self.id, changed, at), at), described=described)

    def set_price(self, price: Money, *, at: datetime) -> "Product":
        """The product at a new price; nothing happens if it is the old one."""
        if price == self.price:
            return self
        return replace(self._happened(PriceChanged(self.id, self.price, price, at), at), price=price)

    def _happened(self, event: CatalogEvent, at: datetime) -> "Product":
        return replace(self, updated_at=at, pending_events=(*self.pending_events, event))
