import socket
from datetime import UTC, datetime, timedelta

import pytest
from bodega.user.v1 import user_events_pb2, user_pb2, user_pb2_grpc

from services.chassis.events.envelope import envelope
from services.chassis.testing import (
    FakeClock,
    RecordingBus,
    SequentialIds,
    free_port,
    nats_server,
    serving,
    until,
)


def test_a_fake_clock_moves_when_told() -> None:
    clock = FakeClock(datetime(2026, 1, 1, tzinfo=UTC))
    before = clock.monotonic()
    clock.advance(1.5)
    assert clock.now() == datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=1.5)
    assert clock.monotonic() == before + 1.5


def test_sequential_ids_pass_for_uuids() -> None:
    ids = SequentialIds()
    assert [ids.new(), ids.new()] == [
        "00000000-0000-7000-8000-000000000001",
        "00000000-0000-7000-8000-000000000002",
    ]


def test_a_recording_bus_knows_what_it_was_told() -> None:
    bus = RecordingBus()
    at = FakeClock().now()
    told = user_events_pb2.UserActivated(user_id="u-1")
    bus.add(envelope("user", "u-1", told, id="e-1", at=at))
    bus.add(envelope("user", "u-1", user_events_pb2.UserSuspended(user_id="u-1"), id="e-2", at=at))
    assert bus.told(user_events_pb2.UserActivated) == [told]
    assert [kept.id for kept in bus.envelopes] == ["e-1", "e-2"]


async def test_a_nats_server_answers_and_leaves_nothing() -> None:
    async with nats_server() as server:
        host, _, port = server.url.removeprefix("nats://").partition(":")
        with socket.create_connection((host, int(port)), timeout=5) as connection:
            assert connection.recv(4) == b"INFO"
    assert not server.running


async def test_until_waits_for_a_condition_but_not_for_ever() -> None:
    times = iter([False, False, True])
    await until(lambda: next(times))
    with pytest.raises(TimeoutError):
        await until(lambda: False, within_s=0.01)


def test_a_free_port_can_be_listened_on() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", free_port()))


def test_no_port_is_called_free_twice_and_no_connection_is_given_one() -> None:
    ports = [free_port() for _ in range(20)]
    assert len(set(ports)) == len(ports)
    for _ in range(20):
        with socket.socket() as anybody:
            anybody.bind(("127.0.0.1", 0))
            assert anybody.getsockname()[1] > max(ports)


class OneUser(user_pb2_grpc.UserServiceServicer):  # the rest stays unimplemented
    async def GetUser(self, request: user_pb2.GetUserRequest, context: object) -> user_pb2.User:
        return user_pb2.User(user_id=request.user_id)


async def test_serving_serves_generated_servicers_to_generated_stubs() -> None:
    user_id = SequentialIds().new()
    add = user_pb2_grpc.add_UserServiceServicer_to_server
    async with serving((add, OneUser()), files=[user_pb2.DESCRIPTOR]) as channel:  # type: ignore[abstract]
        stub = user_pb2_grpc.UserServiceStub(channel)
        assert (await stub.GetUser(user_pb2.GetUserRequest(user_id=user_id))).user_id == user_id
