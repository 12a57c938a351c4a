"""Lists of orders and of what happened to them, read beside the writer."""

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa
from bodega.order.v1 import order_pb2 as pb

from services.chassis import wire
from services.chassis.paging import Cursor, Pages
from services.chassis.storage.database import Store
from services.order import convert, projection, refusals
from services.order.store import Transaction, stored_event
from services.order.tables import order_events, order_lines, orders


class Queries:
    """Answers the list RPCs."""

    def __init__(self, store: Store[Transaction], pages: Pages) -> None:
        self._store = store
        self._pages = pages

    async def orders(self, request: pb.ListOrdersRequest) -> pb.ListOrdersResponse:
        """Newest first. Raises InvalidPageToken."""
        found = sa.select(orders).order_by(orders.c.create_time.desc(), orders.c.order_id.desc())
        if request.user_id:
            found = found.where(orders.c.user_id == wire.uuid_key(request.user_id))
        if state := convert.state_from_proto(request.state):
            found = found.where(orders.c.state == str(state))
        if request.HasField("created_after"):
            found = found.where(orders.c.create_time >= request.created_after.ToMicroseconds())
        if request.HasField("created_before"):
            found = found.where(orders.c.create_time < request.created_before.ToMicroseconds())
        if cursor := self._pages.begin(request):
            found = found.where(sa.tuple_(orders.c.create_time, orders.c.order_id) < _key(cursor))
        rows, token = await self._page(request, found, "create_time")
        return pb.ListOrdersResponse(orders=await self._shown(rows), next_page_token=token)

    async def stuck(self, request: pb.ListStuckOrdersRequest) -> pb.ListStuckOrdersResponse:
        """Longest waiting first. Raises InvalidPageToken."""
        found = (
            sa.select(orders)
            .where(orders.c.needs_attention, orders.c.under_way)
            .order_by(orders.c.update_time, orders.c.order_id)
        )
        if cursor := self._pages.begin(request):
            found = found.where(sa.tuple_(orders.c.update_time, orders.c.order_id) > _key(cursor))
        rows, token = await self._page(request, found, "update_time")
        return pb.ListStuckOrdersResponse(orders=await self._shown(rows), next_page_token=token)

    async def history(
        self, request: pb.ListOrderEventsRequest, *, buyer: str = ""
    ) -> pb.ListOrderEventsResponse:
        """Oldest first, as this buyer is shown it if one is given.

        Raises refusals.OrderNotFound or InvalidPageToken.
        """
        after = self._pages.begin(request) or [0]
        rows = await self._store.fetch(
            sa.select(order_events)
            .where(
                order_events.c.stream_id == wire.uuid_key(request.order_id), order_events.c.version > after[0]
            )
            .order_by(order_events.c.version)
            .limit(self._pages.size(request) + 1)
        )
        if not rows and after == [0]:
            raise refusals.OrderNotFound(order_id=request.order_id)
        page, token = self._pages.cut(request, rows, lambda row: [row["version"]])
        return pb.ListOrderEventsResponse(
            events=[convert.event_to_proto(stored_event(row), buyer=buyer) for row in page],
            next_page_token=token,
        )

    async def _page(
        self, request: Any, found: sa.Select[Any], sorted_by: str
    ) -> tuple[Iterable[sa.RowMapping], str]:
        rows = await self._store.fetch(found.limit(self._pages.size(request) + 1))

        def key(row: sa.RowMapping) -> Cursor:
            return [row[sorted_by], row["order_id"]]

        return self._pages.cut(request, rows, key)

    async def _shown(self, rows: Iterable[sa.RowMapping]) -> list[pb.Order]:
        rows = list(rows)
        lines: dict[str, list[sa.RowMapping]] = {row["order_id"]: [] for row in rows}
        for line in await self._store.fetch(
            sa.select(order_lines)
            .where(order_lines.c.order_id.in_(list(lines)))
            .order_by(order_lines.c.order_id, order_lines.c.line)
        ):
            lines[line["order_id"]].append(line)
        return [projection.shown(row, lines[row["order_id"]]) for row in rows]


def _key(cursor: Cursor) -> sa.Tuple:
    return sa.tuple_(*(sa.literal(part) for part in cursor))
