"""Lists of payment methods, payments and transactions, beside the event loop."""

from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter

import sqlalchemy as sa
from bodega.payment.v1 import payment_pb2 as pb

from services.chassis import wire
from services.chassis.identity.ownership import must_own
from services.chassis.paging import Cursor, Pages
from services.chassis.storage.database import Store
from services.payment import convert
from services.payment.domain import Operation
from services.payment.method_store import from_row
from services.payment.refusals import PaymentNotFound
from services.payment.store import Transaction, operation_from_row, payment_from_row
from services.payment.tables import REMAINING, operations, payment_methods, payments


class Queries:
    """Answers the RPCs that list."""

    def __init__(self, store: Store[Transaction], pages: Pages) -> None:
        self._store = store
        self._pages = pages

    async def methods(self, request: pb.ListPaymentMethodsRequest) -> pb.ListPaymentMethodsResponse:
        """Newest first. Raises InvalidPageToken."""
        table = payment_methods
        query = sa.select(table).where(table.c.user_id == wire.uuid_key(request.user_id), REMAINING)
        by = (table.c.create_time, table.c.payment_method_id)
        page, next_page_token = await self._pages.newest_first(request, query, by, self._store.fetch)
        return pb.ListPaymentMethodsResponse(
            payment_methods=(convert.method_to_proto(from_row(row)) for row in page),
            next_page_token=next_page_token,
        )

    async def payments(self, request: pb.ListPaymentsRequest) -> pb.ListPaymentsResponse:
        """Newest first, tombstones left out. Raises InvalidPageToken."""
        query = sa.select(payments).where(payments.c.payment_id.is_not(None))
        if request.user_id:
            query = query.where(payments.c.user_id == wire.uuid_key(request.user_id))
        if state := convert.state_from_proto(request.state):
            query = query.where(payments.c.state == str(state))
        by = (payments.c.create_time, payments.c.order_id)
        page, next_page_token = await self._pages.newest_first(request, query, by, self._store.fetch)
        asked = await self._operations_of([row["order_id"] for row in page])
        found = (payment_from_row(row, asked.get(row["order_id"], ())) for row in page)
        return pb.ListPaymentsResponse(
            payments=map(convert.payment_to_proto, found), next_page_token=next_page_token
        )

    async def _operations_of(self, order_ids: Sequence[str]) -> dict[str, tuple[Operation, ...]]:
        query = sa.select(operations).where(operations.c.order_id.in_(order_ids))
        rows = await self._store.fetch(query.order_by(operations.c.order_id, operations.c.number))
        return {
            order_id: tuple(map(operation_from_row, group))
            for order_id, group in groupby(rows, itemgetter("order_id"))
        }

    async def transactions(self, request: pb.ListTransactionsRequest) -> pb.ListTransactionsResponse:
        """Oldest first. Raises PaymentNotFound and InvalidPageToken."""
        payment_id = wire.uuid_key(request.payment_id)
        cursor = self._pages.begin(request)
        payment = await self._store.read(lambda tx: tx.payments.get(payment_id))
        must_own(payment.user_id, PaymentNotFound(payment=payment_id))
        query = sa.select(operations).where(operations.c.order_id == payment.order_id)
        if cursor is not None:
            query = query.where(operations.c.number > cursor[0])
        query = query.order_by(operations.c.number).limit(self._pages.size(request) + 1)
        page, next_page_token = self._pages.cut(request, await self._store.fetch(query), _operation_key)
        return pb.ListTransactionsResponse(
            transactions=(convert.transaction_to_proto(payment_id, operation_from_row(row)) for row in page),
            next_page_token=next_page_token,
        )


def _operation_key(row: sa.RowMapping) -> Cursor:
    return [row["number"]]
