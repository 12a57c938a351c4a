"""The order service as it is started, a broker beside it."""

from datetime import UTC, datetime
from pathlib import Path

import httpx
from bodega.order.v1 import order_pb2 as pb
from bodega.order.v1.order_pb2_grpc import OrderServiceStub
from bodega.payment.v1 import payment_events_pb2
from google.type.money_pb2 import Money

from services.chassis import client
from services.chassis.app import App
from services.chassis.events.connection import Outgoing
from services.chassis.events.envelope import envelope
from services.chassis.events.jetstream import JetStream
from services.chassis.events.server import NatsServer
from services.chassis.feed import Feed
from services.chassis.storage.database import Store
from services.cli import observation
from services.cli.instances import Place
from services.kernel.clock import SystemClock
from services.kernel.ids import TimeOrderedIds
from services.order import domain
from services.order.__main__ import assembled
from services.order.config import OrderSettings
from services.order.facts import Step, StepRefused
from services.order.store import Transaction
from tests.chassis.events.waiting import eventually
from tests.chassis.proofs import Proofs, proving
from tests.order.conftest import placed

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ID = "0190dddd-0000-7000-8000-000000000001"
HELPER = "0190dddd-0000-7000-8000-0000000000aa"


async def rejected(database_url: str) -> domain.Order:
    ids = TimeOrderedIds(SystemClock())
    async with Store(
        database_url,
        open_transaction=lambda session: Transaction(session, ids, Feed()),
        clock=SystemClock(),
        secret=b"test",
    ) as store:
        order = domain.place(ID, placed(), at=NOW)
        order = order.apply(StepRefused(Step.RESERVE_STOCK, 1, "OUT_OF_STOCK"), at=NOW)
        return await store.write(lambda tx: tx.orders.save(order))


async def tell_of_late_money(nats: NatsServer, proofs: Proofs) -> None:
    """As payment does."""
    message = payment_events_pb2.PaymentRefunded(
        payment_id="p1", order_id=ID, amount=Money(currency_code="USD", units=9), late=True
    )
    told = envelope("payment", ID, message, id="e1", at=NOW)
    async with JetStream.connect(nats.url, name="payment", tls=proofs.papers.of("payment")) as jetstream:
        connection = await jetstream.connection()
        await jetstream.ensure_stream(connection, "payment")
        await connection.publish_window([Outgoing(told.nats_subject, told.headers(), told.data)])


async def status(server: App) -> observation.Observation:
    at = Place("order", "order", guests=server.grpc_address, operations=server.operations_address)
    async with httpx.AsyncClient(trust_env=False) as http:
        return await observation.Observer(http).service(at)


async def test_late_money_told_by_payment_stands_in_the_order_and_status_shows_who_listens(
    database_url: str, tmp_path: Path
) -> None:
    before = await rejected(database_url)
    async with proving(tmp_path) as proofs, proofs.broker(tmp_path / "nats") as nats:
        await tell_of_late_money(nats, proofs)
        settings = OrderSettings(**proofs.settings("order"), database_url=database_url, nats_url=nats.url)
        async with (
            assembled(settings) as server,
            server.running(),
            client.connect(server.grpc_address, pb.DESCRIPTOR) as channel,
        ):
            orders = OrderServiceStub(channel)

            async def noted() -> bool:
                return (await orders.GetOrder(pb.GetOrderRequest(order_id=ID))).version > before.version

            with proofs.asking(HELPER, "support"):
                await eventually(noted)

            async def shown() -> bool:
                return (await status(server)).consumer_lags == {"order-payment": 0}

            await eventually(shown)
            assert (await status(server)).missing == ()
