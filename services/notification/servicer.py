"""The RPCs of messages, in proto order."""

from typing import Any

import grpc
import sqlalchemy as sa
from bodega.notification.v1 import notification_pb2 as pb
from bodega.notification.v1 import notification_pb2_grpc

from services.chassis import wire
from services.chassis.paging import Cursor, Pages
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
        rows = await self._store.fetch(_found(request, self._pages))
        page, next_page_token = self._pages.cut(request, rows, _key)
        return pb.ListNotificationsResponse(
            notifications=(convert.notification_to_proto(from_row(row)) for row in page),
            next_page_token=next_page_token,
        )


def _found(request: pb.ListNotificationsRequest, pages: Pages) -> sa.Select[Any]:
    query = sa.select(notifications).where(notifications.c.user_id == wire.uuid_key(request.user_id))
    cursor = pages.begin(request)
    if cursor is not None:
        query = query.where(notifications.c.sequence < cursor[0])
    return query.order_by(notifications.c.sequence.desc()).limit(pages.size(request) + 1)


def _key(row: sa.RowMapping) -> Cursor:
    return [row["sequence"]]
