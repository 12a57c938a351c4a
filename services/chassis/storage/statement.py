"""SQL built with SQLAlchemy Core, compiled once per dialect and run on the driver's own connection.

Executing through Core costs four times as much as the statement itself; building and compiling happens
once per program here. The price: values must be what the driver takes as they are (int, str, bytes, bool,
float, None), which is why time is stored as microseconds and money as minor units.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Final

import sqlalchemy as sa

# SQLite took `ON CONFLICT` from PostgreSQL, and SQLAlchemy compiles this construct for both.
from sqlalchemy.dialects.postgresql import insert

__all__ = ["Statement", "insert"]

# Types whose Python values the drivers take and give as they are; others would be converted by Core, whom
# we leave out when executing.
_PLAIN: Final = (sa.Integer, sa.String, sa.LargeBinary, sa.Boolean, sa.Float, sa.types.NullType)

LENGTHS_MAX: Final = 256
"""Renderings of one statement that are kept; lists are pages and baskets, seldom longer than this."""


@dataclass(frozen=True, slots=True)
class _Compiled:
    sql: str
    required: frozenset[str]
    literals: dict[str, object]
    values: Callable[[Mapping[str, object]], Any]
    """From parameters by name to what the driver binds."""

    expanding: "_Expanding | None"
    """If there are lists (`IN`), whose SQL depends on their lengths."""


class _Expanding:
    """A statement with lists, by their lengths: rendering it takes longer than running it."""

    def __init__(self, compiled: Any, lists: Sequence[str]) -> None:
        self._compiled = compiled
        self._lists = lists
        self._rendered: dict[tuple[int, ...], Any] = {}

    def bound(self, params: Mapping[str, Any]) -> tuple[str, Any]:
        lengths = tuple([len(params[name]) for name in self._lists])
        state = self._rendered.get(lengths)
        if state is None:
            if len(self._rendered) >= LENGTHS_MAX:
                self._rendered.clear()
            state = self._rendered[lengths] = self._compiled.construct_expanded_state(params)
        values = dict(params)
        for name in self._lists:
            values.update(zip(state.parameter_expansion[name], params[name], strict=True))
        order = state.positiontup
        return state.statement, tuple([values[name] for name in order]) if order is not None else values


class Statement:
    """One SQL statement with named parameters: `sa.bindparam("order_id")`, and the columns of an insert.

    Raises TypeError when a parameter has a type that Core would have to convert.
    """

    __slots__ = ("_clause", "_compiled")

    def __init__(self, clause: sa.Executable) -> None:
        self._clause = clause
        self._compiled: dict[str, _Compiled] = {}

    def bound(self, dialect: sa.Dialect, params: Mapping[str, object]) -> tuple[str, Any]:
        """The SQL for this dialect and the parameters to run it with.

        Raises TypeError for missing and for unknown parameters.
        """
        compiled = self._compiled.get(dialect.name) or self._compile(dialect)
        if len(params) != len(compiled.required):
            raise _mismatch(compiled, params)
        try:
            values = {**compiled.literals, **params}
            if compiled.expanding is not None:
                return compiled.expanding.bound(values)
            return compiled.sql, compiled.values(values)
        except KeyError:
            raise _mismatch(compiled, params) from None

    def _compile(self, dialect: sa.Dialect) -> _Compiled:
        compiled: Any = self._clause.compile(dialect=dialect)  # type: ignore[attr-defined]
        required, literals, lists = set(), {}, []
        for name, bind in ((compiled.bind_names[bind], bind) for bind in compiled.bind_names):
            if not isinstance(bind.type, _PLAIN):
                raise TypeError(f"parameter {name}: {bind.type!r} is not a type the driver takes as it is")
            if bind.expanding:
                lists.append(name)
            if bind.required:
                required.add(name)
            else:
                literals[name] = bind.effective_value
        made = _Compiled(
            sql=str(compiled),
            required=frozenset(required),
            literals=literals,
            values=_in_order(compiled.positiontup or ()) if dialect.positional else dict,
            expanding=_Expanding(compiled, lists) if lists else None,
        )
        self._compiled[dialect.name] = made
        return made


def _in_order(names: Sequence[str]) -> Callable[[Mapping[str, object]], tuple[object, ...]]:
    """Drivers bind by place several times faster than by name."""
    match names:
        case []:
            return lambda _: ()
        case [name]:
            return lambda params: (params[name],)
        case _:
            return itemgetter(*names)


def _mismatch(compiled: _Compiled, params: Mapping[str, object]) -> TypeError:
    return TypeError(f"parameters {sorted(params)} given, {sorted(compiled.required)} wanted")
