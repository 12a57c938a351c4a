"""Carries the sandbox's webhooks to the payment service's own handler, signed and until they are taken.

Not over the network: the sandbox lives in the payment process and knows no address. Late, doubled and
repeated they are all the same.
"""

import asyncio
import json
import random
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Final

from services.chassis import telemetry
from services.chassis.policy.backoff import Backoff
from services.kernel.clock import Clock
from services.payment.sandbox import Sandbox
from services.payment.sandbox_webhooks import Webhook
from services.payment.webhook import Signed, sign

Deliver = Callable[[Signed, bytes], Awaitable[None]]
"""Takes a webhook. Whatever it raises, the webhook comes again."""

LOOK_EVERY_S: Final = 0.5  # how long one that was put off may wait beyond its time
BACKOFF: Final = Backoff(first_s=0.1, max_s=30.0)
TRIES_MAX: Final = 12  # some minutes; after that the comparison of books has to do

_log = telemetry.logger("payment.sandbox")


class Courier:
    """Works for as long as `run` runs."""

    def __init__(
        self,
        sandbox: Sandbox,
        deliver: Deliver,
        *,
        key: bytes,
        clock: Clock,
        random: Callable[[], float] = random.random,
    ) -> None:
        self._sandbox = sandbox
        self._deliver = deliver
        self._key = key
        self._clock = clock
        self._random = random

    async def run(self) -> None:
        """Never returns; errors end it and are its owner's to log and start again."""
        while True:
            self._sandbox.webhooks_wait.clear()
            await self.deliver_due()
            try:
                async with asyncio.timeout(LOOK_EVERY_S):
                    await self._sandbox.webhooks_wait.wait()
            except TimeoutError:
                continue

    async def deliver_due(self) -> int:
        """Sends each webhook that is due, once; how many that was."""
        now = self._clock.now()
        due = await self._sandbox.books.read(lambda books: books.post.due(now=now))
        for webhook in due:
            await self._send(webhook)
        return len(due)

    async def _send(self, webhook: Webhook) -> None:
        await self._sandbox.books.write(lambda books: books.catch_up(webhook))
        body = json.dumps({"type": webhook.type, "data": {"authorization": webhook.authorization}}).encode()
        signed = sign(self._key, id=webhook.id, at=self._clock.now(), body=body)
        try:
            await self._deliver(signed, body)
        except Exception as error:  # noqa: BLE001 (why it was not taken is not the sender's business)
            await self._not_taken(webhook, error)
        else:
            await self._sandbox.books.write(lambda books: books.post.sent(webhook))
            if webhook.times > 1:
                self._sandbox.webhooks_wait.set()

    async def _not_taken(self, webhook: Webhook, error: Exception) -> None:
        failures = webhook.failures + 1
        _log.info("webhook not taken", type=webhook.type, failures=failures, error=type(error).__name__)
        if failures >= TRIES_MAX:
            await self._sandbox.books.write(lambda books: books.post.drop(webhook))
            return
        until = self._clock.now() + timedelta(seconds=BACKOFF.delay_s(failures, self._random))
        await self._sandbox.books.write(lambda books: books.post.put_off(webhook, until))
