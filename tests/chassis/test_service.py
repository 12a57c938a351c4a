"""What every service has: opened, told what to do, closed."""

from pathlib import Path
from typing import Any

import grpc
import pytest
import sqlalchemy as sa

from services.chassis import client
from services.chassis.config import ServiceSettings
from services.chassis.events import outbox
from services.chassis.events.envelope import Envelope
from services.chassis.events.server import NatsServer
from services.chassis.health import State
from services.chassis.service import Service, opened
from services.chassis.storage import audit_trail
from services.chassis.storage.migrations import engine_for_migrations
from services.kernel import errors
from tests.chassis import playground
from tests.chassis.events.ledger import Transaction, ids_heard, metadata, say
from tests.chassis.events.waiting import eventually
from tests.chassis.playground import FILE, Ping, Pong, Stub
from tests.databases import Databases


def made(databases: Databases, name: str) -> str:
    url = databases.new(name)
    engine = engine_for_migrations(url)
    metadata.create_all(engine)
    engine.dispose()
    return url


@pytest.fixture
def settings(databases: Databases) -> ServiceSettings:
    return ServiceSettings(
        service="order",
        guests_plaintext=True,
        database_url=made(databases, "order"),
        nats_url="nats://127.0.0.1:1",
    )


def figure(service: Service[Transaction], name: str, **labels: str) -> float | None:
    return service.app.metrics.registry.get_sample_value(name, labels)


async def test_what_is_published_is_heard_and_both_sides_show_how_far_they_are(
    tmp_path: Path, databases: Databases
) -> None:
    def hear(tx: Transaction, event: Envelope, _message: object) -> None:
        tx.hear(event)

    async with NatsServer(tmp_path / "nats") as nats:
        a, b = made(databases, "a"), made(databases, "b")
        speaking = ServiceSettings(service="order", guests_plaintext=True, database_url=a, nats_url=nats.url)
        listening = speaking.model_copy(update={"service": "listener", "database_url": b})
        async with (
            opened(speaking, lambda session, _: Transaction(session)) as speaker,
            opened(listening, lambda session, _: Transaction(session)) as listener,
        ):
            speaker.publish()
            speaker.forget(outbox.RETENTION)
            listener.consume({"order": {"bodega.order.v1.OrderCancelled": hear}})
            async with speaker.app.running(), listener.app.running():
                await say(speaker.store, ("event-1", "order-1"))

                async def heard() -> bool:
                    return await ids_heard(listener.store) == ["event-1"]

                await eventually(heard)

                async def caught_up() -> bool:
                    await listener.app.metrics.refresh()
                    return figure(listener, "consumer_lag_events", consumer="listener-order") == 0

                async def noted() -> bool:
                    await speaker.app.metrics.refresh()
                    return figure(speaker, "outbox_rows") == 0

                await eventually(caught_up)
                await eventually(noted)
                assert figure(speaker, "bodega_start_time_seconds")


async def test_without_a_broker_a_service_serves_and_says_what_it_lacks(settings: ServiceSettings) -> None:
    async with opened(settings, lambda session, _: Transaction(session)) as service, service.app.running():
        assert service.app.health.state is State.DEGRADED
        assert service.app.health.report()["checks"]["events"]["ok"] is False


async def test_channels_to_neighbours_are_counted_and_closed_with_the_service(
    settings: ServiceSettings,
) -> None:
    async def echo(request: Any, _context: Any) -> Any:
        return Pong(name=request.name)

    async with opened(settings, lambda session, _: Transaction(session)) as service:
        service.app.serve(playground.add_to_server, {"Recite": echo}, FILE)
        async with service.app.running():
            channel = service.connect(service.app.grpc_address, FILE)
            assert isinstance(channel, client.Channel)
            await Stub(channel).Recite(Ping(name="hi"))
            methods = {"grpc_service": playground.SERVICE, "grpc_method": "Recite"}
            assert figure(service, "grpc_client_started_total", **methods) == 1
    assert channel.get_state() is grpc.ChannelConnectivity.SHUTDOWN


async def test_who_was_refused_is_in_the_audit_trail_when_the_service_has_ended(
    settings: ServiceSettings,
) -> None:
    async def refuse(_request: Any, _context: Any) -> Any:
        raise errors.Forbidden

    async with opened(settings, lambda session, _: Transaction(session)) as service:
        service.app.serve(playground.add_to_server, {"Recite": refuse}, FILE)
        async with service.app.running(), client.connect(service.app.grpc_address, FILE) as channel:
            with pytest.raises(grpc.aio.AioRpcError):
                await Stub(channel).Recite(Ping(name="hi"))
        rows = await service.store.fetch(sa.select(audit_trail.TRAIL))
        assert figure(service, "audit_denials_lost") == 0
    assert [(row["kind"], row["outcome"], row["address"]) for row in rows] == [
        ("denied", "FORBIDDEN", "127.0.0.1")
    ]
