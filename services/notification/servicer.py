"""The RPCs of messages, in proto order."""

from typing import Any

import grpc
import sqlalchemy as sa
from bodega.notification.v1 import notification_pb2 as pb
from bodega.notification.v1 import notification_pb2_grpc

from services.chassis import wire
from services.chassis.paging import Pages
from services.chassis.storage.database import Store
from services.notification import convert
from services.notification.store import Transaction, from_row
from services.notification.tables import notifications

Context = grpc.aio.ServicerContext[Any, Any]


class NotificationServicer(notification_pb2_grpc.NotificationServiceServicer):
    """Shows what people were told."""

    def __init__(self, store: Store[Transaction], pages: Pages) -> None:
        self._store = store
        self._pages = pages

    async def ListNotifications(
        self, request: pb.ListNotificationsRequest, context: Context
    ) -> pb.ListNotificationsResponse:
        query = sa.select(notifications).where(notifications.c.user_id == wire.uuid_key(request.user_id))
        by = (notifications.c.sequence,)
        page, next_page_token = await self._pages.newest_first(request, query, by, self._store.fetch)
        return pb.ListNotificationsResponse(
            notifications=(convert.notification_to_proto(from_row(row)) for row in page),
            next_page_token=next_page_token,
        )
