"""Lists of accounts: newest first, by state and by how the e-mail address begins."""

from typing import Any

import sqlalchemy as sa
from bodega.user.v1 import user_pb2 as pb

from services.chassis.paging import Cursor, Pages
from services.chassis.storage.database import Store
from services.user import convert
from services.user.store import Transaction, from_row
from services.user.tables import users


class Search:
    """Answers ListUsers, beside the event loop."""

    def __init__(self, store: Store[Transaction], pages: Pages) -> None:
        self._store = store
        self._pages = pages

    async def users(self, request: pb.ListUsersRequest) -> pb.ListUsersResponse:
        """Raises InvalidPageToken."""
        rows = await self._store.fetch(_found(request, self._pages))
        page, next_page_token = self._pages.cut(request, rows, _key)
        return pb.ListUsersResponse(
            users=(convert.user_to_proto(from_row(row)) for row in page), next_page_token=next_page_token
        )


def _found(request: pb.ListUsersRequest, pages: Pages) -> sa.Select[Any]:
    query = sa.select(users)
    state = convert.state_from_proto(request.state)
    if state is not None:
        query = query.where(users.c.state == str(state))
    if request.email_prefix:
        query = query.where(users.c.email_key.startswith(request.email_prefix.casefold(), autoescape=True))
    position = sa.tuple_(users.c.create_time, users.c.user_id)
    cursor = pages.begin(request)
    if cursor is not None:
        query = query.where(position < sa.tuple_(*cursor))
    newest_first = (users.c.create_time.desc(), users.c.user_id.desc())
    return query.order_by(*newest_first).limit(pages.size(request) + 1)


def _key(row: sa.RowMapping) -> Cursor:
    return [row["create_time"], row["user_id"]]
