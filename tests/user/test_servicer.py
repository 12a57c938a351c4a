"""Accounts over a real server behind the onion."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import closing
from typing import Any, cast

import grpc
import pytest
from bodega.user.v1 import user_pb2 as pb
from bodega.user.v1.user_pb2_grpc import UserServiceStub
from google.protobuf.field_mask_pb2 import FieldMask

from services.chassis import status, telemetry
from services.chassis.client.breaker import tells_of
from services.chassis.storage.database import Store
from services.chassis.testing import FakeClock
from services.user.passwords import HashingBusy, Passwords
from services.user.store import Transaction
from tests.databases import connected, kept
from tests.user.accounts import NOBODY, PASSWORD, active, numbers, reason, refusal, registration, violated


async def test_a_registered_account_is_inactive_and_shown_without_its_password(
    users: UserServiceStub,
) -> None:
    user = await users.RegisterUser(registration())
    assert user.state == pb.User.STATE_INACTIVE
    assert (user.email, user.username, user.profile.display_name) == (
        "ada@example.com",
        "ada",
        "Ada Lovelace",
    )
    assert user == await users.GetUser(pb.GetUserRequest(user_id=user.user_id))
    assert PASSWORD not in str(user)


async def test_a_user_id_is_the_same_in_either_case(users: UserServiceStub) -> None:
    user = await users.RegisterUser(registration())
    assert user == await users.GetUser(pb.GetUserRequest(user_id=user.user_id.upper()))


async def test_a_repeated_registration_gets_the_first_reply_whole(users: UserServiceStub) -> None:
    request = registration(request_id="same")
    replies = await asyncio.gather(*(users.RegisterUser(request) for _ in range(8)))
    assert all(reply == replies[0] for reply in replies)
    assert replies[0].email == "ada@example.com"
    listed = await users.ListUsers(pb.ListUsersRequest())
    assert len(listed.users) == 1


async def test_a_repeat_is_answered_without_hashing(
    users: UserServiceStub, passwords: Passwords, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = registration(request_id="same")
    first = await users.RegisterUser(request)

    async def refuse(password: str) -> str:
        raise HashingBusy

    monkeypatch.setattr(passwords, "hash", refuse)
    assert await users.RegisterUser(request) == first


async def test_a_full_queue_is_no_reason_to_leave_registrations_alone(
    users: UserServiceStub, passwords: Passwords, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(password: str) -> str:
        raise HashingBusy

    monkeypatch.setattr(passwords, "hash_of_stranger", refuse)
    with pytest.raises(grpc.aio.AioRpcError) as busy:
        await users.RegisterUser(registration(), timeout=0.9)  # sooner than it may be tried again
    assert status.reason(busy.value) == "HASHING_BUSY"
    assert tells_of(busy.value, is_slow=False, waits=False) is False


async def test_one_request_id_is_not_for_two_registrations(users: UserServiceStub) -> None:
    await users.RegisterUser(registration(request_id="same"))
    other = registration(request_id="same", password="another password")
    assert await reason(users.RegisterUser(other)) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "REQUEST_ID_REUSED",
    )


async def test_a_taken_address_or_name_is_refused(users: UserServiceStub) -> None:
    await users.RegisterUser(registration())
    taken = grpc.StatusCode.ALREADY_EXISTS
    assert await reason(users.RegisterUser(registration("bob", email="ADA@example.com"))) == (
        taken,
        "EMAIL_TAKEN",
    )
    assert await reason(users.RegisterUser(registration("bob", username="ADA"))) == (taken, "USERNAME_TAKEN")


async def test_neither_password_nor_address_is_stored_in_replies_logged_or_told(
    users: UserServiceStub, database_url: str
) -> None:
    with telemetry.captured() as lines:
        await users.RegisterUser(registration())
        await refusal(users.RegisterUser(registration()))
    stored = kept(database_url)
    assert PASSWORD.encode() not in stored
    assert b"$argon2id$" in stored
    assert lines
    for secret in (PASSWORD, "ada@example.com", "Lovelace", "+441234567890"):
        assert secret not in str(lines)


async def test_remembered_replies_and_events_hold_nothing_personal(
    users: UserServiceStub, database_url: str
) -> None:
    await users.RegisterUser(registration())
    with closing(connected(database_url)) as reader:
        rows = reader.execute(
            "SELECT reply FROM remembered_calls UNION ALL SELECT body FROM outbox"
        ).fetchall()
    assert len(rows) == 2
    for secret in (b"ada@example.com", b"Lovelace", b"+441234567890", b"argon2"):
        assert not any(secret in row[0] for row in rows)


async def test_standing_moves_and_repeats_change_nothing(users: UserServiceStub) -> None:
    user = await active(users)
    assert user.state == pb.User.STATE_ACTIVE
    suspend = pb.SuspendUserRequest(user_id=user.user_id, reason="chargebacks")
    suspended = await users.SuspendUser(suspend)
    assert (suspended.state, suspended.suspension_reason) == (pb.User.STATE_SUSPENDED, "chargebacks")
    assert (await users.SuspendUser(suspend)).etag == suspended.etag
    reinstated = await users.ReinstateUser(pb.ReinstateUserRequest(user_id=user.user_id))
    assert (reinstated.state, reinstated.suspension_reason) == (pb.User.STATE_ACTIVE, "")
    for _ in range(2):
        await users.DeactivateUser(pb.DeactivateUserRequest(user_id=user.user_id))
    ended = await users.GetUser(pb.GetUserRequest(user_id=user.user_id))
    assert ended.state == pb.User.STATE_DEACTIVATED


MOVES: list[tuple[str, Callable[[UserServiceStub, str], Any], str]] = [
    (
        "INACTIVE",
        lambda u, i: u.SuspendUser(pb.SuspendUserRequest(user_id=i, reason="r")),
        "USER_NOT_SUSPENDABLE",
    ),
    ("INACTIVE", lambda u, i: u.ReinstateUser(pb.ReinstateUserRequest(user_id=i)), "USER_NOT_REINSTATABLE"),
    ("SUSPENDED", lambda u, i: u.ActivateUser(pb.ActivateUserRequest(user_id=i)), "USER_NOT_ACTIVATABLE"),
    ("DEACTIVATED", lambda u, i: u.ActivateUser(pb.ActivateUserRequest(user_id=i)), "USER_NOT_ACTIVATABLE"),
    (
        "DEACTIVATED",
        lambda u, i: u.UpdateUser(
            pb.UpdateUserRequest(
                user=pb.User(user_id=i, username="new"), update_mask=FieldMask(paths=["username"])
            )
        ),
        "USER_DEACTIVATED",
    ),
]


@pytest.mark.parametrize(("state", "move", "said"), MOVES)
async def test_a_move_that_does_not_fit_is_refused_with_its_reason(
    users: UserServiceStub, state: str, move: Callable[[UserServiceStub, str], Any], said: str
) -> None:
    if state == "INACTIVE":
        user = await users.RegisterUser(registration())
    else:
        user = await active(users)
    if state == "SUSPENDED":
        await users.SuspendUser(pb.SuspendUserRequest(user_id=user.user_id, reason="r"))
    if state == "DEACTIVATED":
        await users.DeactivateUser(pb.DeactivateUserRequest(user_id=user.user_id))
    assert await reason(move(users, user.user_id)) == (grpc.StatusCode.FAILED_PRECONDITION, said)


async def test_an_ended_account_frees_its_address(users: UserServiceStub) -> None:
    user = await users.RegisterUser(registration())
    await users.DeactivateUser(pb.DeactivateUserRequest(user_id=user.user_id))
    assert (await users.RegisterUser(registration())).user_id != user.user_id


async def test_an_update_changes_what_the_mask_names(users: UserServiceStub) -> None:
    user = await active(users)
    wanted = pb.User(user_id=user.user_id, username="grace", profile=pb.Profile(display_name="Grace"))
    request = pb.UpdateUserRequest(
        user=wanted, update_mask=FieldMask(paths=["profile.display_name"]), request_id="same"
    )
    changed = await users.UpdateUser(request)
    assert changed.username == "ada"
    assert (changed.profile.display_name, changed.profile.phone_number) == ("Grace", "+441234567890")
    assert changed.etag != user.etag
    assert await users.UpdateUser(request) == changed  # the repeat is whole, its address included


async def test_without_a_mask_everything_is_replaced(users: UserServiceStub) -> None:
    user = await active(users)
    wanted = pb.User(user_id=user.user_id, email="grace@example.com", username="grace", etag=user.etag)
    changed = await users.UpdateUser(pb.UpdateUserRequest(user=wanted))
    assert (changed.email, changed.username) == ("grace@example.com", "grace")
    assert (changed.profile.display_name, changed.profile.phone_number, changed.profile.language_code) == (
        "",
        "",
        "",
    )


async def test_all_that_an_account_cannot_be_without_is_named_at_once(users: UserServiceStub) -> None:
    user = await active(users)
    update = pb.UpdateUserRequest(user=pb.User(user_id=user.user_id))
    assert await violated(users.UpdateUser(update)) == {"user.email", "user.username"}
    assert user == await users.GetUser(pb.GetUserRequest(user_id=user.user_id))


async def test_a_mask_may_not_name_what_cannot_change(users: UserServiceStub) -> None:
    user = await active(users)
    request = pb.UpdateUserRequest(user=user, update_mask=FieldMask(paths=["username", "state", "roles"]))
    assert await reason(users.UpdateUser(request)) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_MASK")


async def test_an_old_etag_is_stale(users: UserServiceStub) -> None:
    old = await users.RegisterUser(registration())
    await users.ActivateUser(pb.ActivateUserRequest(user_id=old.user_id))
    assert await reason(users.UpdateUser(pb.UpdateUserRequest(user=old))) == (
        grpc.StatusCode.ABORTED,
        "STALE_ETAG",
    )


async def test_lists_come_newest_first_page_by_page(users: UserServiceStub, clock: FakeClock) -> None:
    for name in ("one", "two", "three", "four", "five"):
        await users.RegisterUser(registration(name))
        clock.advance(1)
    names, token = [], ""
    for size in (2, 2, 1):
        page = await users.ListUsers(pb.ListUsersRequest(page_size=2, page_token=token))
        assert len(page.users) == size
        names += [user.username for user in page.users]
        token = page.next_page_token
    assert token == ""
    assert names == ["five", "four", "three", "two", "one"]


async def test_accounts_of_one_moment_are_all_listed(users: UserServiceStub) -> None:
    for name in ("one", "two", "three"):
        await users.RegisterUser(registration(name))
    first = await users.ListUsers(pb.ListUsersRequest(page_size=2))
    rest = await users.ListUsers(pb.ListUsersRequest(page_size=2, page_token=first.next_page_token))
    assert {user.username for user in (*first.users, *rest.users)} == {"one", "two", "three"}


async def test_lists_are_narrowed_by_state_and_by_address(users: UserServiceStub) -> None:
    await active(users, "ada")
    for email in ("a_a@example.com", "axa@example.com", "a%a@example.com"):
        await users.RegisterUser(registration(f"user{next(numbers)}", email=email))

    async def found(**search: Any) -> set[str]:
        reply = await users.ListUsers(pb.ListUsersRequest(**search))
        return {user.email for user in reply.users}

    assert await found(state=pb.User.STATE_ACTIVE) == {"ada@example.com"}
    assert await found(email_prefix="AXA@") == {"axa@example.com"}
    assert await found(email_prefix="a_") == {"a_a@example.com"}
    assert await found(email_prefix="a%") == {"a%a@example.com"}
    assert await found(email_prefix="ada@", state=pb.User.STATE_INACTIVE) == set()


async def test_a_page_token_is_of_one_search_and_lasts_a_day(
    users: UserServiceStub, clock: FakeClock
) -> None:
    for name in ("one", "two"):
        await users.RegisterUser(registration(name))
    token = (await users.ListUsers(pb.ListUsersRequest(page_size=1))).next_page_token
    invalid = (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_PAGE_TOKEN")
    other_search = pb.ListUsersRequest(page_size=1, page_token=token, email_prefix="o")
    assert await reason(users.ListUsers(other_search)) == invalid
    assert await reason(users.ListUsers(pb.ListUsersRequest(page_token="made up"))) == invalid
    clock.advance(24 * 3600 + 1)
    assert await reason(users.ListUsers(pb.ListUsersRequest(page_size=1, page_token=token))) == invalid


async def test_who_does_not_exist_is_not_found(users: UserServiceStub) -> None:
    calls = (
        users.GetUser(pb.GetUserRequest(user_id=NOBODY)),
        users.ActivateUser(pb.ActivateUserRequest(user_id=NOBODY)),
        users.SuspendUser(pb.SuspendUserRequest(user_id=NOBODY, reason="r")),
        users.ReinstateUser(pb.ReinstateUserRequest(user_id=NOBODY)),
        users.DeactivateUser(pb.DeactivateUserRequest(user_id=NOBODY)),
        users.UpdateUser(pb.UpdateUserRequest(user=pb.User(user_id=NOBODY))),
    )
    for call in calls:
        assert await reason(call) == (grpc.StatusCode.NOT_FOUND, "USER_NOT_FOUND")


BAD: list[tuple[str, Any, set[str]]] = [
    (
        "RegisterUser",
        pb.RegisterUserRequest(
            email="nobody",
            username="a b",
            password="short",
            profile=pb.Profile(display_name="x" * 101, phone_number="012", language_code="english!"),
        ),
        {
            "email",
            "username",
            "password",
            "profile.display_name",
            "profile.phone_number",
            "profile.language_code",
        },
    ),
    (
        "RegisterUser",
        registration(password="x" * 129, email=f"{'x' * 250}@example.com"),
        {"password", "email"},
    ),
    ("RegisterUser", registration(request_id="x" * 256), {"request_id"}),
    ("RegisterUser", registration(request_id="new\nline"), {"request_id"}),
    ("GetUser", pb.GetUserRequest(user_id="42"), {"user_id"}),
    ("GetUser", pb.GetUserRequest(), {"user_id"}),
    ("ListUsers", pb.ListUsersRequest(page_size=-1, page_token="x" * 1025), {"page_size", "page_token"}),
    (
        "ListUsers",
        pb.ListUsersRequest(state=cast("Any", 99), email_prefix="x" * 255),
        {"state", "email_prefix"},
    ),
    ("UpdateUser", pb.UpdateUserRequest(), {"user"}),
    (
        "UpdateUser",
        pb.UpdateUserRequest(user=pb.User(user_id="42", email="no", username="?")),
        {"user.user_id", "user.email", "user.username"},
    ),
    ("ActivateUser", pb.ActivateUserRequest(user_id="x"), {"user_id"}),
    ("SuspendUser", pb.SuspendUserRequest(user_id="x"), {"user_id", "reason"}),
    ("SuspendUser", pb.SuspendUserRequest(user_id=NOBODY, reason="x" * 501), {"reason"}),
    ("ReinstateUser", pb.ReinstateUserRequest(user_id="x"), {"user_id"}),
    ("DeactivateUser", pb.DeactivateUserRequest(user_id="x"), {"user_id"}),
    (
        "ActivateUser",
        pb.ActivateUserRequest(user_id=NOBODY, activation_token="x" * 129),
        {"activation_token"},
    ),
    ("IssueActivationToken", pb.IssueActivationTokenRequest(user_id="x"), {"user_id"}),
    ("GetPreferences", pb.GetPreferencesRequest(user_id="x"), {"user_id"}),
    ("UpdatePreferences", pb.UpdatePreferencesRequest(), {"preferences"}),
    (
        "UpdatePreferences",
        pb.UpdatePreferencesRequest(preferences=pb.Preferences(user_id="x", etag="x" * 65)),
        {"preferences.user_id", "preferences.etag"},
    ),
    ("GrantRole", pb.GrantRoleRequest(user_id="x"), {"user_id", "role"}),
    ("GrantRole", pb.GrantRoleRequest(user_id=NOBODY, role=cast("Any", 99)), {"role"}),
    ("RevokeRole", pb.RevokeRoleRequest(user_id="x"), {"user_id", "role"}),
    (
        "CreateAdministrator",
        pb.CreateAdministratorRequest(email="nobody", username="a b", password="short"),
        {"email", "username", "password"},
    ),
]


@pytest.mark.parametrize(("method", "request_", "fields"), BAD)
async def test_bad_input_is_refused_with_every_violation_named(
    users: UserServiceStub, store: Store[Transaction], method: str, request_: Any, fields: set[str]
) -> None:
    assert await violated(getattr(users, method)(request_)) == fields
    assert not (await users.ListUsers(pb.ListUsersRequest())).users


async def test_a_refusal_does_not_repeat_what_is_secret(users: UserServiceStub) -> None:
    refused = await refusal(users.RegisterUser(registration(password="hunter2", email="ada at home")))
    told = f"{refused.details()} {status.details(refused)}"
    assert "hunter2" not in told
    assert "ada at home" not in told


class Slow:
    """A hasher that goes on when it may."""

    def __init__(self) -> None:
        self.may_go_on = threading.Event()

    def hash(self, password: str) -> str:
        assert self.may_go_on.wait(10)
        return f"hash of {len(password)}"


async def test_more_registrations_than_can_be_hashed_are_refused_at_once() -> None:
    slow = Slow()
    async with Passwords(at_once=1, time_cost=1, memory_kib=32, parallelism=1, waiting_max=1) as passwords:
        passwords._hasher = slow  # type: ignore[assignment]
        taken = [asyncio.ensure_future(passwords.hash(PASSWORD)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(HashingBusy):
            await passwords.hash(PASSWORD)
        taken[0].cancel()  # whoever asked has gone; the thread is still at it
        await asyncio.wait(taken[:1])
        with pytest.raises(HashingBusy):
            await passwords.hash(PASSWORD)
        slow.may_go_on.set()
        assert await taken[1] == f"hash of {len(PASSWORD)}"
        assert await passwords.hash(PASSWORD)  # there is room again


async def test_however_many_register_people_who_have_an_account_get_in() -> None:
    slow = Slow()
    async with Passwords(at_once=1, time_cost=1, memory_kib=32, parallelism=1, waiting_max=3) as passwords:
        passwords._hasher = slow  # type: ignore[assignment]
        registering = [asyncio.ensure_future(passwords.hash_of_stranger(PASSWORD)) for _ in range(2)]
        await asyncio.sleep(0)
        for _ in range(5):
            with pytest.raises(HashingBusy):
                await passwords.hash_of_stranger(PASSWORD)
        known = [asyncio.ensure_future(passwords.hash(PASSWORD)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(HashingBusy):
            await passwords.hash(PASSWORD)
        slow.may_go_on.set()
        await asyncio.gather(*registering, *known)
        await passwords.hash_of_stranger(PASSWORD)  # there is room again


async def test_a_hash_has_a_salt_and_its_costs(passwords: Passwords) -> None:
    one, other = await passwords.hash(PASSWORD), await passwords.hash(PASSWORD)
    assert one != other
    assert one.startswith("$argon2id$v=19$m=32,t=1,p=1$")
