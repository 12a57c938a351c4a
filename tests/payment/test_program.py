"""The payment service as a process: it starts, tells what happened, stops cleanly, and survives kill -9."""

import asyncio
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import grpc
import pytest
import sqlalchemy as sa
from bodega.order.v1.order_events_pb2 import OrderRejected
from bodega.payment.v1 import payment_pb2 as pb
from bodega.payment.v1.payment_pb2_grpc import PaymentServiceStub

from services.chassis import audit as chassis_audit
from services.chassis import failpoints
from services.chassis.events.connection import Outgoing
from services.chassis.events.envelope import envelope
from services.chassis.events.jetstream import JetStream
from services.payment import tables
from services.payment.__main__ import assembled
from services.payment.config import PaymentSettings
from tests import service_process
from tests.chassis.events.waiting import eventually
from tests.chassis.proofs import Proofs, proving
from tests.payment.house import AMOUNT, new_id

WAIT_S = 60.0  # for what takes a second on a machine that has nothing else to do

Books = Callable[[], dict[str, dict[str, int]]]


@pytest.fixture
async def proofs(tmp_path: Path) -> AsyncIterator[Proofs]:
    async with proving(tmp_path) as made:
        yield made


@asynccontextmanager
async def program(
    proofs: Proofs, url: str, provider_url: str, *, failpoint: str = ""
) -> AsyncIterator[tuple[PaymentServiceStub, Process]]:
    async with (
        service_process.running(
            proofs, "payment", failpoint=failpoint, database_url=url, provider_database_url=provider_url
        ) as (at, process),
        proofs.connect(at, pb.DESCRIPTOR, workload="order") as channel,
    ):
        yield PaymentServiceStub(channel), process


async def authorization(proofs: Proofs, payment: PaymentServiceStub) -> pb.AuthorizePaymentRequest:
    user_id = new_id()
    with proofs.asking(user_id):
        method = await payment.AddPaymentMethod(
            pb.AddPaymentMethodRequest(user_id=user_id, provider_token="tok_approve")
        )
    return pb.AuthorizePaymentRequest(
        order_id=new_id(),
        user_id=method.user_id,
        payment_method_id=method.payment_method_id,
        amount=AMOUNT,
        request_id="authorize",
    )


async def test_what_happens_is_told_to_the_broker(
    proofs: Proofs, url: str, provider_url: str, tmp_path: Path, check_books: Books
) -> None:
    async with proofs.broker(tmp_path / "nats") as broker:
        settings = PaymentSettings(
            **proofs.settings("payment"),
            database_url=url,
            provider_database_url=provider_url,
            nats_url=broker.url,
        )
        async with assembled(settings) as server, server.running():
            async with proofs.connect(server.mesh_address, pb.DESCRIPTOR, workload="order") as channel:
                payment = PaymentServiceStub(channel)
                await payment.AuthorizePayment(await authorization(proofs, payment))
            await eventually(lambda: _published(url, 2))
    check_books()


async def test_an_order_that_has_ended_is_heard_of(
    proofs: Proofs, url: str, provider_url: str, tmp_path: Path
) -> None:
    ended = envelope("order", new_id(), OrderRejected(), id=new_id(), at=datetime.now(UTC))
    async with proofs.broker(tmp_path / "nats") as broker:
        async with JetStream.connect(broker.url, name="order", tls=proofs.papers.of("order")) as jetstream:
            connection = await jetstream.connection()
            await jetstream.ensure_stream(connection, "order")
            await connection.publish_window([Outgoing(ended.nats_subject, ended.headers(), ended.data)])
        settings = PaymentSettings(
            **proofs.settings("payment"),
            database_url=url,
            provider_database_url=provider_url,
            nats_url=broker.url,
        )
        async with assembled(settings) as server, server.running():
            await eventually(lambda: _closed(url, ended.subject))


async def _closed(url: str, order_id: str) -> bool:
    with chassis_audit.reading(url) as connection:
        closed = sa.select(tables.payments.c.closed).where(tables.payments.c.order_id == order_id)
        return bool(connection.scalar(closed))


async def _published(url: str, count: int) -> bool:
    with chassis_audit.reading(url) as connection:
        rows = connection.execute(sa.select(tables.outbox_rows.c.stream_seq)).scalars().all()
    return len(rows) == count and None not in rows


async def test_it_stops_cleanly_when_asked_to(proofs: Proofs, url: str, provider_url: str) -> None:
    async with program(proofs, url, provider_url) as (payment, process):
        await authorization(proofs, payment)
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(WAIT_S):
            assert await process.wait() == 0


async def test_it_does_not_start_without_the_provider_s_books(proofs: Proofs, url: str) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "services.payment",
        cwd=service_process.ROOT,
        env=service_process.environment(proofs, "payment", database_url=url),
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(WAIT_S):
        _, said = await process.communicate()
    assert process.returncode == 2
    assert said.decode().count("\n") == 1
    assert "BODEGA_PAYMENT__PROVIDER_DATABASE_URL" in said.decode()


@pytest.mark.parametrize("place", ["provider.answered"])  # all others: tests/faults
async def test_money_taken_by_a_process_that_was_killed_is_taken_once(
    proofs: Proofs, url: str, provider_url: str, check_books: Books, place: str
) -> None:
    async with program(proofs, url, provider_url, failpoint=f"payment.capture.{place}=exit") as (
        payment,
        process,
    ):
        wanted = await authorization(proofs, payment)
        await payment.AuthorizePayment(wanted)
        capture = pb.CapturePaymentRequest(order_id=wanted.order_id, request_id="capture")
        with pytest.raises(grpc.aio.AioRpcError):
            await payment.CapturePayment(capture)
        async with asyncio.timeout(WAIT_S):
            assert await process.wait() == failpoints.EXIT_CODE
    async with program(proofs, url, provider_url) as (payment, _):
        await eventually(lambda: _captured(payment, capture))
        assert (await payment.CapturePayment(capture)).state == pb.Payment.STATE_CAPTURED
    assert check_books()["ledger.posted"] == {"entries": 1, "movements": 1, "violations": 0}


async def _captured(payment: PaymentServiceStub, capture: pb.CapturePaymentRequest) -> bool:
    """The reconciler may be at it at this very moment."""
    try:
        return (await payment.CapturePayment(capture)).state == pb.Payment.STATE_CAPTURED
    except grpc.aio.AioRpcError as error:
        assert error.code() is grpc.StatusCode.ABORTED  # noqa: PT017 (any other ends the test)
        return False
