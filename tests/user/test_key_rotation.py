"""Keys made on schedule, by several replicas, and tokens that are good wherever they are shown."""

import asyncio
import base64
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import jwt
import orjson
import pytest
from jwt.types import Options

from services.chassis import telemetry
from services.chassis.storage.database import Store
from services.chassis.storage.retention import Janitor
from services.chassis.testing import FakeClock
from services.user import key_schedule, key_store, signing_keys
from services.user.domain import Role
from services.user.key_rotation import KeyRotation
from services.user.key_schedule import Schedule, SigningKey
from services.user.sealing import Seal, SealBroken
from services.user.store import Transaction
from services.user.tokens import AccessToken, AccessTokens, Claims, NoSigningKey

Keys = Store[Transaction]
CLAIMS = Claims("t1", "u1", (Role.CUSTOMER, Role.ADMIN))
SCHEDULE = Schedule(timedelta(days=1), timedelta(hours=1))


async def all_keys(store: Keys) -> list[SigningKey]:
    return await store.read(lambda tx: tx.signing_keys.all())


async def published(store: Keys, at: datetime) -> jwt.PyJWKSet:
    shown = signing_keys.jwk_set(key_schedule.published(await all_keys(store), at))
    return jwt.PyJWKSet.from_dict(orjson.loads(shown))


def claims_of(token: str, keys: jwt.PyJWKSet) -> dict[str, Any]:
    """What a token says, if one of these keys signed it; raises KeyError or jwt.InvalidTokenError."""
    key = keys[jwt.get_unverified_header(token)["kid"]]
    # PyJWT knows the machine's clock only, and ours is another.
    wall_clock: Options = {"verify_exp": False, "verify_nbf": False, "verify_iat": False}
    claims: dict[str, Any] = jwt.decode(
        token, key.key, algorithms=["EdDSA"], audience="bodega", issuer="bodega", options=wall_clock
    )
    return claims


async def test_no_token_is_refused_while_keys_change(
    store: Keys, rotation: KeyRotation, access_tokens: AccessTokens, clock: FakeClock
) -> None:
    """Three days; whoever checks looks for keys every five minutes and at no other time."""
    live: list[AccessToken] = []
    kids = set()
    for _ in range(3 * 24 * 12):
        await rotation.turn()
        held = await published(store, clock.now())
        clock.advance(5 * 60 - 1)  # what is held is oldest
        live.append(access_tokens.mint(await all_keys(store), CLAIMS, at=clock.now()))
        live = [token for token in live if token.expires_at > clock.now()]
        assert all(claims_of(token.text, held)["sub"] == "u1" for token in live)
        kids |= {jwt.get_unverified_header(token.text)["kid"] for token in live}
        clock.advance(1)
    assert len(kids) == 3


async def test_replicas_that_rotate_at_once_make_one_key(
    store: Keys, seal: Seal, rotation: KeyRotation, clock: FakeClock
) -> None:
    other = KeyRotation(store, SCHEDULE, seal, clock=clock)
    for _ in range(3):
        await asyncio.gather(rotation.turn(), other.turn(), rotation.turn(), other.turn())
        clock.advance(24 * 3600)
    keys = await all_keys(store)
    assert [key.number for key in keys] == [1, 2, 3]
    assert len({key.id for key in keys}) == 3


async def test_a_number_that_is_taken_adds_nothing(store: Keys, rotation: KeyRotation, seal: Seal) -> None:
    """What a replica on another database server meets, where two transactions may read the same keys."""
    await rotation.turn()
    before = await all_keys(store)
    late = signing_keys.generate(seal, at=before[0].created_at)
    added = await store.write(lambda tx: tx.signing_keys.add(late, retires_others_at=late.created_at))
    assert not added
    assert await all_keys(store) == before


async def test_a_service_that_was_away_signs_with_its_old_key_until_the_next_is_known(
    store: Keys, rotation: KeyRotation, access_tokens: AccessTokens, clock: FakeClock
) -> None:
    await rotation.turn()
    clock.advance(30 * 24 * 3600)
    held = await published(store, clock.now())
    await rotation.turn()
    assert claims_of(access_tokens.mint(await all_keys(store), CLAIMS, at=clock.now()).text, held)
    clock.advance(3600)
    with pytest.raises(KeyError):
        claims_of(access_tokens.mint(await all_keys(store), CLAIMS, at=clock.now()).text, held)


