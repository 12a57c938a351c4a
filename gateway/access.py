"""Who asks, and whether the contract lets them: the same rules that every service applies again behind us.

What the edge cannot know, whose the thing addressed is, the service finds out. A request that the edge
refuses never reaches one.
"""

from gateway.api_keys import ApiKeys
from gateway.errors import malformed
from gateway.headers import Incoming
from services.chassis import telemetry
from services.chassis.context import AUTHORIZATION
from services.chassis.identity.caller import NOBODY, Caller
from services.chassis.identity.tokens import BadToken, Tokens, UnknownKey, bearer
from services.chassis.policy.access import NotSignedIn, Rule
from services.chassis.server.access import InvalidToken, IssuerAway
from services.kernel import errors

_OUTSIDE = ""  # whoever comes by HTTP is no service of the house

_log = telemetry.logger("access")


class NoApiKeys(errors.Unauthenticated):
    """API keys are not taken here."""


class Access:
    """Knows callers by their tokens and API keys, and what each route asks of them."""

    def __init__(self, tokens: Tokens, api_keys: ApiKeys | None) -> None:
        self._tokens = tokens
        self._api_keys = api_keys

    async def caller(self, incoming: Incoming, rule: Rule) -> Caller:
        """Who asks; what proves it is on its way to the backend. Raises Refusal or Unauthenticated.

        Where everyone may ask, what proves nothing is no matter: it is taken off. (A client whose token has
        expired must be able to get the next one.)
        """
        if incoming.api_key is None and incoming.authorization is None:
            return NOBODY
        try:
            return await self._known(incoming)
        except UnknownKey as unknown:
            if unknown.keys.is_empty and not rule.public:
                raise IssuerAway from None  # a good token must not be called bad for that
            return self._unproven(incoming, rule, unknown)
        except (BadToken, errors.Unauthenticated) as bad:
            return self._unproven(incoming, rule, bad)

    def admit_early(self, rule: Rule, caller: Caller) -> None:
        """Refuses whoever may not ask, whatever they ask for. Raises DomainError."""
        if rule.public:
            return
        if not caller.name:
            raise NotSignedIn
        if rule.owner is None:
            rule.admit(None, caller, _OUTSIDE)

    def admit(self, rule: Rule, request: object, caller: Caller) -> None:
        """The same, now that it is known what for. Raises DomainError."""
        if rule.owner is not None:
            rule.admit(request, caller, _OUTSIDE)

    def _unproven(self, incoming: Incoming, rule: Rule, bad: BadToken | errors.Unauthenticated) -> Caller:
        if isinstance(bad, BadToken):
            _log.info("token refused", why=str(bad))
            bad = InvalidToken()
        if not rule.public:
            raise bad from None
        incoming.metadata.replace(AUTHORIZATION, None)
        return NOBODY

    async def _known(self, incoming: Incoming) -> Caller:
        if incoming.api_key is None:
            given = (incoming.authorization or b"").decode("latin-1")
            return await self._tokens.verify_patiently(bearer(given))
        if incoming.authorization is not None:
            raise malformed("X-API-Key", "is given beside Authorization; give one of them")
        if self._api_keys is None:
            raise NoApiKeys
        token = await self._api_keys.token(incoming.api_key.decode("latin-1"))
        incoming.metadata.replace(AUTHORIZATION, f"Bearer {token}")
        return await self._tokens.verify_patiently(token)
