"""What owners of accounts wish, and since when."""

import asyncio

import grpc
import pytest
from bodega.user.v1 import user_events_pb2 as told
from bodega.user.v1 import user_pb2 as pb
from bodega.user.v1.user_pb2_grpc import UserServiceStub

from services.chassis.storage.database import Store
from services.chassis.testing import FakeClock
from services.chassis.wire import timestamp
from services.user.store import Transaction
from tests.user.accounts import NOBODY, active, events, reason, registration


def wishing(
    user: pb.User, *, marketing: bool, etag: str = "", request_id: str = ""
) -> pb.UpdatePreferencesRequest:
    wishes = pb.Preferences(user_id=user.user_id, marketing_opt_in=marketing, etag=etag)
    return pb.UpdatePreferencesRequest(preferences=wishes, request_id=request_id)


async def wishes(users: UserServiceStub, user: pb.User) -> pb.Preferences:
    return await users.GetPreferences(pb.GetPreferencesRequest(user_id=user.user_id))


async def test_nobody_agreed_to_offers_who_did_not_say_so(users: UserServiceStub) -> None:
    user = await users.RegisterUser(registration())
    assert await wishes(users, user) == pb.Preferences(user_id=user.user_id, etag=user.etag)


async def test_since_when_somebody_agrees_is_kept_until_they_do_not(
    users: UserServiceStub, store: Store[Transaction], clock: FakeClock
) -> None:
    user = await active(users)
    clock.advance(60)
    agreed_at = timestamp(clock.now())
    agreed = await users.UpdatePreferences(wishing(user, marketing=True))
    assert (agreed.marketing_opt_in, agreed.marketing_opt_in_time) == (True, agreed_at)
    clock.advance(60)
    again = await users.UpdatePreferences(wishing(user, marketing=True, etag=agreed.etag))
    assert again == agreed == await wishes(users, user)
    withdrawn = await users.UpdatePreferences(wishing(user, marketing=False))
    assert not withdrawn.marketing_opt_in
    assert not withdrawn.HasField("marketing_opt_in_time")
    said = told.UserUpdated(user_id=user.user_id, changed_fields=["preferences.marketing_opt_in"])
    assert await events(store, told.UserUpdated) == [said, said]


async def test_a_repeat_gets_the_first_reply(users: UserServiceStub) -> None:
    user = await active(users)
    request = wishing(user, marketing=True, request_id="same")
    replies = await asyncio.gather(*(users.UpdatePreferences(request) for _ in range(4)))
    assert all(reply == replies[0] for reply in replies)


async def test_wishes_do_not_change_with_the_account(users: UserServiceStub) -> None:
    user = await active(users)
    agreed = await users.UpdatePreferences(wishing(user, marketing=True))
    await users.SuspendUser(pb.SuspendUserRequest(user_id=user.user_id, reason="r"))
    found = await wishes(users, user)
    assert found.marketing_opt_in_time == agreed.marketing_opt_in_time
    assert found.etag != agreed.etag


@pytest.mark.parametrize("marketing", [True, False])
async def test_an_old_etag_is_stale(users: UserServiceStub, *, marketing: bool) -> None:
    user = await active(users)
    await users.UpdatePreferences(wishing(user, marketing=True))
    stale = users.UpdatePreferences(wishing(user, marketing=marketing, etag=user.etag))
    assert await reason(stale) == (grpc.StatusCode.ABORTED, "STALE_ETAG")


async def test_an_ended_or_absent_account_has_no_wishes_to_change(users: UserServiceStub) -> None:
    user = await active(users)
    await users.DeactivateUser(pb.DeactivateUserRequest(user_id=user.user_id))
    assert await reason(users.UpdatePreferences(wishing(user, marketing=True))) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "USER_DEACTIVATED",
    )
    absent = pb.User(user_id=NOBODY)
    missing = (grpc.StatusCode.NOT_FOUND, "USER_NOT_FOUND")
    assert await reason(wishes(users, absent)) == missing
    assert await reason(users.UpdatePreferences(wishing(absent, marketing=True))) == missing
