"""What a service shows of itself, with a real broker and without one."""

import math

from services.chassis.events.consumer import Consumer
from services.chassis.events.jetstream import JetStream
from services.chassis.events.relay import Relay
from services.chassis.metrics import Metrics
from services.chassis.observed import observe_consumers, observe_outbox, observe_process
from services.kernel.clock import SystemClock
from tests.chassis.events.ledger import Ledger, say
from tests.chassis.events.waiting import eventually, running


def value(metrics: Metrics, name: str, **labels: str) -> float:
    found = metrics.registry.get_sample_value(name, labels)
    assert found is not None, name
    return found


async def test_a_process_says_who_it_is_and_since_when(speaker: Ledger) -> None:
    metrics = Metrics()
    observe_process(metrics, speaker)
    await metrics.refresh()
    assert value(metrics, "writer_transactions") == 0
    assert SystemClock().now().timestamp() - value(metrics, "bodega_start_time_seconds") < 60
    (build,) = [family for family in metrics.registry.collect() if family.name == "bodega_build"]
    assert build.samples[0].labels["version"]


async def test_lags_are_as_they_are_when_somebody_asks(
    speaker: Ledger, listener: Ledger, jetstream: JetStream
) -> None:
    metrics = Metrics()
    relay = Relay(speaker, jetstream, service="order", clock=SystemClock())
    consumer = Consumer(
        jetstream, listener, name="listener-order", service="order", reactions={}, clock=SystemClock()
    )
    observe_outbox(metrics, relay)
    observe_consumers(metrics, {"listener-order": consumer})
    async with running(consumer.run()):  # which makes the durable consumer

        async def known() -> bool:
            await metrics.refresh()
            return value(metrics, "consumer_lag_events", consumer="listener-order") == 0

        await eventually(known)
    await say(speaker, ("event-1", "order-1"), ("event-2", "order-1"))
    await metrics.refresh()
    assert value(metrics, "outbox_rows") == 2
    assert value(metrics, "outbox_oldest_age_seconds") > 0

    async def told() -> bool:
        await metrics.refresh()
        return value(metrics, "outbox_rows") == 0

    async with running(relay.run()):
        await eventually(told)
    assert value(metrics, "consumer_lag_events", consumer="listener-order") == 2


async def test_without_a_broker_a_consumers_lag_is_unknown(listener: Ledger) -> None:
    metrics = Metrics()
    async with JetStream.connect("nats://127.0.0.1:1", name="test") as nowhere:
        consumer = Consumer(
            nowhere, listener, name="listener-order", service="order", reactions={}, clock=SystemClock()
        )
        observe_consumers(metrics, {"listener-order": consumer})
        await metrics.refresh()
    assert math.isnan(value(metrics, "consumer_lag_events", consumer="listener-order"))
