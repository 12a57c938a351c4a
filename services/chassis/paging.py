"""Pages of lists: opaque tokens that say where the next page begins (AIP-158).

A token is good for one search, for 24 hours, and only if this service made it: it carries the digest of the
request it continues and an HMAC over all of it. It holds sort keys, never anything the caller could not see.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any, Final, Protocol, TypeVar

import orjson
import sqlalchemy as sa
from google.protobuf.message import Message

from services.kernel import errors
from services.kernel.clock import Clock, to_micros

T = TypeVar("T")

PAGE_SIZE_DEFAULT: Final = 50
PAGE_SIZE_MAX: Final = 200  # larger wishes are served with this many, as AIP-158 asks
TOKEN_LIFE: Final = timedelta(hours=24)

_SEARCH_BYTES: Final = (
    8  # of the digest: a token is checked against accidents here, against forgery by the HMAC
)
_MAC_BYTES: Final = 16

Cursor = list[str | int]
Fetch = Callable[[sa.Select[Any]], Awaitable[Sequence[sa.RowMapping]]]
"""A store's `fetch`."""


class InvalidPageToken(errors.Invalid):
    """page_token is not one of this search's, or it is older than 24 hours; begin again without it."""

    field = "page_token"


class ListRequest(Protocol):
    """As much of a list request as paging needs."""

    page_size: int
    page_token: str


class Pages:
    """Makes and reads the page tokens of one service."""

    def __init__(self, secret: bytes, *, clock: Clock) -> None:
        self._secret = hmac.digest(secret, b"page tokens", hashlib.sha256)
        self._clock = clock

    def size(self, request: ListRequest) -> int:
        """How many to return at most. Fetch one more, so that `cut` sees whether there is a next page."""
        return min(request.page_size or PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX)

    def begin(self, request: ListRequest) -> Cursor | None:
        """The sort key of the last row of the page before; None for the first page.

        Raises InvalidPageToken for a token that is made up, expired, or of another search.
        """
        if not request.page_token:
            return None
        try:
            padded = request.page_token + "=" * (-len(request.page_token) % 4)
            sealed = base64.b64decode(padded, altchars=b"-_", validate=True)
            mac, body = sealed[:_MAC_BYTES], sealed[_MAC_BYTES:]
            if not hmac.compare_digest(mac, self._mac(body)):
                raise InvalidPageToken
            search, made_micros, cursor = orjson.loads(body)
        except (binascii.Error, ValueError):
            raise InvalidPageToken from None
        age_micros = to_micros(self._clock.now()) - made_micros
        if search != _search(request) or age_micros > TOKEN_LIFE // timedelta(microseconds=1):
            raise InvalidPageToken
        return list(cursor)

    def cut(
        self, request: ListRequest, rows: Sequence[T], key: Callable[[T], Cursor]
    ) -> tuple[Sequence[T], str]:
        """Of `size` + 1 rows or fewer: those of this page, and the token of the next (empty on the last).

        `key` gives the sort key of a row, the one that `begin` will return.
        """
        size = self.size(request)
        if len(rows) <= size:
            return rows, ""
        page = rows[:size]
        return page, self._token(request, key(page[-1]))

    async def newest_first(
        self, request: ListRequest, query: sa.Select[Any], by: Sequence[sa.Column[Any]], fetch: Fetch
    ) -> tuple[Sequence[sa.RowMapping], str]:
        """A page of a query, sorted downwards by columns that together are unique. Raises as `begin` does."""
        cursor = self.begin(request)
        if cursor is not None:
            query = query.where(sa.tuple_(*by) < sa.tuple_(*cursor))
        downwards = (column.desc() for column in by)
        rows = await fetch(query.order_by(*downwards).limit(self.size(request) + 1))
        return self.cut(request, rows, lambda row: [row[column.name] for column in by])

    def _token(self, request: ListRequest, cursor: Cursor) -> str:
        body = orjson.dumps([_search(request), to_micros(self._clock.now()), cursor])
        return base64.urlsafe_b64encode(self._mac(body) + body).rstrip(b"=").decode()

    def _mac(self, body: bytes) -> bytes:
        return hmac.digest(self._secret, body, hashlib.sha256)[:_MAC_BYTES]


def _search(request: ListRequest) -> str:
    """What must be equal from page to page: all of the request but the page itself."""
    assert isinstance(request, Message)
    search = type(request)()
    search.CopyFrom(request)
    search.ClearField("page_token")
    search.ClearField("page_size")
    content = search.DESCRIPTOR.full_name.encode() + search.SerializeToString(deterministic=True)
    return hashlib.sha256(content).hexdigest()[: 2 * _SEARCH_BYTES]