async def test_retired_keys_are_deleted(store: Keys, rotation: KeyRotation, clock: FakeClock) -> None:
    for _ in range(5):
        await rotation.turn()
        await Janitor(store, clock=clock).sweep(key_store.RETENTION)
        clock.advance(24 * 3600)
    assert [key.number for key in await all_keys(store)] == [4, 5]


async def test_after_a_change_of_the_secret_a_new_key_signs_at_once_and_old_tokens_stay_good(
    store: Keys, rotation: KeyRotation, access_tokens: AccessTokens, clock: FakeClock
) -> None:
    await rotation.turn()
    before = access_tokens.mint(await all_keys(store), CLAIMS, at=clock.now())
    new_seal = Seal(b"another secret", signing_keys.PURPOSE)
    renewed = AccessTokens(new_seal, issuer="bodega", audience="bodega")
    with pytest.raises(NoSigningKey):
        renewed.mint(await all_keys(store), CLAIMS, at=clock.now())
    after_restart = KeyRotation(store, SCHEDULE, new_seal, clock=clock)
    with pytest.raises(NoSigningKey):
        await after_restart.check()
    await after_restart.turn()
    await after_restart.check()
    after = renewed.mint(await all_keys(store), CLAIMS, at=clock.now())
    keys = await published(store, clock.now())
    assert claims_of(before.text, keys) == claims_of(after.text, keys)


async def test_a_private_key_opens_with_its_secret_alone_and_for_its_own_id(
    store: Keys, rotation: KeyRotation, seal: Seal
) -> None:
    await rotation.turn()
    [key] = await all_keys(store)
    assert signing_keys.opened(key, seal).public_key().public_bytes_raw() == key.public
    with pytest.raises(SealBroken):
        signing_keys.opened(key, Seal(b"another secret", signing_keys.PURPOSE))
    with pytest.raises(SealBroken):
        signing_keys.opened(replace(key, id="other"), seal)


async def test_a_key_is_named_by_its_thumbprint() -> None:
    """The example of RFC 8037, appendix A.3."""
    public = base64.urlsafe_b64decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo=")
    assert signing_keys._thumbprint(public) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


async def test_scopes_and_session_are_said_only_where_there_are(
    store: Keys, rotation: KeyRotation, access_tokens: AccessTokens, clock: FakeClock
) -> None:
    await rotation.turn()
    keys, published_keys = await all_keys(store), await published(store, clock.now())
    plain = claims_of(access_tokens.mint(keys, CLAIMS, at=clock.now()).text, published_keys)
    assert plain["roles"] == ["customer", "admin"]
    assert {"sid", "scopes"}.isdisjoint(plain)
    scoped = Claims("t2", "u1", (), scopes=("order:read",))
    of_key = claims_of(access_tokens.mint(keys, scoped, at=clock.now()).text, published_keys)
    assert (of_key["roles"], of_key["scopes"]) == ([], ["order:read"])


async def test_keys_are_looked_after_for_as_long_as_the_rotation_runs(
    store: Keys, seal: Seal, clock: FakeClock
) -> None:
    class Enough(Exception):
        pass

    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        clock.advance(12 * 3600)
        if len(waits) == 4:
            raise Enough

    with telemetry.captured() as lines, pytest.raises(Enough):
        await KeyRotation(store, SCHEDULE, seal, clock=clock, sleep=sleep).run()
    assert waits == [60.0] * 4
    assert len(await all_keys(store)) == 2
    assert [line["event"] for line in lines] == ["signing key made"] * 2


async def test_a_short_lead_is_looked_at_several_times(store: Keys, seal: Seal, clock: FakeClock) -> None:
    hasty = KeyRotation(store, Schedule(timedelta(seconds=4), timedelta(seconds=2)), seal, clock=clock)
    assert hasty._every_s == 1.0
