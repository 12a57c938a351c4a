"""The story that `bodega demo` tells: one buyer's visit to a shop."""

from collections.abc import Iterator
from typing import Any, Final, cast

import grpc
from bodega.order.v1 import order_pb2, order_pb2_grpc
from google.protobuf.json_format import MessageToDict
from rich.console import Console

from services.cli import shopper as shopping
from services.cli import timeline
from services.cli.edge import Json, new_id
from services.cli.endpoints import Endpoints
from services.cli.shopper import DECLINES, Shopper
from services.cli.signed_in import ANSWER_MAX_S
from services.cli.surprise import Surprise

TOLD_MAX_S: Final = 20.0  # messages are off the critical path, and arrive within moments

# What a payment is before shipping in a shop (or for a buyer) whose orders are paid when they ship.
_NOT_PAID_YET: Final = {"STATE_CAPTURED": "STATE_AUTHORIZED", "STATE_REFUNDED": "STATE_VOIDED"}


class Visit:
    """A visit to a shop, shown as it happens. Raises Surprise where the shop breaks its word."""

    def __init__(self, shop: Endpoints, shopper: Shopper, console: Console) -> None:
        self._shop = shop
        self._shopper = shopper
        self._console = console

    def run(self) -> None:
        scenes = (
            *(self._prepare, self._approved, self._declined, self._sold_out, self._repeated),
            *(self._cancelled, self._watched, self._refunded, self._told),
        )
        with self._console.status("") as self._working:  # for who waits longer than they like
            for scene in scenes:
                scene()
        self._console.print("\n[bold green]everything as promised[/]")

    def _prepare(self) -> None:
        self._title("A buyer, two cards, three products")
        buyer = self._shopper.buyer()
        self._buyer: str = buyer["userId"]
        self._good: str = self._shopper.payment_method(self._buyer)["paymentMethodId"]
        self._bad: str = self._shopper.payment_method(self._buyer, DECLINES)["paymentMethodId"]
        self._say(f"{buyer['username']}, {buyer['state']}, id {self._buyer}")
        self._beans = self._product("Coffee beans", cents=1490, on_hand=20)
        self._mug = self._product("Mug", cents=950, on_hand=5)
        self._rare = self._product("Rare grinder", cents=24900, on_hand=1)

    def _approved(self) -> None:
        self._title("An order that is approved")
        order = self._order({self._beans: 2, self._mug: 1}, "STATE_CONFIRMED")
        self._stock(self._beans, 18)
        self._money(order, "STATE_CAPTURED", units="39", nanos=300_000_000)

    def _declined(self) -> None:
        self._title("A card that is declined: what was reserved is given back")
        order = self._order({self._mug: 2}, "STATE_REJECTED", method=self._bad)
        self._check("the reason", order.get("rejectionReason"), "PAYMENT_DECLINED")
        self._stock(self._mug, 4)

    def _sold_out(self) -> None:
        self._title("More than there is")
        order = self._order({self._rare: 2, self._beans: 1}, "STATE_REJECTED")
        self._check("the reason", order.get("rejectionReason"), "OUT_OF_STOCK")
        self._check("a payment", order.get("paymentId", ""), "")
        self._stock(self._rare, 1)
        self._stock(self._beans, 18)

    def _repeated(self) -> None:
        self._title("The same Idempotency-Key twice: one order, one charge")
        key = new_id()
        order = self._order({self._mug: 1}, "STATE_CONFIRMED", key=key)
        again = self._shopper.order(self._buyer, self._good, {self._mug: 1}, key=key)
        self._check("the order of the repeat", again["orderId"], order["orderId"])
        path = f"/api/v1/payments/{order['paymentId']}/transactions"
        kinds = [found["kind"] for found in self._shopper.ask("GET", path)["transactions"]]
        self._check("captures", kinds.count("KIND_CAPTURE"), 0 if _is_paid_later(order) else 1)
        self._stock(self._mug, 3)

    def _cancelled(self) -> None:
        self._title("A confirmed order that is cancelled: money and goods go back")
        order = self._order({self._rare: 1}, "STATE_CONFIRMED")
        self._stock(self._rare, 0)
        self._shopper.cancel(order["orderId"], "changed my mind")
        order = self._via_grpc(order["orderId"])
        self._check("the order", order["state"], "STATE_CANCELLED")
        self._timeline(order["orderId"])
        self._stock(self._rare, 1)
        self._money(order, "STATE_REFUNDED", units="249", nanos=0)
        self._refunds: int = 0 if _is_paid_later(order) else 1

    def _watched(self) -> None:
        self._title("An order watched while it moves: confirmed, shipped, delivered")
        wish = shopping.order(self._buyer, self._good, {self._beans: 2, self._mug: 1}, wait=False)
        placed = self._shopper.ask("POST", "/api/v1/orders", body=wish)
        self._parcel: str = placed["orderId"]
        seen = 0
        with self._shopper.watch(self._parcel) as moves:
            seen = self._until("STATE_CONFIRMED", moves, seen)
            self._shopper.ship(self._parcel, "1Z999AA10123456784")
            seen = self._until("STATE_SHIPPED", moves, seen)
        self._say(f"the stream breaks; taken up again behind version {seen}")
        self._shopper.deliver(self._parcel)
        with self._shopper.watch(self._parcel, after_version=seen) as moves:
            self._until("STATE_DELIVERED", moves, seen)

    def _until(self, state: str, moves: Iterator[Json], seen: int) -> int:
        """Shows what happens until the order is in this state; every version once, in order. The last one."""
        for move in moves:
            self._check("the next version", int(move["version"]), seen + 1)
            seen += 1
            moved = str(move["state"]).removeprefix("STATE_")
            self._say(f"{seen:>2}  {moved:<10}  {timeline.describe(move['event'])}")
            if move["state"] == state:
                return seen
        raise Surprise(f"the stream ended before the order was {state}")

    def _refunded(self) -> None:
        self._title("One piece comes back: its price is refunded, it goes on sale again")
        self._stock(self._beans, 16)
        order = self._shopper.refund(self._parcel, {self._beans: 1}, return_stock=True, reason="too many")
        self._timeline(self._parcel)
        self._check("the order", order["state"], "STATE_PARTIALLY_REFUNDED")
        self._stock(self._beans, 17)
        self._money(order, "STATE_PARTIALLY_REFUNDED", units="39", nanos=300_000_000)
        refunded = self._shopper.payment(order["paymentId"])["refundedAmount"]
        self._check("refunded", (refunded["units"], refunded["nanos"]), ("14", 900_000_000))

    def _told(self) -> None:
        self._title("What the buyer was told")
        wanted = {
            "order.v1.OrderConfirmed": 4,
            "order.v1.OrderRejected": 2,
            "order.v1.OrderCancelled": 1,
            "order.v1.OrderShipped": 1,
            "order.v1.OrderDelivered": 1,
            "payment.v1.PaymentRefunded": self._refunds + 1,
        }

        def counts() -> dict[str, int]:
            types = [str(found["eventType"]) for found in self._shopper.notifications(self._buyer)]
            return {name: types.count(f"bodega.{name}") for name in wanted}

        def enough(found: dict[str, int]) -> bool:
            return all(found[name] >= count for name, count in wanted.items())

        self._shopper.eventually(counts, enough, f"the buyer is told: {wanted}", TOLD_MAX_S)
        self._check("messages", counts(), wanted)
        for told in reversed(self._shopper.notifications(self._buyer)):
            self._say(f"{told['title']}: {told['body']}")

    def _product(self, name: str, *, cents: int, on_hand: int) -> str:
        product = self._shopper.product(name, cents=cents, on_hand=on_hand)
        self._say(f"{on_hand:>3} x {name}, {cents / 100:.2f} USD, id {product['productId']}")
        return str(product["productId"])

    def _order(self, lines: dict[str, int], state: str, *, method: str = "", key: str | None = None) -> Json:
        order = self._shopper.order(self._buyer, method or self._good, lines, key=key)
        self._say(f"order {order['orderId']}: {order['state'].removeprefix('STATE_')}")
        self._timeline(order["orderId"])
        self._check("the order", order["state"], state)
        return order

    def _via_grpc(self, order_id: str) -> Json:
        """The same order from its service itself, past the edge."""
        request = order_pb2.GetOrderRequest(order_id=order_id)
        metadata = (("authorization", self._shopper.signed_in.bearer(self._shop.gateway)),)
        with grpc.insecure_channel(self._shop.services["order"].grpc) as channel:
            stub: Any = order_pb2_grpc.OrderServiceStub(
                cast("Any", channel)
            )  # typed for async channels alone
            try:
                found = stub.GetOrder(request, timeout=ANSWER_MAX_S, metadata=metadata)
            except grpc.RpcError as error:
                raise Surprise(f"GetOrder over gRPC: {error.code().name}") from None
        self._say(f"over gRPC, order {order_id}: {order_pb2.Order.State.Name(found.state)}")
        return dict(MessageToDict(found, always_print_fields_with_no_presence=True))

    def _money(self, order: Json, state: str, *, units: str, nanos: int) -> None:
        payment = self._shopper.payment(order["paymentId"])
        captured = payment["capturedAmount"]
        if _is_paid_later(order) and "shipTime" not in order:
            state, units, nanos = _NOT_PAID_YET[state], "0", 0
        self._check("the payment", payment["state"], state)
        self._check("captured", (captured.get("units", "0"), captured.get("nanos", 0)), (units, nanos))
        self._say(f"payment {payment['paymentId']}: {state.removeprefix('STATE_')}")

    def _stock(self, product_id: str, available: int) -> None:
        self._check(f"available of product {product_id}", self._shopper.available(product_id), available)

    def _timeline(self, order_id: str) -> None:

        self._console.print(timeline.table(self._shopper.timeline(order_id)))

    def _check(self, what: str, found: object, promised: object) -> None:

        if found != promised:
            raise Surprise(f"{what}: {found!r} instead of {promised!r}")

    def _title(self, text: str) -> None:
        self._console.print(f"\n[bold]{text}[/]")
        self._working.update(text)

    def _say(self, text: str) -> None:
        self._console.print(f"  {text}", markup=False, soft_wrap=True)


def _is_paid_later(order: Json) -> bool:
    """Whether it is paid when it is shipped; which of the two the shop's flags say (`order.capture`)."""
    return bool(order.get("capture") == "CAPTURE_ON_SHIPMENT")
