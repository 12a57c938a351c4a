"""Signing in, staying signed in and signing out, over a real server behind the onion."""

import asyncio
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import grpc
import jwt
import orjson
import pytest
import sqlalchemy as sa
from argon2 import PasswordHasher
from bodega.user.v1 import session_pb2 as pb
from bodega.user.v1 import user_events_pb2
from bodega.user.v1.session_pb2_grpc import SessionServiceStub
from google.rpc.error_details_pb2 import BadRequest

from services.chassis import status, telemetry
from services.chassis.storage.database import Store
from services.chassis.storage.statement import Statement
from services.chassis.testing import FakeClock, SequentialIds
from services.user import lockout, signing_keys
from services.user import passwords as passwords_module
from services.user.domain import Details, User
from services.user.passwords import Passwords
from services.user.sealing import Seal
from services.user.sessions import IDLE_MAX, RefreshToken, Session
from services.user.store import Transaction
from services.user.tables import lockouts, outbox_rows
from services.user.tables import sessions as session_rows
from services.user.tables import signing_keys as signing_key_rows
from services.user.tokens import refresh_token_hash
from tests.databases import kept
from tests.user.accounts import reason, refusal

PASSWORD = "correct horse battery"
EMAIL = "ada@example.com"
AT = FakeClock().now()
ADA, NOBODY = "00000000-0000-7000-8000-0000000000ad", "00000000-0000-7000-8000-00000000dead"
UNAUTHENTICATED, PRECONDITION = grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.FAILED_PRECONDITION
_ids = SequentialIds()

Accounts = Store[Transaction]


@pytest.fixture
async def ada(store: Accounts, passwords: Passwords, clock: FakeClock) -> User:
    """An active account."""
    return await account(store, await passwords.hash(PASSWORD), clock)


async def account(store: Accounts, password_hash: str, clock: FakeClock, user_id: str = ADA) -> User:
    now = clock.now()
    details = Details(EMAIL if user_id == ADA else f"{user_id}@example.com", f"u{user_id[-10:]}")
    new = User.register(user_id=user_id, details=details, password_hash=password_hash, at=now)
    return await store.write(lambda tx: tx.users.save(new.activate(at=now)))


async def moved(store: Accounts, move: Callable[[User], User], user_id: str = ADA) -> User:
    return await store.write(lambda tx: tx.users.save(move(tx.users.get(user_id))))


def credentials(email: str = EMAIL, password: str = PASSWORD) -> pb.CreateSessionRequest:
    return pb.CreateSessionRequest(email=email, password=password)


async def signed_in(sessions: SessionServiceStub) -> pb.SessionTokens:
    return await sessions.CreateSession(credentials())


def refresh(token: str, request_id: str = "") -> pb.RefreshSessionRequest:
    return pb.RefreshSessionRequest(refresh_token=token, request_id=request_id or _ids.new())


async def endings(store: Accounts) -> Counter[str | None]:
    return Counter(row["ending"] for row in await store.fetch(sa.select(session_rows.c.ending)))


async def key_set(sessions: SessionServiceStub) -> Any:
    return orjson.loads((await sessions.ListSigningKeys(pb.ListSigningKeysRequest())).data)


async def verified(sessions: SessionServiceStub, token: str, clock: FakeClock) -> dict[str, Any]:
    """The claims of a token, checked as anyone would who has only the published keys."""
    published = jwt.PyJWKSet.from_dict(await key_set(sessions))
    key = published[jwt.get_unverified_header(token)["kid"]]
    claims: dict[str, Any] = jwt.decode(
        token,
        key.key,
        algorithms=["EdDSA"],
        audience="bodega",
        issuer="bodega",
        options={"require": ["exp", "nbf", "iat", "jti", "sub"], "verify_exp": False, "verify_nbf": False},
    )
    assert claims["nbf"] <= clock.now().timestamp() < claims["exp"]
    return claims


# Signing in


