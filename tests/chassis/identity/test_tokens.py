"""Which tokens prove who somebody is, and which do not."""

import hashlib
import hmac
from collections.abc import Callable
from typing import Any

import pytest

from services.chassis.identity import tokens as subject
from services.chassis.identity.tokens import BadToken, UnknownKey
from services.chassis.testing import FakeClock
from tests.chassis.identity.issuer import NAME, USER, TestIssuer, rsa_key, unsigned


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def issuer(clock: FakeClock) -> TestIssuer:
    return TestIssuer(clock)


async def test_a_good_token_says_who_it_is_about(issuer: TestIssuer) -> None:
    tokens = await issuer.trusted()
    token = issuer.token(roles=["customer", "support"])
    caller = tokens.verify(token)
    assert caller.name == f"user:{USER}"
    assert caller.roles == {"customer", "support"}
    assert caller.scopes is None
    assert caller.token == token
    assert token not in repr(caller)


async def test_a_tokens_scopes_narrow_it(issuer: TestIssuer) -> None:
    tokens = await issuer.trusted()
    assert tokens.verify(issuer.token(scopes=["order:read"])).scopes == frozenset({"order:read"})
    assert tokens.verify(issuer.token(scopes=[])).scopes == frozenset(), "no scope is not every scope"


async def test_a_token_says_which_session_it_is_of(issuer: TestIssuer) -> None:
    tokens = await issuer.trusted()
    assert tokens.verify(issuer.token(sid="s1")).session_id == "s1"
    assert tokens.verify(issuer.token()).session_id == ""
    assert tokens.verify(issuer.token(sid=["s1"])).session_id == ""


def _confused(issuer: TestIssuer) -> str:
    """HS256 with the public key as the secret, which a naive verifier takes for a good signature."""
    good = unsigned({"alg": "HS256", "typ": "at+jwt", "kid": "k1"}, issuer.claims())
    signed = good.rpartition(".")[0]
    signature = hmac.digest(issuer.raw("k1"), signed.encode(), hashlib.sha256)
    return unsigned({"alg": "HS256", "typ": "at+jwt", "kid": "k1"}, issuer.claims(), signature)


def _tampered(issuer: TestIssuer) -> str:
    head, _, signature = issuer.token().split(".")
    _, claims, _ = issuer.token(roles=["admin"]).split(".")
    return f"{head}.{claims}.{signature}"


Forgery = Callable[[TestIssuer], str]

FORGERIES: dict[str, Forgery] = {
    "alg none": lambda issuer: unsigned({"alg": "none", "typ": "at+jwt", "kid": "k1"}, issuer.claims()),
    "alg None, oddly spelt": lambda issuer: unsigned(
        {"alg": "nOnE", "typ": "at+jwt", "kid": "k1"}, issuer.claims()
    ),
    "an alg that is no text": lambda issuer: unsigned(
        {"alg": ["EdDSA"], "typ": "at+jwt", "kid": "k1"}, issuer.claims()
    ),
    "no alg": lambda issuer: unsigned({"typ": "at+jwt", "kid": "k1"}, issuer.claims()),
    "the public key as an HMAC secret": _confused,
    "RS256 by a key of the forger's": lambda issuer: issuer.token(algorithm="RS256", key=rsa_key()),
    "other claims under a good signature": _tampered,
    "signed by another key of this id": lambda issuer: issuer.token(
        key=TestIssuer(issuer.clock).private["k1"]
    ),
    "no kid": lambda issuer: issuer.token(header={"kid": ""}),
    "a key that comes along": lambda issuer: issuer.token(header={"kid": "", "jwk": issuer.published["k1"]}),
    "extensions": lambda issuer: issuer.token(header={"crit": ["exp"]}),
    "another issuer": lambda issuer: issuer.token(iss="elsewhere"),
    "an issuer that is no text": lambda issuer: unsigned(
        {"alg": "EdDSA", "typ": "at+jwt", "kid": "k1"}, issuer.claims() | {"iss": ["bodega"]}
    ),
    "another audience": lambda issuer: issuer.token(aud="elsewhere"),
    "expired": lambda issuer: issuer.token(exp=int(issuer.clock.now().timestamp())),
    "not yet valid": lambda issuer: issuer.token(nbf=int(issuer.clock.now().timestamp()) + 60),
    "issued in the future": lambda issuer: issuer.token(iat=int(issuer.clock.now().timestamp()) + 60),
    "no exp": lambda issuer: issuer.token(exp=None),
    "no nbf": lambda issuer: issuer.token(nbf=None),
    "no sub": lambda issuer: issuer.token(sub=None),
    "no aud": lambda issuer: issuer.token(aud=None),
    "an exp that is no number": lambda issuer: issuer.token(exp="tomorrow"),
    "good for a year": lambda issuer: issuer.token(exp=int(issuer.clock.now().timestamp()) + 31_536_000),
    "a sub that is no text": lambda issuer: issuer.token(sub=""),
    "8 KB": lambda issuer: issuer.token(padding="x" * 8192),
    "not an access token": lambda issuer: issuer.token(header={"typ": "JWT"}),
    "no type": lambda issuer: issuer.token(header={"typ": ""}),
    "no token": lambda _issuer: "",
    "noise": lambda _issuer: "a.b.c",
    "a refresh token": lambda _issuer: "bodega_refresh_9f86d081884c7d659a2feaa0c55ad015",
}


