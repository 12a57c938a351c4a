"""What came back of orders, in and out of a transaction."""

from typing import Final

import sqlalchemy as sa

from services.chassis.storage.session import Session
from services.chassis.storage.statement import Statement
from services.inventory import stored
from services.inventory.returns import REFUSALS, Return, ReturnedLine
from services.inventory.tables import return_lines, returns
from services.kernel.clock import from_micros, to_micros

_LINE: Final = ("product_id", "origin_id", "warehouse_id", "quantity")

_FIND = Statement(
    sa.select(returns).where(
        returns.c.order_id == sa.bindparam("order_id"), returns.c.return_id == sa.bindparam("return_id")
    )
)
_LINES = Statement(
    sa.select(return_lines).where(
        return_lines.c.order_id == sa.bindparam("order_id"),
        return_lines.c.return_id == sa.bindparam("return_id"),
    )
)
_ADD = Statement(
    sa.insert(returns).values({column.name: sa.bindparam(column.name) for column in returns.columns})
)
_ADD_LINE = Statement(
    sa.insert(return_lines).values(
        {column.name: sa.bindparam(column.name) for column in return_lines.columns}
    )
)


class Returns:
    """What came back, in one transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def find(self, order_id: str, return_id: str) -> Return | None:
        """The return of this name, if the order ever asked for it."""
        row = self._session.one(_FIND, order_id=order_id, return_id=return_id)
        if row is None:
            return None
        lines = self._session.all(_LINES, order_id=order_id, return_id=return_id)
        return Return(
            order_id=order_id,
            return_id=return_id,
            wants=stored.wants_from(row["wants"]),
            at=from_micros(row["create_time"]),
            lines=tuple(ReturnedLine(*(line[name] for name in _LINE)) for line in lines),
            refusal=stored.refusal_from(row["refusal"], REFUSALS),
        )

    def add(self, made: Return) -> None:
        """Writes it down for ever. Its movements and events belong to the reservation."""
        key = {"order_id": made.order_id, "return_id": made.return_id}
        self._session.run(
            _ADD,
            **key,
            wants=stored.wants_text(made.wants),
            refusal=stored.refusal_text(made.refusal),
            create_time=to_micros(made.at),
        )
        self._session.many(
            _ADD_LINE, [{**key, **{name: getattr(line, name) for name in _LINE}} for line in made.lines]
        )
