"""Lists of accounts: newest first, by state and by how the e-mail address begins."""

from typing import Any

import sqlalchemy as sa
from bodega.user.v1 import user_pb2 as pb

from services.chassis.paging import Pages
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
        by = (users.c.create_time, users.c.user_id)
        page, next_page_token = await self._pages.newest_first(
            request, _found(request), by, self._store.fetch
        )
        return pb.ListUsersResponse(
            users=(convert.user_to_proto(from_row(row)) for row in page), next_page_token=next_page_token
        )


def _found(request: pb.ListUsersRequest) -> sa.Select[Any]:
    query = sa.select(users)
    state = convert.state_from_proto(request.state)
    if state is not None:
        query = query.where(users.c.state == str(state))
    if request.email_prefix:
        query = query.where(users.c.email_key.startswith(request.email_prefix.casefold(), autoescape=True))
    return query
