"""Lists of API keys: a user's, newest first."""

import sqlalchemy as sa
from bodega.user.v1 import api_key_pb2 as pb

from services.chassis import wire
from services.chassis.paging import Pages
from services.chassis.storage.database import Store
from services.user import api_key_convert
from services.user.api_key_store import from_row
from services.user.store import Transaction
from services.user.tables import api_keys


class ApiKeySearch:
    """Answers ListApiKeys, beside the event loop."""

    def __init__(self, store: Store[Transaction], pages: Pages) -> None:
        self._store = store
        self._pages = pages

    async def keys(self, request: pb.ListApiKeysRequest) -> pb.ListApiKeysResponse:
        """Raises InvalidPageToken."""
        query = sa.select(api_keys).where(api_keys.c.user_id == wire.uuid_key(request.user_id))
        by = (api_keys.c.create_time, api_keys.c.api_key_id)
        page, next_page_token = await self._pages.newest_first(request, query, by, self._store.fetch)
        return pb.ListApiKeysResponse(
            api_keys=(api_key_convert.key_to_proto(from_row(row)) for row in page),
            next_page_token=next_page_token,
        )
