"""One transaction on the whole of inventory: what every servicer function and the sweeper work with."""

from services.chassis.storage.session import Session
from services.inventory.announcements import Announcements
from services.inventory.catalog_store import Products, Warehouses
from services.inventory.reservation_store import Reservations
from services.inventory.stock_store import Stock
from services.kernel.ids import Ids


class Transaction:
    """Catalogue, stock and holds, all or nothing."""

    def __init__(self, session: Session, ids: Ids) -> None:
        announcements = Announcements(session, ids)
        self.session = session
        self.products = Products(session, announcements)
        self.warehouses = Warehouses(session)
        self.stock = Stock(session, announcements)
        self.reservations = Reservations(session, self.stock, announcements)
