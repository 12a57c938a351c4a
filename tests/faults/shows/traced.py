"""Orders, each looked for in a collector: one trace from the edge to the last consumer, whole."""

import asyncio
import re
import uuid
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Final

import httpx

from services.cli.data_folder import SERVICES
from tests.collector import Collector, Received, collecting, orphans, roots
from tests.faults.figures import Figure
from tests.faults.scene import Json, Scene, shop_in

AT_ONCE: Final = 8
EVERYONE: Final = frozenset({"gateway", *SERVICES})
FIRST: Final = "POST /api/v1/orders"
LAST: Final = "send CONSOLE"
"""What the last consumer, notification, does in the end."""

_LOST: Final = re.compile(r"^tracing_spans_lost (\S+)$", re.MULTILINE)


async def shown(home: Path, orders: int) -> Sequence[Figure]:
    """Places so many orders in a new shop that samples everything."""
    with collecting() as collector:
        scene = Scene(shop_in(home, otlp=collector.endpoint), home)
        try:
            await scene.open()
            await scene.furnish()
            bereft = await _driver_dies(scene)  # first: who is killed takes the last second's spans along
            placed = await _placed(scene, orders)
            other = sum([await _other_traces(scene, order, trace) for order, trace in placed.items()])
            await scene.everything_holds()
            lost = await _lost(scene)
        finally:
            await scene.close()  # programs that leave hand over what they have
        return _figures(collector, [*placed.values()], bereft, other=other, lost=lost)


async def _placed(scene: Scene, orders: int) -> dict[str, str]:
    """Trace ids by order, once everyone has been told of it."""
    room, traces = asyncio.Semaphore(AT_ONCE), dict[str, str]()

    async def place() -> None:
        async with room:
            body = scene.order_body(wait=True)
            headers = {"Idempotency-Key": str(uuid.uuid4())}
            answer = await scene.http.post("/orders", json=body, headers=headers, auth=scene.signed_in)
            assert answer.is_success, answer.text
            order: Json = answer.json()
            assert order["state"] == "STATE_CONFIRMED", order
            traces[order["orderId"]] = answer.headers["traceparent"].split("-")[1]
            await scene.assert_told(order, ["Order confirmed"])

    await asyncio.gather(*(place() for _ in range(orders)))
    return traces


async def _driver_dies(scene: Scene) -> str:
    """The trace of an order that another process had to see through."""
    body = scene.order_body(wait=False)
    ordering = scene.ask("POST", "/orders", body, key=str(uuid.uuid4()))
    [placed] = await scene.survives("order", "order.capture_payment.before=exit", ordering)
    order = await scene.settled(placed["orderId"])
    await scene.assert_paid(order)
    [trace] = {event["traceId"] for event in await _events(scene, order["orderId"])}
    return str(trace)


async def _events(scene: Scene, order_id: str) -> list[Json]:
    return list((await scene.ask("GET", f"/orders/{order_id}/events"))["events"])


async def _other_traces(scene: Scene, order_id: str, trace_id: str) -> int:
    """How many events of an order tell another trace than the one in which it was placed."""
    events = await _events(scene, order_id)
    assert events
    return sum(event["traceId"] != trace_id for event in events)


async def _lost(scene: Scene) -> float:
    """What the programs say that the collector did not get."""
    at = [scene.shop.gateway_operations, *(found.http for found in scene.shop.endpoints.services.values())]
    async with httpx.AsyncClient() as http:
        pages = [(await http.get(f"http://{place}/metrics")).text for place in at]
    found = [match for page in pages if (match := _LOST.search(page))]
    assert len(found) == len(EVERYONE)
    return sum(float(match[1]) for match in found)


def _figures(
    collector: Collector, wanted: Sequence[str], bereft: str, *, other: int, lost: float
) -> Sequence[Figure]:
    traces = collector.traces()
    after_death = traces.pop(bereft, [])  # what its first driver had not sent yet died with it
    of_orders = [traces.get(trace_id, []) for trace_id in wanted]
    return [
        Figure("orders", len(of_orders), at_least=1),
        Figure("traces that are not whole", sum(not is_whole(spans) for spans in of_orders), at_most=0),
        Figure("spans without their parent", sum(map(len, map(orphans, traces.values()))), at_most=0),
        Figure("events of orders that tell another trace", other, at_most=0),
        Figure("spans lost", lost, at_most=0),
        Figure("orders whose driver died, in their own trace to the end", ends(after_death), at_least=1),
        Figure("median of spans in an order's trace", median(map(len, of_orders))),
        Figure("spans in all", len(collector.spans)),
    ]


def ends(spans: Sequence[Received]) -> bool:
    """Whether the money was taken, and the last consumer told of it."""
    return {"saga CAPTURE_PAYMENT", LAST} <= {span.name for span in spans}


def is_whole(spans: Sequence[Received]) -> bool:
    """Whether an order's trace begins at the edge and ends at the last consumer, joined in between."""
    return (
        [root.name for root in roots(spans)] == [FIRST]
        and not orphans(spans)
        and {span.service for span in spans} == EVERYONE
        and any(span.name == LAST for span in spans)
    )
