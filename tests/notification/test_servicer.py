"""Messages over a real server behind the onion."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import grpc
import pytest
from bodega.notification.v1 import notification_pb2 as pb
from bodega.notification.v1.notification_pb2_grpc import (
    NotificationServiceStub,
    add_NotificationServiceServicer_to_server,
)
from google.rpc.error_details_pb2 import BadRequest

from services.chassis import status
from services.chassis.paging import Pages
from services.chassis.testing import FakeClock, serving
from services.kernel.clock import SystemClock
from services.notification.domain import Channel
from services.notification.servicer import NotificationServicer
from tests.notification.stage import Messages, add, written

ADA = "0190bbbb-0000-7000-8000-00000000000a"
BOB = "0190bbbb-0000-7000-8000-00000000000b"
HOUR = timedelta(hours=1)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def stub(store: Messages, clock: FakeClock) -> AsyncIterator[NotificationServiceStub]:
    servicer = NotificationServicer(store, Pages(b"s", clock=clock))
    added = (add_NotificationServiceServicer_to_server, servicer)
    async with serving(added, files=[pb.DESCRIPTOR]) as channel:
        yield NotificationServiceStub(channel)


async def refusal(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    return refused.value


async def test_a_user_is_shown_their_own_messages_newest_first(
    stub: NotificationServiceStub, store: Messages
) -> None:
    sent = written(2, ADA).sent(at=written(2).created_at)
    await add(store, written(1, ADA), sent, written(3, BOB))
    reply = await stub.ListNotifications(pb.ListNotificationsRequest(user_id=ADA.upper()))
    assert [shown.notification_id for shown in reply.notifications] == ["n2", "n1"]
    newest, oldest = reply.notifications
    assert (newest.state, oldest.state) == (pb.Notification.STATE_SENT, pb.Notification.STATE_PENDING)
    assert newest.sent_time.ToDatetime()
    assert not oldest.HasField("sent_time")
    assert (oldest.order_id, oldest.event_id, oldest.channel) == ("o1", "e1", pb.Notification.CHANNEL_CONSOLE)


async def test_what_was_given_up_says_why(stub: NotificationServiceStub, store: Messages) -> None:
    waits = written(1, ADA, Channel.EMAIL).failed("SERVER_REFUSED_421", at=SystemClock().now(), retry_in=HOUR)
    await add(store, waits, written(2, ADA, Channel.EMAIL).given_up("RECIPIENT_REFUSED_550"))
    reply = await stub.ListNotifications(pb.ListNotificationsRequest(user_id=ADA))
    parked, pending = reply.notifications
    assert (parked.state, parked.problem) == (pb.Notification.STATE_PARKED, "RECIPIENT_REFUSED_550")
    assert (pending.state, pending.problem) == (pb.Notification.STATE_PENDING, "")
    assert parked.channel == pb.Notification.CHANNEL_EMAIL


async def test_a_user_nobody_wrote_to_has_an_empty_list(stub: NotificationServiceStub) -> None:
    assert not (await stub.ListNotifications(pb.ListNotificationsRequest(user_id=ADA))).notifications


async def test_messages_come_page_by_page(stub: NotificationServiceStub, store: Messages) -> None:
    await add(store, *(written(number, ADA) for number in range(5)))
    shown: list[str] = []
    token = ""
    for size in (2, 2, 1):
        request = pb.ListNotificationsRequest(user_id=ADA, page_size=2, page_token=token)
        page = await stub.ListNotifications(request)
        assert len(page.notifications) == size
        shown += [notification.notification_id for notification in page.notifications]
        token = page.next_page_token
    assert token == ""
    assert shown == ["n4", "n3", "n2", "n1", "n0"]


async def test_a_page_token_is_of_one_user_and_lasts_a_day(
    stub: NotificationServiceStub, store: Messages, clock: FakeClock
) -> None:
    await add(store, written(1, ADA), written(2, ADA))
    first = pb.ListNotificationsRequest(user_id=ADA, page_size=1)
    token = (await stub.ListNotifications(first)).next_page_token
    for request in (
        pb.ListNotificationsRequest(user_id=BOB, page_size=1, page_token=token),
        pb.ListNotificationsRequest(user_id=ADA, page_token="made up"),
    ):
        assert status.reason(await refusal(stub.ListNotifications(request))) == "INVALID_PAGE_TOKEN"
    clock.advance(24 * 3600 + 1)
    expired = pb.ListNotificationsRequest(user_id=ADA, page_size=1, page_token=token)
    assert status.reason(await refusal(stub.ListNotifications(expired))) == "INVALID_PAGE_TOKEN"


async def test_bad_input_is_refused_with_every_violation_named(stub: NotificationServiceStub) -> None:
    request = pb.ListNotificationsRequest(user_id="42", page_size=-1, page_token="x" * 1025)
    bad = status.detail(await refusal(stub.ListNotifications(request)), BadRequest)
    assert bad is not None
    assert {violation.field for violation in bad.field_violations} == {"user_id", "page_size", "page_token"}
