"""Lets in whom the contract names: users by their token, services of the house by their certificate.

What is refused says nothing of what there is, and never why a token was refused: that is logged.
"""

from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import Any, Final

from services.chassis import telemetry
from services.chassis.context import AUTHORIZATION, ON_BEHALF_OF, RequestContext
from services.chassis.contract import Method
from services.chassis.identity.caller import NOBODY, Caller
from services.chassis.identity.tokens import BadToken, Tokens, UnknownKey, bearer
from services.chassis.identity.workload import OPERATOR
from services.chassis.policy import access
from services.chassis.policy.access import Admitted, Rule
from services.chassis.server.gate import Context, Guard
from services.chassis.subject import subject
from services.kernel import errors
from services.kernel.errors import DomainError

_ACTING_MAX: Final = 4096

_log = telemetry.logger("access")


class InvalidToken(errors.Unauthenticated):
    """The token given is not valid; sign in again."""


class IssuerAway(errors.Unavailable):
    """Who you are cannot be verified right now."""


class Access:
    """The gate. `workload_of` names the service at the other end of a connection; empty if it is none."""

    def __init__(self, tokens: Tokens, workload_of: Callable[[Context], str]) -> None:
        self._tokens = tokens
        self._workload_of = workload_of

    def guard(self, method: Method) -> Guard:
        rule, workload_of = access.rule(method), self._workload_of

        def admitted(request: Any, call: RequestContext, context: Context) -> Awaitable[None] | None:
            authorization = call.metadata.get(AUTHORIZATION)
            # Asking the connection costs as much as all the rest: only where the answer can matter.
            workload = workload_of(context) if rule.workloads or authorization is None else ""
            if authorization is None:
                _admit(rule, request, call, NOBODY, workload)
                return None
            try:
                user = self._user(authorization)
            except UnknownKey as unknown:
                if unknown.keys.may_look_again:
                    return self._patiently(rule, request, call, workload)
                user = _unproven(rule, unknown, workload)
            except BadToken as bad:
                user = _unproven(rule, bad, workload)
            _admit(rule, request, call, user, workload)
            return None

        return admitted

    async def _patiently(self, rule: Rule, request: Any, call: RequestContext, workload: str) -> None:
        try:
            user = await self._tokens.verify_patiently(bearer(call.metadata[AUTHORIZATION]))
        except BadToken as bad:
            user = _unproven(rule, bad, workload)
        _admit(rule, request, call, user, workload)

    def _user(self, authorization: str) -> Caller:
        return self._tokens.verify(bearer(authorization))


class Everyone:
    """Lets in everybody, as nobody: for contracts of others, which say nothing of access, and for tests."""

    def guard(self, method: Method) -> None:
        del method


def _unproven(rule: Rule, bad: BadToken, workload: str) -> Caller:
    """Where nobody is asked, or a service asks in its own right, a token that proves nothing is no matter."""
    _log.info("token refused", why=str(bad))
    if rule.public or workload in rule.workloads:
        return NOBODY
    if isinstance(bad, UnknownKey) and bad.keys.is_empty:
        raise IssuerAway  # a good token must not be called bad for that
    raise InvalidToken


def _admit(rule: Rule, request: Any, call: RequestContext, user: Caller, workload: str) -> None:
    try:
        quality = rule.admit(request, user, workload)
    except DomainError as refused:
        # Who they are is known for the audit trail all the same.
        call.caller = user if user.name else _acting(workload, "", "")
        call.must_own = isinstance(refused, access.NotFound)
        raise
    if quality is Admitted.AS_WORKLOAD:
        asked_for = user.name or call.metadata.get(ON_BEHALF_OF, "")
        call.caller = _acting(workload, asked_for, user.token)
        if workload == OPERATOR and rule.changes:
            call.act = subject(request)
    else:
        call.caller = user
        call.must_own = quality is Admitted.IF_OWNER
        call.is_guest = quality is Admitted.AS_GUEST
        if quality is Admitted.AS_STAFF and rule.changes:
            call.act = subject(request)


@lru_cache(_ACTING_MAX)
def _acting(workload: str, on_behalf_of: str, token: str) -> Caller:
    return Caller(workload=workload, on_behalf_of=on_behalf_of, token=token)
