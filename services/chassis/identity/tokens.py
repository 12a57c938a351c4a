"""Access tokens: signed statements of an issuer about who somebody is (RFC 7519, RFC 9068).

Verifying an Ed25519 signature takes 170 µs, so what was verified is remembered until it expires.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import jwt

from services.chassis.identity.caller import Caller
from services.chassis.identity.keys import Keys
from services.kernel.clock import Clock
from services.kernel.recent import Recent

TOKEN_CHARS_MAX: Final = 4096  # ours have 600; a longer one is no reason to do work
REMEMBERED_MAX: Final = 4096  # some 6 MB; the oldest go first
SKEW_S: Final = 5.0  # clocks of two machines differ by less
REQUIRED: Final = ("iss", "aud", "sub", "exp", "nbf", "iat")
LIFE_MAX_S: Final = 24 * 3600.0  # an access token good for longer is a mistake of its issuer

ACCESS_TOKEN_TYPE: Final = "at+jwt"  # noqa: S105 (RFC 9068, 2.1)

_BEARER: Final = "bearer "


class BadToken(Exception):
    """The token proves nothing; the message says why, for the log and never for the caller."""


class UnknownKey(BadToken):
    """Its issuer's keys, as far as they are known here, do not include the one it is signed with."""

    def __init__(self, keys: Keys) -> None:
        super().__init__("signed with an unknown key")
        self.keys = keys


@dataclass(frozen=True, slots=True)
class Issuer:
    """Someone whose word is taken for who somebody is."""

    name: str
    """Its `iss`, to the letter."""

    audience: str
    """What its tokens for us say in `aud`."""

    keys: Keys
    algorithms: frozenset[str]

    token_type: str = ""
    """What the header must say in `typ`; empty: no matter."""

    roles_claim: str = "roles"
    """Where roles are listed; dots lead into nested objects, as in `realm_access.roles`."""

    roles: Mapping[str, str] | None = None
    """Its words for our roles; None: it uses ours."""

    user_claim: str = "sub"
    """Which claim is the id of a user of ours."""


class Tokens:
    """Verifies tokens of the issuers that are trusted."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._issuers: dict[str, Issuer] = {}
        self._verified: Recent[str, tuple[Caller, float]] = Recent(REMEMBERED_MAX)

    def trust(self, issuer: Issuer) -> None:
        """Takes this issuer's word from now on. What its keys verified is forgotten when one is withdrawn."""
        self._issuers[issuer.name] = issuer
        issuer.keys.on_withdrawal = self._verified.clear

    def verify(self, token: str) -> Caller:
        """Who the token is about. Raises BadToken; UnknownKey if asking the issuer again might help."""
        known = self._verified.get(token)
        if known is not None and self._clock.monotonic() < known[1]:
            return known[0]
        now = self._clock.now().timestamp()
        caller, expires = self._checked(token, now)
        self._verified[token] = caller, self._clock.monotonic() + expires - now
        return caller

    async def verify_patiently(self, token: str) -> Caller:
        """The same, but asks the issuer first for a key that is not known. Raises BadToken."""
        try:
            return self.verify(token)
        except UnknownKey as unknown:
            if not unknown.keys.may_look_again:
                raise
            await unknown.keys.look_again()
        return self.verify(token)

    def _checked(self, token: str, now: float) -> tuple[Caller, float]:
        if len(token) > TOKEN_CHARS_MAX:
            raise BadToken(f"{len(token)} characters long")
        issuer = self._issuer(token)
        key = _key(token, issuer)
        options: Any = {
            "require": list(REQUIRED),
            # By our own clock, below.
            **dict.fromkeys(("verify_exp", "verify_nbf", "verify_iat"), False),
        }
        try:
            claims = jwt.decode(
                token,
                key,
                algorithms=sorted(issuer.algorithms),
                audience=issuer.audience,
                issuer=issuer.name,
                options=options,
            )
        except jwt.PyJWTError as error:
            raise BadToken(str(error)) from None
        expires = _in_time(claims, now)
        return _caller(claims, issuer, token), expires

    def _issuer(self, token: str) -> Issuer:
        """Whose token it says it is; nothing is proven yet."""
        try:
            claimed = jwt.decode(token, options={"verify_signature": False}).get("iss")
        except jwt.PyJWTError as error:
            raise BadToken(str(error)) from None
        issuer = self._issuers.get(claimed) if isinstance(claimed, str) else None
        if issuer is None:
            raise BadToken("of an issuer that is not trusted")
        return issuer


def bearer(authorization: str) -> str:
    """The token in the value of an `authorization` (RFC 6750). Raises BadToken."""
    if authorization[: len(_BEARER)].lower() != _BEARER:
        raise BadToken("not a bearer token, or given twice")
    return authorization[len(_BEARER) :].strip()


def _key(token: str, issuer: Issuer) -> jwt.PyJWK:
    header = jwt.get_unverified_header(token)
    if str(header.get("alg", "")) not in issuer.algorithms:  # a forger's may be anything that JSON knows
        raise BadToken("signed in a way that its issuer does not sign")
    if issuer.token_type and str(header.get("typ", "")).lower() != issuer.token_type:
        raise BadToken("not an access token")
    if "crit" in header:
        raise BadToken("asks for extensions")
    key = issuer.keys.get(str(header.get("kid", "")))
    if key is None:
        raise UnknownKey(issuer.keys)
    return key


def _in_time(claims: Mapping[str, Any], now: float) -> float:
    """When it expires. Raises BadToken outside its time."""
    times = [claims[name] for name in ("iat", "nbf", "exp")]
    if not all(isinstance(time, int | float) and not isinstance(time, bool) for time in times):
        raise BadToken("times are not numbers")
    issued, begins, expires = times
    if now >= expires:
        raise BadToken("expired")
    if now < begins - SKEW_S or now < issued - SKEW_S:
        raise BadToken("not yet valid")
    if expires - issued > LIFE_MAX_S:
        raise BadToken("good for too long")
    return float(expires)


def _caller(claims: Mapping[str, Any], issuer: Issuer, token: str) -> Caller:
    user_id = claims.get(issuer.user_claim)
    if not isinstance(user_id, str) or not user_id:
        raise BadToken(f"no {issuer.user_claim}")
    scopes = claims.get("scopes")
    return Caller(
        user_id=user_id.lower(),
        roles=_roles(claims, issuer),
        session_id=session_id if isinstance(session_id := claims.get("sid"), str) else "",
        scopes=None if scopes is None else frozenset(_strings(scopes)),
        token=token,
    )


def _roles(claims: Mapping[str, Any], issuer: Issuer) -> frozenset[str]:
    found: Any = claims
    for name in issuer.roles_claim.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    named = _strings(found)
    if issuer.roles is None:
        return frozenset(named)
    return frozenset(issuer.roles[name] for name in named if name in issuer.roles)


def _strings(value: Any) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []
