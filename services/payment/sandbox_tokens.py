"""The tokens that the sandbox provider knows, and how each behaves.

Besides those named here, `tok_<brand>_<last four>` is an approving card of that description, e.g.
`tok_amex_0005`.
"""

import re
from dataclasses import dataclass
from typing import Final

from services.payment.methods import Card

_DESCRIBED: Final = re.compile(r"tok_(visa|mastercard|amex)_([0-9]{4})")


@dataclass(frozen=True, slots=True)
class Token:
    """One behaviour."""

    card: Card
    decline_code: str = ""
    capture_code: str = ""
    """Why a capture is refused although the hold was granted."""

    is_slow: bool = False
    loses_replies: bool = False
    """Does what it is asked to, and the first answer about it gets lost."""

    webhooks: int = 0
    """How often each of its webhooks is sent."""

    captures_late: bool = False
    """Is captured all the same after it was voided, and tells so by webhook."""


_NAMED: Final = {
    "tok_approve": Token(Card("visa", "4242")),
    "tok_decline": Token(Card("visa", "0002"), decline_code="card_declined"),
    "tok_insufficient_funds": Token(Card("visa", "9995"), decline_code="insufficient_funds"),
    "tok_capture_refused": Token(Card("visa", "0259"), capture_code="authorization_expired"),
    "tok_slow": Token(Card("visa", "3220"), is_slow=True),
    "tok_duplicate_webhook": Token(Card("visa", "5556"), webhooks=2),
    "tok_late_capture": Token(
        Card("visa", "0341"), capture_code="authorization_expired", webhooks=1, captures_late=True
    ),
    "tok_lost_reply": Token(Card("visa", "9235"), loses_replies=True),
}


class Tokens:
    """Tokens by name."""

    def __contains__(self, token: object) -> bool:
        return isinstance(token, str) and (token in _NAMED or _DESCRIBED.fullmatch(token) is not None)

    def __getitem__(self, token: str) -> Token:
        if named := _NAMED.get(token):
            return named
        described = _DESCRIBED.fullmatch(token)
        if described is None:
            raise KeyError("no such token")  # which one is not said: tokens are secrets
        return Token(Card(*described.groups()))


TOKENS: Final = Tokens()
