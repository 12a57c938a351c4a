"""The port behind which payment providers stand.

Every operation has a key: asked again with the same key, a provider does nothing more and gives the same
answer. An answer is Done or Refused. Anything else that a call ends with, whatever it is, means that the
operation may have happened: ask again, with the same key.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from services.kernel.money import Money
from services.payment.domain import Answer, Standing
from services.payment.methods import Card


class ProviderSilent(Exception):
    """The provider did not answer, or not in a way that tells anything."""


@dataclass(frozen=True, slots=True)
class Change:
    """One authorization that moved in the provider's books."""

    standing: Standing
    cursor: str
    """Where the next look begins once this one was seen."""


class Provider(Protocol):
    """A payment provider. Raises ProviderSilent, TimeoutError or OSError when it does not answer."""

    @property
    def name(self) -> str:
        """As payment methods remember it, e.g. `sandbox`."""

    async def describe(self, token: str) -> Card:
        """What a token stands for. Raises ProviderTokenRefused for one it does not know."""

    async def authorize(self, key: str, *, payment_id: str, token: str, amount: Money) -> Answer:
        """Holds the amount. Done's reference names the authorization from then on; Refused is a decline."""

    async def capture(self, key: str, *, authorization: str, amount: Money) -> Answer:
        """Takes what is held."""

    async def void(self, key: str, *, authorization: str) -> Answer:
        """Gives up what is held. Refused if it was taken."""

    async def refund(self, key: str, *, authorization: str, amount: Money) -> Answer:
        """Gives back of what was taken. Refused if that is more than is left."""

    def about(self, webhook: bytes) -> str:
        """The authorization that the body of a webhook is about. Raises WebhookMalformed."""

    async def standing(self, authorization: str) -> Standing:
        """How an authorization stands now."""

    async def changes(self, after: str) -> Sequence[Change]:
        """What changed after the cursor, oldest change first; an empty cursor begins at the first."""

    async def ready(self) -> None:
        """Returns if it takes operations right now; for readiness checks."""
