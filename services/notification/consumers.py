"""Reactions to the others' events: write down what to tell whom. Sending is the sender's."""

from typing import Any

from services.chassis import context
from services.chassis.events.consumer import Reaction
from services.chassis.events.envelope import Envelope
from services.chassis.service import Reactions
from services.kernel import ids
from services.kernel.clock import Clock
from services.notification.domain import Channel, Fact, Notification
from services.notification.store import Transaction
from services.notification.templates import TEMPLATES, Template


def reactions(*, channel: Channel, clock: Clock) -> Reactions[Transaction]:
    """To every fact that is told."""
    return {
        service: {
            event_type: telling(template, channel=channel, clock=clock)
            for event_type, template in templates.items()
        }
        for service, templates in TEMPLATES.items()
    }


def telling(template: Template, *, channel: Channel, clock: Clock) -> Reaction[Transaction]:
    """The reaction that writes a template's message down, in the transaction that notes the event as done."""

    def tell(tx: Transaction, envelope: Envelope, event: Any) -> None:
        message = template(event)
        if message is None or not message.user_id:
            return  # a fact about nobody, such as a refund of money nobody here knows the owner of
        # Derived from the event: whoever writes it down again would write down the same.
        notification_id = ids.derived("notification", envelope.id)
        fact = Fact(envelope.id, envelope.type)
        written = Notification.write(
            notification_id,
            message,
            fact,
            channel=channel,
            at=clock.now(),
            traceparent=context.traceparent(),
        )
        tx.notifications.add(written)

    return tell