@pytest.mark.parametrize("forge", FORGERIES.values(), ids=FORGERIES)
async def test_a_forgery_is_refused(issuer: TestIssuer, forge: Forgery) -> None:
    tokens = await issuer.trusted()
    with pytest.raises(BadToken):
        await tokens.verify_patiently(forge(issuer))


async def test_a_token_is_good_until_the_second_it_expires(issuer: TestIssuer, clock: FakeClock) -> None:
    tokens = await issuer.trusted()
    token = issuer.token()
    tokens.verify(token)
    clock.advance(899.9)
    assert tokens.verify(token).user_id == USER
    clock.advance(0.2)
    with pytest.raises(BadToken, match="expired"):
        tokens.verify(token)


async def test_what_was_verified_is_remembered_but_not_without_bounds(
    issuer: TestIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subject, "REMEMBERED_MAX", 3)
    tokens = await issuer.trusted()
    callers = [tokens.verify(issuer.token(jti=f"t-{number}")) for number in range(5)]
    assert len(tokens._verified) == 3
    assert tokens.verify(callers[4].token) is callers[4]
    assert tokens.verify(callers[0].token) is not callers[0]


async def test_a_key_that_is_not_known_yet_is_asked_for_once(issuer: TestIssuer, clock: FakeClock) -> None:
    tokens = await issuer.trusted()
    issuer.add_key("k2")
    with pytest.raises(UnknownKey):
        tokens.verify(issuer.token(key_id="k2"))
    clock.advance(10)
    assert (await tokens.verify_patiently(issuer.token(key_id="k2"))).user_id == USER
    assert issuer.fetches == 2


async def test_made_up_key_ids_do_not_make_us_ask_again_and_again(
    issuer: TestIssuer, clock: FakeClock
) -> None:
    tokens = await issuer.trusted()
    clock.advance(10)
    issuer.add_key("invented", publish=False)
    for _ in range(20):
        with pytest.raises(UnknownKey):
            await tokens.verify_patiently(issuer.token(key_id="invented"))
    assert issuer.fetches == 2


async def test_a_key_that_was_withdrawn_verifies_nothing_any_more(
    issuer: TestIssuer, clock: FakeClock
) -> None:
    keys = issuer.keys()
    await keys.look_again()
    tokens = subject.Tokens(clock)
    tokens.trust(issuer.issuer(keys))
    token = issuer.token()
    tokens.verify(token)
    issuer.add_key("k2")
    del issuer.published["k1"]
    await keys.look_again()
    with pytest.raises(BadToken):
        tokens.verify(token)


async def test_an_issuer_that_is_away_leaves_its_keys_good(issuer: TestIssuer) -> None:
    keys = issuer.keys()
    assert await keys.look_again()
    issuer.is_away = True
    assert not await keys.look_again()
    assert keys.get("k1") is not None


@pytest.mark.parametrize(
    "key_set",
    [
        b"",
        b"[]",
        b'{"keys": 5}',
        b'{"keys": [5]}',
        b'{"keys": [{"kid": "k", "kty": "OKP", "crv": "Ed25519", "x": "AA"}]}',
        b'{"keys": [{"kid": "k", "kty": "oct", "k": "c2VjcmV0", "alg": "HS256"}]}',
        b'{"keys": [{"kid": "k", "kty": "OKP", "crv": "X25519", "x": "AA"}]}',
    ],
)
async def test_a_key_set_that_makes_no_sense_gives_no_keys(issuer: TestIssuer, key_set: bytes) -> None:
    async def fetch() -> bytes:
        return key_set

    keys = issuer.keys()
    keys._fetch = fetch
    await keys.look_again()
    assert keys.get("k") is None


async def test_an_external_issuer_has_its_own_words_for_roles_and_users(clock: FakeClock) -> None:
    outside = TestIssuer(clock, "https://id.example.com")
    tokens = await outside.trusted(
        token_type="",
        roles_claim="realm_access.roles",
        roles={"shop-helpdesk": "support"},
        user_claim="bodega_user_id",
    )
    access: dict[str, Any] = {"roles": ["shop-helpdesk", "admin", 7]}
    caller = tokens.verify(outside.token(realm_access=access, bodega_user_id=USER, header={"typ": "JWT"}))
    assert caller.roles == {"support"}, "it cannot make administrators of its own accord"
    assert caller.user_id == USER
    with pytest.raises(BadToken):
        tokens.verify(outside.token(realm_access=access, sub=USER))


async def test_one_issuer_cannot_speak_for_another(clock: FakeClock) -> None:
    ours, other = TestIssuer(clock), TestIssuer(clock, "https://id.example.com")
    tokens = await ours.trusted()
    elsewhere = other.issuer()
    await elsewhere.keys.look_again()
    tokens.trust(elsewhere)
    with pytest.raises(BadToken):
        tokens.verify(other.token(iss=NAME))