async def test_an_access_token_says_who_carries_it_and_anyone_can_check_it(
    sessions: SessionServiceStub, ada: User, clock: FakeClock
) -> None:
    tokens = await signed_in(sessions)
    now = int(clock.now().timestamp())
    claims = await verified(sessions, tokens.access_token, clock)
    assert claims.pop("jti")
    assert claims == {
        "iss": "bodega",
        "aud": "bodega",
        "sub": ADA,
        "roles": ["customer"],
        "sid": tokens.session.session_id,
        "iat": now,
        "nbf": now,
        "exp": now + 15 * 60,
    }
    header = jwt.get_unverified_header(tokens.access_token)
    assert (header["typ"], header["alg"]) == ("at+jwt", "EdDSA")
    assert tokens.expires_in.ToTimedelta() == timedelta(minutes=15)
    assert tokens.session.user_id == ADA


async def test_no_two_tokens_are_alike(sessions: SessionServiceStub, ada: User) -> None:
    one, other = await signed_in(sessions), await signed_in(sessions)
    assert one.refresh_token != other.refresh_token
    assert one.access_token != other.access_token
    assert one.session.session_id != other.session.session_id


async def test_an_address_is_known_in_any_case(sessions: SessionServiceStub, ada: User) -> None:
    assert await sessions.CreateSession(credentials(email="ADA@Example.com"))


async def test_a_sign_in_is_told(sessions: SessionServiceStub, store: Accounts, ada: User) -> None:
    tokens = await signed_in(sessions)
    await refusal(sessions.CreateSession(credentials(password="wrong")))
    [told] = await store.fetch(sa.select(outbox_rows).where(outbox_rows.c.type.endswith("UserSignedIn")))
    event = user_events_pb2.UserSignedIn.FromString(told["body"])
    assert (event.user_id, event.session_id) == (ADA, tokens.session.session_id)
    assert EMAIL.encode() not in told["body"] + told["headers"]


async def test_signing_in_does_not_change_the_account(
    sessions: SessionServiceStub, store: Accounts, ada: User
) -> None:
    await signed_in(sessions)
    assert await store.read(lambda tx: tx.users.get(ADA)) == ada  # its etag included


async def test_a_wrong_password_and_an_unknown_address_get_the_same_answer(
    sessions: SessionServiceStub, ada: User
) -> None:
    wrong = await refusal(sessions.CreateSession(credentials(password="wrong")))
    unknown = await refusal(sessions.CreateSession(credentials(email="nobody@example.com")))
    assert (wrong.code(), status.reason(wrong)) == (UNAUTHENTICATED, "INVALID_CREDENTIALS")
    assert status.parse(wrong) == status.parse(unknown)
    assert wrong.details() == unknown.details()


