"""What providers tell of their own accord: a hint, which makes us ask them how things stand."""

from services.chassis import telemetry
from services.chassis.storage.database import Store
from services.kernel.clock import Clock
from services.payment.domain import Standing
from services.payment.operations import Operations
from services.payment.provider import Provider
from services.payment.refusals import PaymentInProgress, PaymentNotFound
from services.payment.store import Transaction
from services.payment.webhook import Signed, WebhookSignatureInvalid, is_signed

_log = telemetry.logger("payment.webhooks")


class Webhooks:
    """Takes one provider's webhooks."""

    def __init__(
        self,
        store: Store[Transaction],
        operations: Operations,
        provider: Provider,
        *,
        key: bytes,
        clock: Clock,
    ) -> None:
        self._store = store
        self._operations = operations
        self._provider = provider
        self._key = key
        self._clock = clock

    async def take(self, provider: str, signed: Signed, body: bytes) -> None:
        """Has its effect once, however often it comes. One that is late changes nothing, or sends money back.

        Raises WebhookSignatureInvalid and WebhookMalformed; PaymentInProgress and ProviderUnavailable while
        it cannot be looked into, for it to be sent again.
        """
        now = self._clock.now()
        if provider != self._provider.name or not is_signed(self._key, signed, body, now=now):
            raise WebhookSignatureInvalid(provider=provider)
        authorization = self._provider.about(body)
        if await self._store.read(lambda tx: tx.seen.has(provider, signed.id)):
            return
        standing = await self._operations.standing(authorization)
        if await self._store.write(lambda tx: self._adopt(tx, signed.id, standing)):
            self._operations.work_waits.set()

    def _adopt(self, tx: Transaction, webhook_id: str, standing: Standing) -> bool:
        """Whether something is left to be done."""
        now = self._clock.now()
        if not tx.seen.add(self._provider.name, webhook_id, at=now):
            return False  # its twin was faster
        try:
            payment = tx.payments.get(standing.payment_id)
        except PaymentNotFound:
            _log.error("webhook about an unknown payment", payment_id=standing.payment_id)
            return False
        if payment.pending is not None:
            raise PaymentInProgress(order_id=payment.order_id)  # and nothing is kept of this webhook
        adopted = self._operations.adopt(tx, payment, standing, now=now)
        return not adopted.at_rest
