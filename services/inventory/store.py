"""One transaction on the whole of inventory: what every servicer function and the sweeper work with."""

from services.chassis.feed import Feed
from services.chassis.storage.session import Session
from services.inventory.announcements import Announcements
from services.inventory.catalog_store import Products
from services.inventory.reservation_store import Reservations
from services.inventory.restock_store import RestockPlans
from services.inventory.return_store import Returns
from services.inventory.stock_store import Stock
from services.inventory.warehouse_store import Warehouses
from services.kernel.ids import Ids


class Transaction:
    """Catalogue, stock and holds, all or nothing."""

    def __init__(self, session: Session, ids: Ids, feed: Feed) -> None:
        announcements = Announcements(session, ids)
        self.session = session
        self.products = Products(session, announcements)
        self.warehouses = Warehouses(session)
        self.plans = RestockPlans(session, announcements)
        self.stock = Stock(session, announcements, self.plans, feed)
        self.reservations = Reservations(session, self.stock, announcements)
        self.returns = Returns(session)
