"""Lists of sessions: an account's, newest first."""

from datetime import datetime

import sqlalchemy as sa
from bodega.user.v1 import session_pb2 as pb

from services.chassis import wire
from services.chassis.paging import Pages
from services.chassis.storage.database import Store
from services.kernel.clock import to_micros
from services.user import session_convert
from services.user.session_store import from_row
from services.user.store import Transaction
from services.user.tables import LIVE, sessions


class SessionSearch:
    """Answers ListSessions, beside the event loop."""

    def __init__(self, store: Store[Transaction], pages: Pages) -> None:
        self._store = store
        self._pages = pages

    async def sessions(self, request: pb.ListSessionsRequest, *, at: datetime) -> pb.ListSessionsResponse:
        """Those that have neither ended nor expired. Raises InvalidPageToken."""
        own = sessions.c.user_id == wire.uuid_key(request.user_id)
        query = sa.select(sessions).where(LIVE, own, sessions.c.expire_time > to_micros(at))
        by = (sessions.c.create_time, sessions.c.session_id)
        page, next_page_token = await self._pages.newest_first(request, query, by, self._store.fetch)
        return pb.ListSessionsResponse(
            sessions=(session_convert.session_to_proto(from_row(row)) for row in page),
            next_page_token=next_page_token,
        )