async def test_a_wrong_password_and_an_unknown_address_take_the_same_work(
    sessions: SessionServiceStub, ada: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted, not timed: how many hashes of what costs."""
    work: list[str] = []

    def counted(hasher: PasswordHasher, password_hash: str, password: str) -> bool:
        work.append(password_hash.rpartition("$")[0].rpartition("$")[0])
        return original(hasher, password_hash, password)

    original = passwords_module._verified
    monkeypatch.setattr(passwords_module, "_verified", counted)
    await refusal(sessions.CreateSession(credentials(password="wrong")))
    of_wrong, work = work, []
    await refusal(sessions.CreateSession(credentials(email="nobody@example.com")))
    assert of_wrong == work == ["$argon2id$v=19$m=32,t=1,p=1"]


async def test_nobodys_hash_fits_no_password(passwords: Passwords) -> None:
    assert not await passwords.verify(None, PASSWORD)
    assert not await passwords.verify(None, "")


@pytest.mark.parametrize(
    ("move", "said"),
    [
        (lambda user, at: user.suspend(reason="r", at=at), "ACCOUNT_SUSPENDED"),
        (None, "ACCOUNT_NOT_ACTIVATED"),
    ],
)
async def test_only_who_has_the_password_is_told_how_the_account_stands(
    sessions: SessionServiceStub, store: Accounts, passwords: Passwords, move: Any, said: str
) -> None:
    details = Details(EMAIL, "ada")
    hashed = await passwords.hash(PASSWORD)
    user = User.register(user_id=ADA, details=details, password_hash=hashed, at=AT)
    if move:
        user = move(user.activate(at=AT), AT)
    await store.write(lambda tx: tx.users.save(user))
    assert await reason(sessions.CreateSession(credentials(password="wrong"))) == (
        UNAUTHENTICATED,
        "INVALID_CREDENTIALS",
    )
    assert await reason(sessions.CreateSession(credentials())) == (PRECONDITION, said)
    assert await endings(store) == {}


async def test_an_account_that_ended_is_nobodys(
    sessions: SessionServiceStub, store: Accounts, ada: User, clock: FakeClock
) -> None:
    await moved(store, lambda user: user.deactivate(at=clock.now()))
    assert await reason(sessions.CreateSession(credentials())) == (UNAUTHENTICATED, "INVALID_CREDENTIALS")


async def test_a_password_is_kept_in_a_hash_of_the_costs_wanted_now(
    sessions: SessionServiceStub, store: Accounts, clock: FakeClock
) -> None:
    old = PasswordHasher(time_cost=1, memory_cost=16, parallelism=1).hash(PASSWORD)
    await account(store, old, clock)
    await refusal(sessions.CreateSession(credentials(password="wrong")))
    assert (await store.read(lambda tx: tx.users.get(ADA))).password_hash == old
    await signed_in(sessions)
    renewed = (await store.read(lambda tx: tx.users.get(ADA))).password_hash
    assert renewed.startswith("$argon2id$v=19$m=32,t=1,p=1$")
    await signed_in(sessions)
    assert (await store.read(lambda tx: tx.users.get(ADA))).password_hash == renewed


async def test_a_password_that_changed_while_it_was_checked_signs_nobody_in(
    sessions: SessionServiceStub,
    store: Accounts,
    passwords: Passwords,
    ada: User,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    original = passwords.verify

    async def overtaken(password_hash: str | None, password: str) -> bool:
        right = await original(password_hash, password)
        other = await passwords.hash("another password")
        await moved(store, lambda user: user.change_password(other, at=AT))
        return right

    monkeypatch.setattr(passwords, "verify", overtaken)
    assert await reason(sessions.CreateSession(credentials())) == (
        grpc.StatusCode.ABORTED,
        "PASSWORD_JUST_CHANGED",
    )
    assert await endings(store) == {}


async def test_nobody_is_signed_in_without_a_key(
    sessions: SessionServiceStub, store: Accounts, ada: User
) -> None:
    await store.transact(lambda session: session.run(Statement(sa.delete(signing_key_rows))))
    assert await reason(sessions.CreateSession(credentials())) == (
        grpc.StatusCode.UNAVAILABLE,
        "NO_SIGNING_KEY",
    )
    assert await endings(store) == {}


# Locking out


async def fail(sessions: SessionServiceStub, times: int, email: str = EMAIL) -> None:
    for _ in range(times):
        assert (await reason(sessions.CreateSession(credentials(email, "wrong"))))[0] is UNAUTHENTICATED


@pytest.mark.parametrize("email", [EMAIL, "nobody@example.com"])
async def test_failures_lock_an_account_for_a_growing_time_whether_there_is_one_or_not(
    sessions: SessionServiceStub, ada: User, clock: FakeClock, email: str
) -> None:
    await fail(sessions, lockout.OF_ACCOUNT.free + 1, email)
    for wait_s in (30, 60, 120):
        locked = await refusal(sessions.CreateSession(credentials(email)))  # the right password, too
        assert (locked.code(), status.reason(locked)) == (
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "SIGN_IN_LOCKED",
        )
        assert status.retry_after_s(locked) == wait_s
        clock.advance(wait_s)
        await fail(sessions, 1, email)


async def test_who_is_locked_out_gets_no_hash_computed(
    sessions: SessionServiceStub, passwords: Passwords, ada: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fail(sessions, lockout.OF_ACCOUNT.free + 1)

    async def never(password_hash: str | None, password: str) -> bool:
        raise AssertionError("a hash was computed")

    monkeypatch.setattr(passwords, "verify", never)
    assert (await reason(sessions.CreateSession(credentials())))[1] == "SIGN_IN_LOCKED"


async def test_the_right_password_makes_failures_of_the_account_forgotten(
    sessions: SessionServiceStub, ada: User, clock: FakeClock
) -> None:
    for _ in range(3):
        await fail(sessions, lockout.OF_ACCOUNT.free)
        await signed_in(sessions)


async def test_one_place_cannot_try_many_accounts(
    sessions: SessionServiceStub, ada: User, clock: FakeClock
) -> None:
    for number in range(lockout.OF_ADDRESS.free + 1):
        await fail(sessions, 1, f"u{number}@example.com")
    assert (await reason(sessions.CreateSession(credentials())))[1] == "SIGN_IN_LOCKED"
    clock.advance(30)
    await signed_in(sessions)  # which does not make the place forgotten: it may be the guesser's own account
    await fail(sessions, 1, "once-more@example.com")
    assert (await reason(sessions.CreateSession(credentials())))[1] == "SIGN_IN_LOCKED"


async def test_of_many_attempts_at_once_no_more_are_judged_than_one_after_the_other(
    sessions: SessionServiceStub, passwords: Passwords, ada: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All are let in before the first is judged; behind too many wrong ones, the right one is late."""
    guesses = [*(f"guess {number}" for number in range(11)), PASSWORD]
    arrived, all_arrived, judged, original = set[str](), asyncio.Event(), asyncio.Event(), passwords.verify

    async def together(password_hash: str | None, password: str) -> bool:
        arrived.add(password)
        if len(arrived) == len(guesses):
            all_arrived.set()
        await asyncio.wait_for(all_arrived.wait(), 10)
        if password == PASSWORD:
            await asyncio.wait_for(judged.wait(), 10)
        return await original(password_hash, password)

    monkeypatch.setattr(passwords, "verify", together)
    calls = [asyncio.ensure_future(attempt(sessions, guess)) for guess in guesses]
    said = Counter(await asyncio.gather(*calls[:-1]))
    judged.set()
    assert said == {"INVALID_CREDENTIALS": lockout.OF_ACCOUNT.free + 1, "SIGN_IN_LOCKED": 6}
    assert await calls[-1] == "SIGN_IN_LOCKED"


async def attempt(sessions: SessionServiceStub, password: str) -> str | None:
    return (await reason(sessions.CreateSession(credentials(password=password))))[1]


async def test_what_is_counted_names_nobody(
    sessions: SessionServiceStub, store: Accounts, ada: User, database_url: str
) -> None:
    mistyped = "my-real-password@example.com"
    await fail(sessions, 1, mistyped)
    assert len(await store.fetch(sa.select(lockouts))) == 2
    assert mistyped.encode() not in kept(database_url)


# Refreshing


async def test_a_refresh_gives_the_next_token_and_the_roles_of_now(
    sessions: SessionServiceStub, store: Accounts, ada: User, clock: FakeClock
) -> None:
    first = await signed_in(sessions)
    clock.advance(600)
    second = await sessions.RefreshSession(refresh(first.refresh_token))
    assert second.session.session_id == first.session.session_id
    assert second.refresh_token not in ("", first.refresh_token)
    assert second.session.refresh_time.ToDatetime() - first.session.refresh_time.ToDatetime() == timedelta(
        seconds=600
    )
    claims = await verified(sessions, second.access_token, clock)
    assert (claims["sub"], claims["sid"]) == (ADA, first.session.session_id)
    third = await sessions.RefreshSession(refresh(second.refresh_token))
    assert third.refresh_token != second.refresh_token


async def test_a_repeated_refresh_gets_the_same_reply_also_when_twins_race(
    sessions: SessionServiceStub, ada: User, clock: FakeClock
) -> None:
    tokens = await signed_in(sessions)
    request = refresh(tokens.refresh_token, "same")
    replies = await asyncio.gather(*(sessions.RefreshSession(request) for _ in range(8)))
    clock.advance(60)
    replies.append(await sessions.RefreshSession(request))
    assert all(reply == replies[0] for reply in replies)
    assert replies[0].refresh_token
    assert await sessions.RefreshSession(refresh(replies[0].refresh_token))  # and the session lives


async def test_of_twins_with_one_token_one_wins_and_the_session_ends(
    sessions: SessionServiceStub, store: Accounts, ada: User
) -> None:
    tokens = await signed_in(sessions)
    calls = [sessions.RefreshSession(refresh(tokens.refresh_token)) for _ in range(4)]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    [won] = [outcome for outcome in outcomes if isinstance(outcome, pb.SessionTokens)]
    lost = [outcome for outcome in outcomes if isinstance(outcome, grpc.aio.AioRpcError)]
    assert {status.reason(error) for error in lost} == {"INVALID_REFRESH_TOKEN"}
    assert await endings(store) == {"TOKEN_REUSED": 1}
    assert (await reason(sessions.RefreshSession(refresh(won.refresh_token))))[0] is UNAUTHENTICATED


async def test_a_used_token_ends_its_session_and_no_other(
    sessions: SessionServiceStub, store: Accounts, ada: User
) -> None:
    stolen, other = await signed_in(sessions), await signed_in(sessions)
    second = await sessions.RefreshSession(refresh(stolen.refresh_token))
    third = await sessions.RefreshSession(refresh(second.refresh_token))
    invalid = (UNAUTHENTICATED, "INVALID_REFRESH_TOKEN")
    assert await reason(sessions.RefreshSession(refresh(stolen.refresh_token))) == invalid
    assert await reason(sessions.RefreshSession(refresh(third.refresh_token))) == invalid
    assert await endings(store) == {"TOKEN_REUSED": 1, None: 1}
    assert await sessions.RefreshSession(refresh(other.refresh_token))


async def test_every_token_that_is_not_good_gets_the_same_answer(
    sessions: SessionServiceStub, store: Accounts, ada: User, clock: FakeClock
) -> None:
    tokens = [await signed_in(sessions) for _ in range(3)]
    used, ended, expired = (each.refresh_token for each in tokens)
    await sessions.RefreshSession(refresh(used))
    await sessions.RevokeSession(pb.RevokeSessionRequest(refresh_token=ended, request_id="r"))
    refused = [
        await refusal(sessions.RefreshSession(refresh(token)))
        for token in ("made up", "", tokens[0].access_token[:128], used, ended)
        if token
    ]
    clock.advance(IDLE_MAX.total_seconds())
    refused.append(await refusal(sessions.RefreshSession(refresh(expired))))
    assert {(error.code(), status.reason(error)) for error in refused} == {
        (UNAUTHENTICATED, "INVALID_REFRESH_TOKEN")
    }
    assert len({error.details() for error in refused}) == 1


async def test_a_token_is_found_until_it_would_have_expired(
    sessions: SessionServiceStub, ada: User, clock: FakeClock
) -> None:
    tokens = await signed_in(sessions)
    clock.advance(IDLE_MAX.total_seconds() - 1)
    assert await sessions.RefreshSession(refresh(tokens.refresh_token))


@pytest.mark.parametrize("stop", ["suspend", "deactivate"])
async def test_an_account_that_is_stopped_is_signed_out_and_stays_so(
    sessions: SessionServiceStub, store: Accounts, ada: User, clock: FakeClock, stop: str
) -> None:
    tokens = await signed_in(sessions)
    if stop == "suspend":
        await moved(store, lambda user: user.suspend(reason="r", at=clock.now()))
        await moved(store, lambda user: user.reinstate(at=clock.now()))
    else:
        await moved(store, lambda user: user.deactivate(at=clock.now()))
    assert await endings(store) == {"ACCOUNT_STOPPED": 1}
    assert await reason(sessions.RefreshSession(refresh(tokens.refresh_token))) == (
        UNAUTHENTICATED,
        "INVALID_REFRESH_TOKEN",
    )


async def test_a_session_that_outlived_its_account_by_a_race_is_not_refreshed(
    sessions: SessionServiceStub, store: Accounts, ada: User, clock: FakeClock
) -> None:
    """Where transactions run side by side, who signs in may see the account before it is stopped."""
    await moved(store, lambda user: user.suspend(reason="r", at=clock.now()))
    token = "bodega_rt_of_the_race"

    def begin(tx: Transaction) -> None:
        session = Session.begin(session_id="s1", user_id=ADA, at=clock.now())
        tx.sessions.add(session)
        tx.sessions.give(RefreshToken.of(session, refresh_token_hash(token)))

    await store.write(begin)
    assert await reason(sessions.RefreshSession(refresh(token))) == (
        UNAUTHENTICATED,
        "INVALID_REFRESH_TOKEN",
    )


# Signing out


async def test_a_session_ends_by_any_of_its_refresh_tokens_and_again_changes_nothing(
    sessions: SessionServiceStub, store: Accounts, ada: User
) -> None:
    first, other = await signed_in(sessions), await signed_in(sessions)
    second = await sessions.RefreshSession(refresh(first.refresh_token))
    for token in (first.refresh_token, second.refresh_token, "made up"):
        await sessions.RevokeSession(pb.RevokeSessionRequest(refresh_token=token, request_id=_ids.new()))
    assert await endings(store) == {"SIGNED_OUT": 1, None: 1}
    assert (await reason(sessions.RefreshSession(refresh(second.refresh_token))))[0] is UNAUTHENTICATED
    assert await sessions.RefreshSession(refresh(other.refresh_token))


async def test_an_owner_ends_one_session_or_all(
    sessions: SessionServiceStub, store: Accounts, ada: User
) -> None:
    tokens = [await signed_in(sessions) for _ in range(3)]
    one = pb.RevokeUserSessionsRequest(user_id=ADA, session_id=tokens[0].session.session_id.upper())
    for _ in range(2):
        await sessions.RevokeUserSessions(one)
    assert await endings(store) == {"SIGNED_OUT_ELSEWHERE": 1, None: 2}
    await sessions.RevokeUserSessions(pb.RevokeUserSessionsRequest(user_id=ADA))
    assert await endings(store) == {"SIGNED_OUT_ELSEWHERE": 3}


async def test_a_session_of_another_account_is_not_there(
    sessions: SessionServiceStub, store: Accounts, ada: User
) -> None:
    tokens = await signed_in(sessions)
    anothers = pb.RevokeUserSessionsRequest(user_id=NOBODY, session_id=tokens.session.session_id)
    absent = pb.RevokeUserSessionsRequest(user_id=ADA, session_id=NOBODY)
    missing = (grpc.StatusCode.NOT_FOUND, "SESSION_NOT_FOUND")
    assert await reason(sessions.RevokeUserSessions(anothers)) == missing
    assert await reason(sessions.RevokeUserSessions(absent)) == missing
    assert await reason(sessions.RevokeUserSessions(pb.RevokeUserSessionsRequest(user_id=NOBODY))) == (
        grpc.StatusCode.NOT_FOUND,
        "USER_NOT_FOUND",
    )
    assert await endings(store) == {None: 1}


async def test_a_list_shows_where_an_account_is_signed_in_newest_first(
    sessions: SessionServiceStub, ada: User, clock: FakeClock
) -> None:
    begun = []
    for _ in range(5):
        begun.append((await signed_in(sessions)).session)
        clock.advance(3600)
    await sessions.RevokeUserSessions(
        pb.RevokeUserSessionsRequest(user_id=ADA, session_id=begun[1].session_id)
    )
    clock.advance(IDLE_MAX.total_seconds() - 5 * 3600)  # the first expires
    found: list[pb.Session] = []
    token = ""
    while True:
        page = await sessions.ListSessions(pb.ListSessionsRequest(user_id=ADA, page_size=2, page_token=token))
        found += page.sessions
        token = page.next_page_token
        if not token:
            break
    assert found == [begun[4], begun[3], begun[2]]
    assert not (await sessions.ListSessions(pb.ListSessionsRequest(user_id=NOBODY))).sessions


# Signing keys


async def test_the_keys_are_a_jwk_set_without_a_private_half(sessions: SessionServiceStub) -> None:
    reply = await sessions.ListSigningKeys(pb.ListSigningKeysRequest())
    assert reply.content_type == "application/jwk-set+json"
    [key] = orjson.loads(reply.data)["keys"]
    assert key.keys() == {"kty", "crv", "x", "kid", "use", "alg"}
    assert (key["kty"], key["crv"], key["alg"], key["use"]) == ("OKP", "Ed25519", "EdDSA", "sig")


# What is kept, and what is told


async def test_no_token_and_no_private_key_is_stored_or_logged(
    sessions: SessionServiceStub, store: Accounts, ada: User, seal: Seal, database_url: str
) -> None:
    with telemetry.captured() as lines:
        first = await signed_in(sessions)
        request = refresh(first.refresh_token)
        second = await sessions.RefreshSession(request)
        assert await sessions.RefreshSession(request) == second
        await refusal(sessions.RefreshSession(refresh(first.refresh_token)))
        await refusal(sessions.CreateSession(credentials(password="wrong wrong")))
    keys = await store.read(lambda tx: tx.signing_keys.all())
    private = signing_keys.opened(keys[0], seal).private_bytes_raw()
    content = kept(database_url)
    for tokens in (first, second):
        for token in (tokens.refresh_token, tokens.access_token):
            assert token.encode() not in content
            assert token.rpartition(".")[2].encode() not in content
            assert token not in str(lines)
    for secret in (
        private,
        private.hex().encode(),
        signing_keys._base64(private).encode(),
        PASSWORD.encode(),
    ):
        assert secret not in content
    assert "wrong wrong" not in str(lines)
    assert lines


BAD = [
    ("CreateSession", pb.CreateSessionRequest(), {"email", "password"}),
    ("CreateSession", credentials("ada at home", "x" * 129), {"email", "password"}),
    ("RefreshSession", pb.RefreshSessionRequest(), {"refresh_token"}),
    ("RefreshSession", refresh("x" * 129, "\n"), {"refresh_token", "request_id"}),
    ("RevokeSession", pb.RevokeSessionRequest(), {"refresh_token"}),
    (
        "RevokeUserSessions",
        pb.RevokeUserSessionsRequest(user_id="x", session_id="x"),
        {"user_id", "session_id"},
    ),
    (
        "ListSessions",
        pb.ListSessionsRequest(user_id="x", page_size=-1, page_token="x" * 1025),
        {"user_id", "page_size", "page_token"},
    ),
]


@pytest.mark.parametrize(("method", "request_", "fields"), BAD)
async def test_bad_input_is_refused_with_every_violation_named(
    sessions: SessionServiceStub, method: str, request_: Any, fields: set[str]
) -> None:
    refused = await refusal(getattr(sessions, method)(request_))
    assert refused.code() is grpc.StatusCode.INVALID_ARGUMENT
    bad = status.detail(refused, BadRequest)
    assert {violation.field for violation in bad.field_violations} == fields  # type: ignore[union-attr]
    if request_.DESCRIPTOR.name == "CreateSessionRequest":
        assert "ada at home" not in f"{refused.details()} {status.details(refused)}"
