"""An instance's own part of discovery.py: it says where it is and how it is, to whoever asks the broker."""

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from importlib.metadata import version
from typing import Any, Final

import orjson
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.micro.service import EndpointStats, ServiceInfo, ServicePing, ServiceStats

from services.chassis.app import App
from services.chassis.discovery import TEXT_MAX, heard_by
from services.chassis.events.connection import BROKER_ERRORS, Connection
from services.chassis.events.jetstream import JetStream
from services.chassis.metrics import DISTRIBUTION, CallMetrics
from services.chassis.tracing.calls import FAILURES

_EVERYWHERE: Final = ("0.0.0.0", "[::]")  # noqa: S104 (where we listen; nobody can call there)


class Announcer:
    """Answers for one instance while its app runs: also while it drains, and again after the broker was away.

    nats-py's own `micro.Service` would take another id with each connection, keep the metadata it was made
    with, and needs nine subscriptions. What it says is used here, not how.
    """

    def __init__(self, app: App, jetstream: JetStream, *, started_at: datetime) -> None:
        self._app = app
        self._jetstream = jetstream
        self._instance = app.instance
        self._service = app.settings.service
        self._version = version(DISTRIBUTION)
        self._started_at = started_at
        self._answers: Mapping[str, Callable[[Connection], dict[str, Any]]] = {
            "PING": self._ping,
            "INFO": self._info,
            "STATS": self._stats,
        }

    async def run(self) -> None:
        """Never returns; a connection that breaks is followed by another."""
        await self._jetstream.on_each(self._answer_on)

    async def _answer_on(self, connection: Connection) -> None:
        broken = asyncio.Event()
        connection.on_broken(broken.set)

        async def answer(asked: Msg) -> None:
            await self._answer(asked, connection)

        subjects = heard_by(self._service, self._instance)
        subscriptions = [await connection.subscribe(subject, answer) for subject in subjects]
        try:
            if not connection.is_broken:
                await broken.wait()
        finally:
            await _end(subscriptions)

    async def _answer(self, asked: Msg, connection: Connection) -> None:
        answer = self._answers.get(asked.subject.split(".")[1])
        if answer is not None and asked.reply:
            with contextlib.suppress(*BROKER_ERRORS):
                await connection.publish(asked.reply, orjson.dumps(answer(connection)))

    def _ping(self, connection: Connection) -> dict[str, Any]:
        return ServicePing(self._instance, self._service, self._version, self._metadata(connection)).to_dict()

    def _info(self, connection: Connection) -> dict[str, Any]:
        return ServiceInfo(
            name=self._service,
            id=self._instance,
            version=self._version,
            description="Speaks gRPC, at the addresses in its metadata.",
            metadata=self._metadata(connection),
        ).to_dict()

    def _stats(self, connection: Connection) -> dict[str, Any]:
        return ServiceStats(
            id=self._instance,
            name=self._service,
            version=self._version,
            started=self._started_at,
            endpoints=[_endpoint(calls) for calls in self._app.metrics.served_so_far()],
            metadata=self._metadata(connection),
        ).to_dict()

    def _metadata(self, connection: Connection) -> dict[str, str]:
        """Where and how we are at this moment; strings, as the protocol has it."""
        app = self._app
        lacks = ", ".join(f"{found.name}: {found.problem}" for found in app.health.found if found.problem)
        lacks = lacks.encode("ascii", "replace").decode()  # else nobody would believe a word of it
        return {
            "mesh": _reachable(app.mesh_address, connection),
            "guests": _reachable(app.grpc_address, connection),
            "operations": _reachable(app.operations_address, connection),
            "state": app.health.state.value,
            "lacks": lacks[:TEXT_MAX],
            "pid": str(os.getpid()),
            "started_at": self._started_at.isoformat(timespec="milliseconds"),
        }


async def _end(subscriptions: Iterable[Subscription]) -> None:
    for subscription in subscriptions:
        with contextlib.suppress(*BROKER_ERRORS):  # it ended with its connection
            await subscription.unsubscribe()


def _endpoint(calls: CallMetrics) -> EndpointStats:
    """A method's figures in the protocol's words. Its subject is a name; nobody listens to it."""
    service, method = calls.labels
    spent_ns = int(calls.seconds * 1e9)
    ended = sum(calls.handled.values())
    return EndpointStats(
        name=method,
        subject=f"{service}.{method}",
        queue_group="",
        num_requests=calls.started,
        num_errors=sum(calls.handled.get(code, 0) for code in FAILURES),
        processing_time=spent_ns,
        average_processing_time=spent_ns // ended if ended else 0,
    )


def _reachable(address: str, connection: Connection) -> str:
    """Who listens everywhere is where the broker sees it."""
    host, _, port = address.rpartition(":")
    seen = connection.client.client_ip
    if host not in _EVERYWHERE or not seen:
        return address
    return f"[{seen}]:{port}" if ":" in seen else f"{seen}:{port}"
