"""Contract ⇄ domain, pure."""

from datetime import datetime
from typing import Final

from bodega.notification.v1 import notification_pb2 as pb
from google.protobuf.timestamp_pb2 import Timestamp

from services.notification.domain import Channel, Notification, State

_STATES: Final = {
    State.PENDING: pb.Notification.STATE_PENDING,
    State.SENT: pb.Notification.STATE_SENT,
    State.PARKED: pb.Notification.STATE_PARKED,
}
_CHANNELS: Final = {
    Channel.CONSOLE: pb.Notification.CHANNEL_CONSOLE,
    Channel.EMAIL: pb.Notification.CHANNEL_EMAIL,
}


def notification_to_proto(notification: Notification) -> pb.Notification:
    message, fact = notification.message, notification.fact
    return pb.Notification(
        notification_id=notification.id,
        user_id=message.user_id,
        event_type=fact.event_type,
        event_id=fact.event_id,
        order_id=message.order_id,
        title=message.title,
        body=message.body,
        channel=_CHANNELS[notification.channel],
        state=_STATES[notification.state],
        problem=notification.problem if notification.state is State.PARKED else "",
        create_time=_timestamp(notification.created_at),
        sent_time=_timestamp(notification.sent_at) if notification.sent_at else None,
    )


def _timestamp(at: datetime) -> Timestamp:
    made = Timestamp()
    made.FromDatetime(at)
    return made
