"""`bodega status` and `bodega events tail` against a running shop."""

import asyncio
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from services.chassis.events.connection import Connection
from services.chassis.tls import Identity
from services.cli.data_folder import SERVICES
from services.cli.endpoints import Endpoints
from services.cli.shopper import Shopper

RUN_MAX_S = 60.0
BODEGA = [sys.executable, "-P", "-m", "services.cli"]
LINE = re.compile(
    r"(?P<at>\S+Z)  (?P<service>\w+) +(?P<type>\w+) +(?P<subject>[0-9a-f-]{36})  (?P<trace>[0-9a-f]{32})  "
    r"(?P<json>{.*})"
)


class Tailing:
    """A `bodega events tail`, of which everything it says is read."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def until(self, *types: str, subject: str = "") -> list[dict[str, Any]]:
        """What was shown, once all these were (of one aggregate)."""
        give_up = time.monotonic() + RUN_MAX_S
        while not set(types) <= {event["type"] for event in self.shown if subject in ("", event["subject"])}:
            assert time.monotonic() < give_up, self.lines
            time.sleep(0.05)
        return self.shown

    @property
    def shown(self) -> list[dict[str, Any]]:
        found = [LINE.fullmatch(line) for line in list(self.lines)]
        assert None not in found, self.lines
        return [match.groupdict() for match in found if match]

    def ended(self) -> int:
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(RUN_MAX_S)
        self._reader.join(RUN_MAX_S)
        return code

    def _read(self) -> None:
        assert self.process.stdout is not None
        self.lines.extend(line.rstrip("\n") for line in self.process.stdout)


@contextmanager
def tailing(data: Path, *options: str) -> Iterator[Tailing]:
    command = [*BODEGA, "events", "tail", "--data", str(data), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            tail = Tailing(process)  # reads from the beginning: of a full pipe `tail` would wait for us
            assert process.stderr.readline() == "listening; Ctrl-C ends\n"
            yield tail
        finally:
            process.kill()


def bought(shopper: Shopper) -> str:
    buyer = shopper.buyer()["userId"]
    card = shopper.payment_method(buyer)["paymentMethodId"]
    product = shopper.product("Mug", cents=900, on_hand=1)["productId"]
    return str(shopper.order(buyer, card, {product: 1})["orderId"])


async def consumers_of(shop: Endpoints) -> list[str]:
    connection = Connection()
    identity = shop.identity()
    await connection.open(shop.nats, name="test", identity=Identity(identity) if identity else None)
    try:
        jetstream = connection.jetstream
        streams = await jetstream.streams_info()
        found = [await jetstream.consumers_info(stream.config.name or "") for stream in streams]
        return sorted(consumer.name for consumers in found for consumer in consumers)
    finally:
        await connection.close()


def test_events_are_shown_as_they_happen_and_nothing_is_left_behind(
    data: Path, shop: Endpoints, shopper: Shopper
) -> None:
    before = asyncio.run(consumers_of(shop))
    with tailing(data) as tail:
        order_id = bought(shopper)
        shown = tail.until("UserActivated", "StockCommitted", "PaymentCaptured", "OrderConfirmed")
        assert tail.ended() == 0
    about = [(event["service"], event["type"]) for event in shown if event["subject"] == order_id]
    assert [type_ for service, type_ in about if service == "order"] == ["OrderPlaced", "OrderConfirmed"]
    assert {service for service, _ in about} >= {"order", "inventory"}
    (trace,) = {event["trace"] for event in shown if event["type"] in ("OrderPlaced", "PaymentCaptured")}
    assert any(trace in line and order_id in line for line in tail.lines)
    assert asyncio.run(consumers_of(shop)) == before


def test_only_what_was_asked_for_is_shown_from_when_it_was_asked_for(data: Path, shopper: Shopper) -> None:
    order_id = bought(shopper)
    with tailing(data, "--service", "order", "--type", "OrderConfirmed", "--since", "5m") as tail:
        shown = tail.until("OrderConfirmed", subject=order_id)
        assert tail.ended() == 0
    assert {(event["service"], event["type"]) for event in shown} == {("order", "OrderConfirmed")}


def test_passwords_and_the_like_are_not_shown(data: Path, shopper: Shopper) -> None:
    with tailing(data, "--service", "user") as tail:
        buyer = shopper.buyer("Grace")
        tail.until("UserActivated", subject=buyer["userId"])
        tail.ended()
    assert any(buyer["userId"] in line for line in tail.lines)
    assert not [line for line in tail.lines if buyer["email"] in line]


def test_status_shows_every_program_and_how_far_it_is_behind(data: Path, shop: Endpoints) -> None:
    command = [*BODEGA, "status", "--data", str(data)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_MAX_S, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    rows: dict[str, str] = {}
    for line in done.stdout.splitlines()[2:]:
        rows.setdefault(line.split()[0], line)  # below the table, more may be said of a program
    assert rows.keys() >= {"gateway", *SERVICES, "nats"}
    assert all("SERVING" in rows[name] for name in ("gateway", *SERVICES, "nats"))
    assert all(f" {version('bodega')} " in rows[name] for name in ("gateway", *SERVICES))
    for name in SERVICES:
        assert str(shop.services[name].pid) in rows[name]
        assert "under way" in rows[name]
    assert "notification-order" in rows["notification"]
